//! Reading a fleet: what is kept, and a process that refreshes it behind or while the reader waits.

use std::{
    fs::File,
    io,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use ops_profile::Settings;
use ops_ui::Invocation;

use super::{FRESH, FleetFile, Names, STALE, Tags, view::View};

/// The variable that turns a call of this program into a request for candidates, with the shell's
/// name as its value.
pub const VARIABLE: &str = "OPS_COMPLETE";
/// Its value for a process that refreshes the cache and does nothing else.
pub const REFRESH: &str = "refresh";
/// Its value for a process that lists a folder of a server for the cache; the last word names it.
pub const REFRESH_FOLDER: &str = "refresh-folder";
/// Asks for the open sessions to be kept.
pub const REFRESH_SESSIONS: &str = "refresh-sessions";
/// After a failure nobody asks again for so long: without credentials every key would start a
/// process in vain.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long a reader of the cache waits for a fleet that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When it has to be there.
    pub until: Instant,
}

/// The names of the fleet: at once if they are not older than ten minutes, else as soon as the
/// service has answered, or not at all.
pub fn names(invocation: &Invocation, settings: &Settings, patience: Patience) -> Option<Names> {
    part_of_fleet(invocation, settings, patience, View::names)
}

/// The tags of the fleet, as [`names`].
pub fn tags(invocation: &Invocation, settings: &Settings, patience: Patience) -> Option<Tags> {
    part_of_fleet(invocation, settings, patience, View::tags)
}

fn part_of_fleet<T>(
    invocation: &Invocation,
    settings: &Settings,
    patience: Patience,
    part: fn(View) -> Option<T>,
) -> Option<T> {
    let fleet = FleetFile::of(invocation, settings);
    if let Some(part) = view_fleet(invocation, &fleet, patience).map(part)? {
        return Some(part);
    }
    // Its head is whole and this part is not: out of the way, so that nobody takes it for
    // fresh.
    std::fs::remove_file(fleet.file()).ok()?;
    view_fleet(invocation, &fleet, patience).and_then(part)
}

fn view_fleet(invocation: &Invocation, fleet: &FleetFile, patience: Patience) -> Option<View> {
    let known = View::of(fleet, STALE);
    match known.as_ref().and_then(View::age) {
        Some(age) if age <= FRESH => return known,
        Some(_) => {
            if !fleet.is_busy() && !fleet.has_failed() {
                // Without it the fleet is shown as old as it is.
                let _ = start_refresh(invocation, REFRESH, None, Stdio::null());
            }
            return known;
        }
        None => {}
    }
    if fleet.has_failed() {
        return None;
    }
    refresh_and_wait(invocation, REFRESH, None, patience)?;
    View::of(fleet, STALE)
}

/// Starts a process that refreshes, and waits until it has ended; what it has not finished in
/// time it finishes behind.
#[cfg(unix)]
pub(super) fn refresh_and_wait(
    invocation: &Invocation,
    request: &str,
    word: Option<&str>,
    patience: Patience,
) -> Option<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (reader, writer) = io::pipe().ok()?;
    // The end of the process is the end of the pipe: the writer is closed here as soon as it
    // has been handed over.
    start_refresh(invocation, request, word, writer.into()).ok()?;
    loop {
        let left = patience.until.checked_duration_since(Instant::now())?;
        let timeout = Timespec::try_from(left).ok()?;
        match poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return None,
            Ok(_) => return Some(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(not(unix))]
pub(super) fn refresh_and_wait(
    invocation: &Invocation,
    request: &str,
    word: Option<&str>,
    patience: Patience,
) -> Option<()> {
    let mut child = start_refresh(invocation, request, word, Stdio::null()).ok()?;
    while Instant::now() < patience.until {
        if child.try_wait().ok()?.is_some() {
            return Some(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A process of its own that does what `request` says for this invocation, with `word` behind the
/// options: no terminal, none of the shell's descriptors, nothing to say.
pub(super) fn start_refresh(
    invocation: &Invocation,
    request: &str,
    word: Option<&str>,
    stdout: Stdio,
) -> io::Result<std::process::Child> {
    let globals = &invocation.globals;
    let mut command = Command::new(ops_ui::program::path()?);
    command.arg("--");
    let mut option = |name: &str, value: &std::ffi::OsStr| {
        command.arg(name).arg(value);
    };
    if let Some(name) = &globals.profile {
        option("--profile", name.as_ref());
    }
    if let Some(folders) = &globals.profiles_dir {
        option("--profiles-dir", folders);
    }
    if let Some(name) = &globals.aws_profile {
        option("--aws-profile", name.as_ref());
    }
    for region in &globals.region {
        option("--region", region.as_ref());
    }
    if globals.sandbox {
        command.arg("--sandbox");
    }
    if let Some(word) = word {
        command.arg("--").arg(word);
    }
    command
        .env_clear()
        .envs(invocation.env.iter())
        .env(VARIABLE, request)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        // What the shell has open beside the three streams, a lock perhaps, must not outlive it
        // in there.
        close_fds::set_fds_cloexec(3, &[]);
        command.current_dir("/").process_group(0);
    }
    command.spawn()
}

impl FleetFile {
    /// Whether another process is refreshing it now.
    fn is_busy(&self) -> bool {
        File::open(self.lock())
            .is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    }

    /// Whether the last refresh has failed, a moment ago.
    fn has_failed(&self) -> bool {
        std::fs::metadata(self.failure())
            .and_then(|data| data.modified())
            .is_ok_and(|at| {
                SystemTime::now()
                    .duration_since(at)
                    .is_ok_and(|age| age < AFTER_FAILURE)
            })
    }
}
