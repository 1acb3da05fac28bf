//! A sandbox of its own for one test, and `ops` in a clean environment that reaches nothing else.

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ops_sandbox::{Options, RunningSandbox, Sandbox, StartError};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::ports::on_a_free_port;

/// For everything that must happen sooner or later; long, because machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Of a sandbox whose machines give everybody bash, whatever shell its user has.
fn options(home: &Path) -> Options {
    let mut options = Options::new(home.join("sandbox"));
    options.shell = ["/bin/bash", "/usr/bin/bash"]
        .map(PathBuf::from)
        .into_iter()
        .find(|shell| shell.is_file());
    options
}

/// A running sandbox, stopped when dropped.
pub struct Service {
    // In this order: the sandbox ends before its runtime, the folder goes last.
    running: RunningSandbox,
    runtime: Runtime,
    home: TempDir,
    program: PathBuf,
}

impl Service {
    /// Starts one with `faults` (none for an empty text) for the binary at `program`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(program: &str, faults: &str) -> Self {
        Self::start_with(program, |options| {
            options.faults = faults.parse().expect("faults that exist");
        })
    }

    /// Starts one with options of the test's own.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_with(program: &str, change: impl FnOnce(&mut Options)) -> Self {
        Self::try_start(program, change).expect("a sandbox")
    }

    /// Starts one that can be stopped and started again: a sandbox that was given its port has the
    /// same keys each time.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_to_restart(program: &str) -> Self {
        on_a_free_port(|port| Self::try_start(program, |options| options.port = port).ok()).1
    }

    fn try_start(program: &str, change: impl FnOnce(&mut Options)) -> Result<Self, StartError> {
        let home = tempfile::tempdir().expect("a folder for the test");
        let runtime = Runtime::new().expect("a runtime for the sandbox");
        let mut options = options(home.path());
        change(&mut options);
        let running = runtime.block_on(Sandbox::start(options))?;
        Ok(Self {
            running,
            runtime,
            home,
            program: program.into(),
        })
    }

    /// Stops it, sessions and all, runs `meanwhile`, and starts it again where it was. To be called
    /// for one of [`Self::start_to_restart`].
    ///
    /// # Panics
    /// It cannot be started again.
    #[must_use]
    pub fn restart(self, meanwhile: impl FnOnce()) -> Self {
        let mut options = options(self.home.path());
        options.port = self.running.address().port();
        self.runtime.block_on(self.running.stop());
        meanwhile();
        let running = self
            .runtime
            .block_on(Sandbox::start(options))
            .expect("a sandbox");
        Self { running, ..self }
    }

    /// The binary under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The home of the user who runs `ops`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The whole environment of `ops`.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let own = [
            ("HOME", self.home.path().as_os_str().to_owned()),
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("TERM", "xterm-256color".into()),
            ("LC_ALL", "C.UTF-8".into()),
        ]
        .map(|(name, value)| (OsString::from(name), value));
        let access = self
            .running
            .environment()
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        own.into_iter().chain(access).collect()
    }

    /// `ops` with `args`, its streams captured.
    pub fn ops(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Orders other faults.
    ///
    /// # Panics
    /// There is no such fault.
    pub fn set_faults(&self, faults: &str) {
        self.running
            .set_faults(faults.parse().expect("faults that exist"));
    }

    /// The actions that were called so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.running.log()["calls"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|call| call["action"].as_str().map(str::to_owned))
            .collect()
    }

    /// The calls so far, in order, each with its action and the time at which it came.
    ///
    /// # Panics
    /// A time that is none.
    pub fn call_times(&self) -> Vec<(String, jiff::Timestamp)> {
        let log = self.running.log();
        let calls = log["calls"].as_array().into_iter().flatten();
        calls
            .filter_map(|call| Some((call["action"].as_str()?, call["time"].as_str()?)))
            .map(|(action, time)| (action.to_owned(), time.parse().expect("a time")))
            .collect()
    }

    /// Waits until `action` was called.
    ///
    /// # Panics
    /// It is not.
    pub fn wait_for_call(&self, action: &str) {
        self.wait_for_calls(action, 1);
    }

    /// Waits until `action` was called so many times.
    ///
    /// # Panics
    /// It is not.
    pub fn wait_for_calls(&self, action: &str, times: usize) {
        let begin = Instant::now();
        self.runtime.block_on(async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while self.calls().iter().filter(|call| *call == action).count() < times {
                assert!(
                    begin.elapsed() < PATIENCE,
                    "{action} was not called: {:?}",
                    self.calls()
                );
                tick.tick().await;
            }
        });
    }

    /// Changes a machine by name, or adds one (`name` empty).
    ///
    /// # Panics
    /// The sandbox does not take it.
    pub fn change_instance(&self, name: &str, body: &str) {
        let path = if name.is_empty() {
            "instances".to_owned()
        } else {
            format!("instances/{name}")
        };
        self.admin("POST", &path, body);
    }

    /// What the service says of every session so far: `Connected`, `Terminated` and so on.
    ///
    /// # Panics
    /// The sandbox does not say.
    pub fn sessions(&self) -> Vec<String> {
        let answer = self.admin("GET", "sessions", "");
        answer["sessions"]
            .as_array()
            .expect("a list of sessions")
            .iter()
            .filter_map(|session| session["status"].as_str().map(str::to_owned))
            .collect()
    }

    /// Temporary keys and SSO logins are over.
    ///
    /// # Panics
    /// The sandbox does not say so.
    pub fn expire(&self) {
        self.admin("POST", "expire", "");
    }

    /// Confirms or denies the code of an SSO login, as a person in a browser would.
    ///
    /// # Panics
    /// No login waits for it.
    pub fn answer_code(&self, code: &str, answer: &str) {
        self.admin("POST", &format!("sso/{code}"), answer);
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let access = self.running.access();
        let mut stream =
            std::net::TcpStream::connect(self.running.address()).expect("the sandbox listens");
        write!(
            stream,
            "{method} /_sandbox/{path} HTTP/1.1\r\nHost: sandbox\r\nX-Sandbox-Token: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            access.admin_token,
            body.len()
        )
        .expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).expect("JSON")
    }
}

/// What a command has said until its end.
#[derive(Debug)]
pub struct Answer {
    /// Exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// Its results.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Answer {
    /// Runs `command` in the service's home, with `input`, to its end.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn of(service: &Service, mut command: Command, input: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .current_dir(service.home())
            .spawn()
            .expect("ops starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("an end");
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks its status.
    ///
    /// # Panics
    /// It is another.
    #[track_caller]
    pub fn ends_with(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{}", self.stderr);
    }

    /// Checks that it says each of these.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn tells<const N: usize>(&self, all: [&str; N]) {
        for words in all {
            let is_told = self.stderr.contains(words);
            assert!(is_told, "no `{words}` in: {}", self.stderr);
        }
    }
}
