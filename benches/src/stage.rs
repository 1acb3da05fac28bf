//! A home of its own, a sandbox that is served from it, and `ops` over that.

use std::{
    io::{self, BufRead as _, BufReader},
    process::{Child, Command, ExitCode, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Set for a child that is to be `ops`.
const ROLE: &str = "OPS_BENCH_IS_OPS";

/// Makes a child of this program `ops`: `Some` is its end. Call it first in `main`.
pub fn act() -> Option<ExitCode> {
    std::env::var_os(ROLE).map(|_| ops::main())
}

/// A sandbox in a process of its own, ended when dropped.
pub struct Stage {
    sandbox: Owned,
    home: TempDir,
}

impl Stage {
    /// Serves a sandbox with these options of `ops sandbox serve`.
    ///
    /// # Errors
    /// It does not start.
    pub fn serve(options: &[&str]) -> io::Result<Self> {
        let home = tempfile::tempdir()?;
        let mut command = ops(&home);
        command
            .args(["sandbox", "serve", "-q", "-o", "json"])
            .args(options)
            .stdout(Stdio::piped());
        let mut sandbox = Owned(command.spawn()?);
        document(&mut sandbox.0)?;
        Ok(Self { sandbox, home })
    }

    /// The process of the sandbox.
    pub fn sandbox_id(&self) -> u32 {
        self.sandbox.0.id()
    }

    /// `ops --sandbox`, to be given a verb.
    pub fn ops(&self) -> Command {
        let mut command = ops(&self.home);
        command.arg("--sandbox");
        command
    }
}

/// A child process, interrupted and waited for when dropped.
pub struct Owned(pub Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        }
        let _ = self.0.wait();
    }
}

fn ops(home: &TempDir) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(ROLE, "1")
        .env("HOME", home.path())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

/// The JSON document that a child prints first, once it is ready.
///
/// # Errors
/// It ends without one.
pub fn document(child: &mut Child) -> io::Result<Value> {
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("stdout is not piped"))?;
    let mut stdout = BufReader::new(stdout);
    let mut text = String::new();
    loop {
        if stdout.read_line(&mut text)? == 0 {
            return Err(io::Error::other("ops ended before it was ready"));
        }
        if let Ok(document) = serde_json::from_str(&text) {
            return Ok(document);
        }
    }
}
