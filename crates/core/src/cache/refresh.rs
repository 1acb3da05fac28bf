//! Getting a fleet anew: in this process, or in one of its own that outlives the shell's patience.

use std::{
    fs::File,
    io,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use super::{
    FRESH, KEPT, Names, Place, STALE, Tags,
    file::{self, Head},
    key, now_ms,
    view::View,
};
use crate::{
    aws::options::AwsOptions,
    context::Context,
    error::{Error, ErrorKind, Result},
    paths::replace_private,
};

/// The variable that turns a call of this program into a request for candidates, with the shell's
/// name as its value.
pub const VARIABLE: &str = "OPS_COMPLETE";
/// Its value for a process that refreshes the cache and does nothing else.
pub const REFRESH: &str = "refresh";
/// After a failure nobody asks again for so long: without credentials every key would start a
/// process in vain.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How much longer than the list STS may take to tell the account.
const ACCOUNT_PATIENCE: Duration = Duration::from_millis(250);
/// A refresh that takes longer than this is given up.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a reader of the cache waits for a fleet that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When it has to be there.
    pub until: Instant,
}

/// What a refresh has found.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// How many instances.
    pub count: usize,
    /// The account; empty if STS did not tell.
    pub account: String,
    /// The regions that were asked.
    pub regions: Vec<String>,
    /// What the list lacks.
    pub notes: Vec<String>,
}

impl Context {
    /// The names of the fleet: at once if they are not older than ten minutes, else as soon as the
    /// service has answered, or not at all.
    pub fn fleet_names(&self, patience: Patience) -> Option<Names> {
        self.fleet_part(patience, View::names)
    }

    /// The tags of the fleet, as [`Self::fleet_names`].
    pub fn fleet_tags(&self, patience: Patience) -> Option<Tags> {
        self.fleet_part(patience, View::tags)
    }

    fn fleet_part<T>(&self, patience: Patience, part: fn(View) -> Option<T>) -> Option<T> {
        let place = self.fleet_place().ok()?;
        if let Some(part) = self.fleet_view(&place, patience).map(part)? {
            return Some(part);
        }
        // Its head is whole and this part is not: out of the way, so that nobody takes it for
        // fresh.
        std::fs::remove_file(place.file()).ok()?;
        self.fleet_view(&place, patience).and_then(part)
    }

    fn fleet_view(&self, place: &Place, patience: Patience) -> Option<View> {
        let known = View::of(place, STALE);
        match known.as_ref().and_then(View::age) {
            Some(age) if age <= FRESH => return known,
            Some(_) => {
                if !place.is_busy() && !place.has_failed() {
                    // Without it the fleet is shown as old as it is.
                    let _ = self.start_refresh(Stdio::null());
                }
                return known;
            }
            None => {}
        }
        if place.has_failed() {
            return None;
        }
        self.refresh_and_wait(patience)?;
        View::of(place, STALE)
    }

    /// Starts a process that refreshes, and waits until it has ended; what it has not finished in
    /// time it finishes behind.
    #[cfg(unix)]
    fn refresh_and_wait(&self, patience: Patience) -> Option<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let (reader, writer) = io::pipe().ok()?;
        // The end of the process is the end of the pipe: the writer is closed here as soon as it
        // has been handed over.
        self.start_refresh(writer.into()).ok()?;
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
    fn refresh_and_wait(&self, patience: Patience) -> Option<()> {
        let mut child = self.start_refresh(Stdio::null()).ok()?;
        while Instant::now() < patience.until {
            if child.try_wait().ok()?.is_some() {
                return Some(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// A process of its own that refreshes the fleet of this invocation: no terminal, none of the
    /// shell's descriptors, nothing to say.
    fn start_refresh(&self, stdout: Stdio) -> io::Result<std::process::Child> {
        let globals = self.globals();
        let mut command = Command::new(crate::program::path()?);
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
        command
            .env_clear()
            .envs(self.env().iter())
            .env(VARIABLE, REFRESH)
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

    /// Lists the fleet of this invocation and keeps it, unless another process has done so while
    /// this one waited for its turn; `None` then.
    ///
    /// # Errors
    /// Those of listing; no place to keep it.
    pub async fn refresh_fleet(&self, always: bool) -> Result<Option<Refreshed>> {
        let place = self.fleet_place()?;
        self.paths()
            .private_dir_for("the list of instances", place.folder.clone())?;
        let lock = private_file(&place).map_err(|error| {
            self.paths()
                .cannot_keep("the list of instances", &place.folder, &error)
        })?;
        // A task that blocks, so that a signal still ends the command.
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
            .await
            .map_err(|error| Error::unexpected("cannot wait for the cache").caused_by(error))??;
        if !always
            && View::of(&place, STALE)
                .and_then(|view| view.age())
                .is_some_and(|age| age <= FRESH)
        {
            return Ok(None);
        }
        let result = tokio::time::timeout(LIMIT, Box::pin(self.list_fleet(&place)))
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "the list of instances took longer than {} s",
                        LIMIT.as_secs()
                    ),
                ))
            });
        match &result {
            Ok(_) => drop(std::fs::remove_file(place.failure())),
            Err(_) => drop(replace_private(&place.failure(), b"")),
        }
        sweep(&place);
        drop(lock);
        result.map(Some)
    }

    async fn list_fleet(&self, place: &Place) -> Result<Refreshed> {
        let options = AwsOptions::of(self.invocation(), self.settings()?);
        let mut regions = key::regions(&options);
        if regions.is_empty() {
            regions.push(self.region().await?);
        }
        let created_ms = now_ms();
        let query = self.target_query()?;
        let account = async {
            let account = self
                .identity()
                .await
                .map(|identity| identity.account.clone());
            account.unwrap_or_default()
        };
        let listed = async {
            let listing = self.list(&query, &regions).await?;
            if listing.failures.is_empty() {
                Ok(listing)
            } else {
                // Half a fleet would hide the other half.
                Err(listing
                    .into_failure()
                    .unwrap_or_else(|| Error::unexpected("the instances could not be listed")))
            }
        };
        tokio::pin!(account, listed);
        let (mut listing, account) = tokio::select! {
            listing = &mut listed => {
                let account = tokio::time::timeout(ACCOUNT_PATIENCE, &mut account).await;
                (listing?, account.unwrap_or_default())
            }
            account = &mut account => (listed.await?, account),
        };
        let head = Head {
            key: place.key.clone(),
            account: account.clone(),
            profile: self.settings()?.profile_label().to_owned(),
            regions: regions.clone(),
            created_ms,
            count: u32::try_from(listing.instances.len()).unwrap_or(u32::MAX),
        };
        let bytes = file::encode(&head, &mut listing.instances)
            .ok_or_else(|| Error::unexpected("the fleet is too large to be kept"))?;
        replace_private(&place.file(), &bytes)?;
        Ok(Refreshed {
            count: listing.instances.len(),
            account,
            regions: head.regions,
            notes: listing.notes,
        })
    }
}

impl Place {
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

/// The file that is locked; it stays, empty.
fn private_file(place: &Place) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(place.lock())
}

/// Deletes what nobody has used for long: of profiles that are no more, of sandboxes that have
/// ended.
fn sweep(place: &Place) {
    let Ok(entries) = std::fs::read_dir(&place.folder) else {
        return;
    };
    for entry in entries.filter_map(std::result::Result::ok) {
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let own = entry.file_name().to_string_lossy().starts_with(&place.key);
        if !own && age.is_some_and(|age| age > KEPT) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
