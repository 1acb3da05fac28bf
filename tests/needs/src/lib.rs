//! What tests of several crates share, and nothing of the workspace is needed for.
//!
//! One policy for tests that run a program which is not part of `ops`: where the program is
//! missing, the test is shown as skipped, with its name and the program's; where `CI` is set it
//! fails, since nobody reads what a machine has skipped. `./test` installs all of them.

pub mod shells;

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
};

/// Ends the test, which is then shown as skipped, unless every one of these programs is installed.
/// A name is looked for on `PATH` and in the folders of servers (`sshd` is in `/usr/sbin`); what
/// has a slash is the path of a file.
///
/// # Panics
/// A program is missing and `CI` is set.
#[macro_export]
macro_rules! needs {
    ($($program:expr),+ $(,)?) => {
        if !$crate::are_installed(&[$($program),+]) {
            return;
        }
    };
}

/// Ends the test, which is then shown as skipped, unless it runs as root: only root can give files
/// to other users, or run as one. Not being root is no failure where `CI` is set, since nothing can
/// be installed against it.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::is_root() {
            return;
        }
    };
}

/// Whether this is root. If not, says on standard error which test is skipped; `needs_root!`
/// returns then.
#[track_caller]
#[must_use]
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        show_skipped("root");
    }
    root
}

/// Whether all of `programs` are installed. Where not, says on standard error which test is skipped
/// and why; `needs!` returns then.
///
/// # Panics
/// A program is missing and `CI` is set.
#[track_caller]
#[must_use]
pub fn are_installed(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        assert!(!is_ci(), "needs {missing}: ./test --install");
        show_skipped(&missing);
        return false;
    }
    if want_a_name(programs) && !has_a_name() {
        show_skipped("a name for this user (id -un), without which OpenSSH does nothing");
        return false;
    }
    true
}

/// Whether one of `programs` is OpenSSH's. All of those refuse a user whose number is in no user
/// database ("No user exists for uid 1000"), as that of many containers is.
fn want_a_name(programs: &[&str]) -> bool {
    let of_openssh = ["ssh", "ssh-add", "ssh-agent", "ssh-keygen", "scp", "sftp"];
    programs.iter().any(|program| of_openssh.contains(program))
}

/// Whether the user database has a name for this user.
fn has_a_name() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let asked = Command::new("id").arg("-un").output();
        // Where nobody can be asked, the test runs, and says itself what is wrong.
        asked.is_ok_and(|output| output.status.success()) || find("id").is_none()
    })
}

/// Says on standard error that the test of this thread is skipped for want of `what`.
#[track_caller]
fn show_skipped(what: &str) {
    // A test's thread has the test's name. With one thread for all it is the main one, whose name
    // says nothing.
    let place = std::panic::Location::caller();
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main").map_or_else(
        || format!("{}:{}", place.file(), place.line()),
        str::to_owned,
    );
    // Written to the stream itself, which libtest does not capture, as it does with what
    // `eprintln!` writes.
    let _ = std::io::stderr()
        .lock()
        .write_all(format!("skipped {test}: needs {what}\n").as_bytes());
}

/// Bytes that are not alike, the same every time: every value, no UTF-8, nothing that repeats soon.
#[must_use]
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}

/// Where a program is.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use super::*;

    /// Not a test of its own: the next one runs it in a process of its own.
    #[test]
    #[ignore = "run by the tests beside it"]
    fn is_skipped() {
        needs!("sh", "no-such-program", "/no/such/file");
        panic!("the test went on");
    }

    fn run_in_a_process(ci: Option<&str>) -> Output {
        let program = env::current_exe().expect("the path of this program");
        let mut command = Command::new(program);
        command.args([
            "--ignored",
            "--exact",
            "tests::is_skipped",
            "--test-threads=2",
        ]);
        command.env_remove("CI");
        if let Some(ci) = ci {
            command.env("CI", ci);
        }
        command.output().expect("it runs")
    }

    #[test]
    fn a_test_whose_program_is_missing_is_shown_as_skipped() {
        let output = run_in_a_process(None);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "skipped tests::is_skipped: needs no-such-program, /no/such/file\n"
        );
    }

    #[test]
    fn openssh_wants_a_name_for_the_user_and_others_do_not() {
        assert!(want_a_name(&["rsync", "ssh-keygen"]));
        assert!(!want_a_name(&["rsync", "sh"]));
    }

    /// Which user has no name, only root can try. The referee is OpenSSH.
    #[test]
    fn without_a_name_a_test_of_ssh_is_shown_as_skipped() {
        needs_root!();
        needs!("ssh", "setpriv");
        let as_nobody_known = |words: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=54321", "--regid=54321", "--clear-groups"]);
            command.args(words).env_remove("CI").output().expect("runs")
        };
        let refused = as_nobody_known(&["ssh", "-V"]);
        assert!(!refused.status.success(), "{refused:?}");
        // Not from where it was built: that folder may be closed to others.
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode");
        let program = folder.path().join("tests");
        fs::copy(env::current_exe().expect("this program"), &program).expect("a copy");
        let output = as_nobody_known(&[
            program.to_str().expect("UTF-8"),
            "--ignored",
            "--exact",
            "tests::is_skipped_without_a_name",
            "--test-threads=2",
        ]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "skipped tests::is_skipped_without_a_name: needs a name for this user (id -un), without which OpenSSH does nothing\n"
        );
    }

    /// Not a test of its own: the one above runs it as another user.
    #[test]
    #[ignore = "run by the test above"]
    fn is_skipped_without_a_name() {
        needs!("ssh");
        panic!("the test went on");
    }

    #[test]
    fn a_test_whose_program_is_missing_fails_in_ci() {
        let output = run_in_a_process(Some("true"));
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            told.contains("needs no-such-program, /no/such/file: ./test --install"),
            "{told}"
        );
    }
}
