//! What may be `sh` on a server, each with the tools that come with it.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{LazyLock, OnceLock},
};

use crate::find;

/// Debian, Red Hat (and macOS), Alpine, Android, and the Unixes of old.
const NAMES: [&str; 5] = ["dash", "bash", "busybox", "mksh", "ksh93"];

/// Those of them beside which there is perl. What is called busybox has nothing but its own.
const WITH_PERL: [&str; 4] = [
    "dash with perl",
    "bash with perl",
    "mksh with perl",
    "ksh93 with perl",
];

/// The program of the shell called `name`.
fn shell_of(name: &str) -> &str {
    name.trim_end_matches(" with perl")
}

/// The scripts in `folder`, in order.
///
/// # Panics
/// The folder cannot be read.
#[must_use]
pub fn scripts_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of scripts");
    let mut scripts: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sh"))
        .collect();
    scripts.sort();
    scripts
}

/// Asserts that shellcheck, which has to be installed, finds nothing in `scripts` as POSIX sh.
///
/// # Panics
/// It finds something, or cannot be run.
pub fn assert_clean_for_shellcheck(scripts: &[PathBuf]) {
    let output = Command::new("shellcheck")
        .args(["--shell=sh", "--severity=style"])
        .args(scripts)
        .output()
        .expect("shellcheck");
    let findings = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{findings}");
}

/// A folder with links to all programs of `path` but perl.
fn without_perl(path: &str) -> &'static str {
    static FOLDER: LazyLock<tempfile::TempDir> =
        LazyLock::new(|| tempfile::tempdir().expect("a folder"));
    static LINKS: OnceLock<String> = OnceLock::new();
    LINKS.get_or_init(|| {
        let folder = FOLDER.path();
        for place in std::env::split_paths(path) {
            for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
                let name = entry.file_name();
                // The first of a name is the one that counts.
                if !name.to_string_lossy().starts_with("perl") {
                    let _ = symlink(entry.path(), folder.join(name));
                }
            }
        }
        folder.display().to_string()
    })
}

/// A shell that is called `sh`, in a folder of its own.
#[derive(Debug)]
pub struct Shell {
    name: &'static str,
    folder: tempfile::TempDir,
    path: String,
}

impl Shell {
    /// Those that this machine has.
    ///
    /// # Panics
    /// It has none.
    pub fn all() -> impl Iterator<Item = Self> {
        let mut there: Vec<_> = NAMES
            .into_iter()
            .filter(|name| find(name).is_some())
            .collect();
        there.extend(Self::with_perl().next());
        assert!(!there.is_empty(), "there is no shell");
        there.into_iter().map(Self::new)
    }

    fn with_perl() -> impl Iterator<Item = &'static str> {
        let has_perl = find("perl").is_some();
        WITH_PERL
            .into_iter()
            .filter(move |name| has_perl && find(shell_of(name)).is_some())
    }

    /// Those of them that know of perl.
    pub fn all_with_perl() -> impl Iterator<Item = Self> {
        Self::with_perl().map(Self::new)
    }

    /// `name` as `sh`, beside this machine's programs, without perl unless `name` says that it is
    /// there; busybox with nothing but its own, as on Alpine.
    ///
    /// # Panics
    /// There is no such program here.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let has_perl = WITH_PERL.contains(&name);
        let program = find(shell_of(name)).expect("a shell");
        let mut path = folder.path().display().to_string();
        let link = |name: &str| symlink(&program, folder.path().join(name)).expect("a link");
        if name == "busybox" {
            let list = Command::new(&program).arg("--list").output();
            let list = String::from_utf8(list.expect("busybox").stdout).expect("names");
            list.lines().for_each(link);
        } else {
            link("sh");
            let programs = std::env::var("PATH").unwrap_or_default();
            let programs = if has_perl {
                &programs
            } else {
                without_perl(&programs)
            };
            path = format!("{path}:{programs}");
        }
        Self { name, folder, path }
    }

    /// What it is.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it is, and first in its `PATH`; it may be written to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `sh -c SCRIPT`, with this folder for its home and for what is temporary.
    #[must_use]
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new(self.program());
        command
            .args(["-c", script])
            .env("PATH", &self.path)
            .env("TMPDIR", self.folder.path())
            .env("HOME", self.folder.path());
        command
    }

    /// Its path.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.folder.path().join("sh")
    }

    /// Whether something runs whose command line holds `word`.
    ///
    /// # Panics
    /// `word` is empty, as every command line would hold it.
    #[must_use]
    pub fn has_processes(word: &str) -> bool {
        assert!(!word.is_empty());
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .any(|line| String::from_utf8_lossy(&line).contains(word))
    }
}
