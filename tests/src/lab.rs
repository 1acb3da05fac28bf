//! A clean environment in which the built binary runs: own home and XDG folders, no AWS variables,
//! a fixed width and time zone.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// How long anything in a test may take. Only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A user who has just come: nothing set, nothing installed. Files vanish with the value.
pub struct Lab {
    root: tempfile::TempDir,
    env: BTreeMap<OsString, OsString>,
    // Dropped before the folders: it still writes there.
    served: Option<Served>,
}

struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        // In order, so that the shells it started end with it.
        let asked = pid.is_some_and(|pid| {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok()
        });
        if !asked {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

impl Lab {
    /// A clean environment without AWS and without a sandbox.
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let home = root.path().join("home");
        let runtime = root.path().join("run");
        std::fs::create_dir_all(&home).expect("a home folder");
        std::fs::create_dir_all(&runtime).expect("a runtime folder");
        let mut env = BTreeMap::new();
        let mut set =
            |name: &str, value: &OsStr| env.insert(OsString::from(name), value.to_owned());
        set("HOME", home.as_os_str());
        set("XDG_RUNTIME_DIR", runtime.as_os_str());
        for (name, folder) in [
            ("XDG_CONFIG_HOME", ".config"),
            ("XDG_CACHE_HOME", ".cache"),
            ("XDG_STATE_HOME", ".local/state"),
            ("XDG_DATA_HOME", ".local/share"),
        ] {
            set(name, home.join(folder).as_os_str());
        }
        for (name, value) in [
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
            ("TERM", "xterm-256color"),
            ("LANG", "C.UTF-8"),
            ("TZ", "UTC"),
            ("COLUMNS", "100"),
            ("USER", "tester"),
            ("SHELL", "/bin/bash"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ] {
            set(name, OsStr::new(value));
        }
        Self {
            root,
            env,
            served: None,
        }
    }

    /// A clean environment whose commands all use one served sandbox with the default fleet.
    pub fn with_sandbox() -> Self {
        Self::new().serve([])
    }

    /// Serves a sandbox with these options of `ops sandbox serve`, for every command from now on.
    ///
    /// # Panics
    /// It does not start.
    pub fn serve<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Self {
        let mut child = self
            .command(&binary())
            .args(["sandbox", "serve"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // The environment is printed once it listens; its last line is this one.
        if !lines.any(|line| line.starts_with("export OPS_FEDERATION_ENDPOINT=")) {
            let mut text = String::new();
            let _ = child
                .stderr
                .take()
                .map(|mut stderr| stderr.read_to_string(&mut text));
            panic!("ops sandbox serve did not start: {text}");
        }
        self.served = Some(Served(child));
        self.env.insert("OPS_SANDBOX".into(), "1".into());
        self
    }

    /// Sets a variable for every command from now on.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// A folder beside the home folder, made if it is missing.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// Writes a file below the home folder.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Writes an executable file below the home folder.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_program(&self, path: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write(path, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("permissions");
        path
    }

    /// Writes the team profile `name`.
    pub fn profile(&self, name: &str, yaml: &str) -> PathBuf {
        self.write(&format!(".config/ops/profiles/{name}.yaml"), yaml)
    }

    /// A run of `ops` with these arguments.
    pub fn ops<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Run<'_> {
        self.run(binary(), arguments)
    }

    /// A run of another program in this environment.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Run<'_> {
        let mut command = self.command(program.as_ref());
        command.args(arguments);
        Run {
            command,
            input: Vec::new(),
            lab: self,
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.env).current_dir(self.home());
        command
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// The binary under test: Cargo puts it beside the folder of the test programs.
///
/// # Panics
/// It has not been built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test program");
    let path = test
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("ops-under-test"))
        .find(|path| path.is_file());
    path.expect("ops-under-test is built with the tests")
}

/// A command that is about to run.
pub struct Run<'a> {
    command: Command,
    input: Vec<u8>,
    lab: &'a Lab,
}

impl Run<'_> {
    /// Gives it standard input; without this it has none.
    #[must_use]
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = bytes.as_ref().to_owned();
        self
    }

    /// Sets a variable for this run.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes a variable away for this run.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs in another folder than the home folder.
    #[must_use]
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Starts it and leaves it running, its streams piped.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn spawn(mut self) -> Child {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.command.spawn().expect("the program starts")
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// It cannot be started, or takes too long.
    pub fn output(self) -> Done {
        let input = self.input.clone();
        let home = self.lab.home();
        let what = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let mut child = self.spawn();
        let mut stdin = child.stdin.take().expect("a pipe");
        let pid = child.id();
        std::thread::spawn(move || {
            // It may end without reading.
            let _ = stdin.write_all(&input);
        });
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(child.wait_with_output());
        });
        let Ok(result) = receiver.recv_timeout(PATIENCE) else {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
                .expect("a process id");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("{what} took longer than {PATIENCE:?}");
        };
        let output = result.expect("an end");
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        let tidy = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.replace(&*home.to_string_lossy(), "~")
        };
        Done {
            stdout: tidy(&output.stdout),
            stderr: tidy(&output.stderr),
            bytes: output.stdout,
            // As a shell tells it.
            status: output
                .status
                .code()
                .or(signal.map(|signal| 128 + signal))
                .unwrap_or(-1),
        }
    }
}

/// A command that has ended. Its home folder is shown as `~`.
#[derive(Debug)]
pub struct Done {
    /// Its results as text.
    pub stdout: String,
    /// Everything else it said.
    pub stderr: String,
    /// Its results as they are.
    pub bytes: Vec<u8>,
    /// Exit status; 128 and the signal's number for one that was killed.
    pub status: i32,
}

impl Done {
    /// Checks that it ended well.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Checks its status.
    ///
    /// # Panics
    /// It is another.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Its results as JSON.
    ///
    /// # Panics
    /// They are none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl fmt::Display for Done {
    /// For snapshots: status, then stdout, then stderr.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "status {}\n-- stdout\n{}-- stderr\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}
