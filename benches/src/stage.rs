//! A home of its own, a sandbox that is served from it, and `ops` over that.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::Path,
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

/// What a benchmark's `main` is: `ops` where this process was started as that, else `run`.
pub fn main(run: impl FnOnce() -> io::Result<()>) -> ExitCode {
    act().unwrap_or_else(|| end(run()))
}

/// Tells of a failure.
pub fn end(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The numbers of the command line, one after another; `usual` where there is none any more.
pub fn numbers() -> impl FnMut(usize) -> io::Result<usize> {
    let mut args = std::env::args().skip(1);
    move |usual| match args.next() {
        None => Ok(usual),
        Some(text) => text
            .parse()
            .map_err(|_| io::Error::other(format!("`{text}` is no number"))),
    }
}

/// The server of a fleet of one.
pub const WEB_1: &str = "i-0a1b2c3d4e5f60718";

/// Writes a fleet of one server, `web-1` with the id [`WEB_1`], into `folder`; `ssh_port` is the
/// port of this machine that is the server's port 22. Gives the file's path.
///
/// # Errors
/// It cannot be written.
pub fn write_fleet_of_one(folder: &Path, ssh_port: Option<u16>) -> io::Result<String> {
    let ports = ssh_port.map_or_else(String::new, |port| {
        format!(", ports: {{ 22: \"127.0.0.1:{port}\" }}")
    });
    let path = folder.join("fleet.yaml");
    let fleet = format!("instances:\n  - {{ name: web-1, id: {WEB_1}{ports} }}\n");
    fs::write(&path, fleet)?;
    Ok(path.to_string_lossy().into_owned())
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
