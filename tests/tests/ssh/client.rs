//! A user with a sandbox, a key and OpenSSH.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use ops_sandbox::Options;
use ops_tests::{
    service::{PATIENCE, Service},
    terminal::Terminal,
};

pub(crate) const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");
pub(crate) const WEB_1: &str = "i-0a1b2c3d4e5f60718";
pub(crate) const WEB_2: &str = "i-0b2c3d4e5f6071829";
pub(crate) const DEPOT_1: &str = "mi-0a4b5c6d7e8f90123";

pub(crate) struct Client {
    pub(crate) service: Service,
}

/// What a program said, and how it ended: a signal is 128 and its number.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }
}

impl Client {
    /// The default fleet.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let service = Service::start_with(OPS, change);
        let client = Self { service };
        fs::create_dir_all(client.home().join(".ssh")).expect("a folder");
        client
    }

    /// The default fleet, and a key of the user's that opens every server; the profile `team` names
    /// it.
    pub(crate) fn with_key() -> Self {
        Self::new().and_key("")
    }

    /// A key of the user's that opens every server, and a profile
    /// `team` that names it, with further lines of its `ssh` section.
    pub(crate) fn and_key(self, further: &str) -> Self {
        let key = self.home().join("id");
        self.run(
            "ssh-keygen",
            ["-q", "-t", "ed25519", "-N", "", "-f", text(&key)],
        )
        .success();
        let public = fs::read(self.home().join("id.pub")).expect("a public key");
        for id in [WEB_1, WEB_2, DEPOT_1] {
            fs::create_dir_all(self.state(id)).expect("a folder");
            fs::write(self.state(id).join("authorized_keys"), &public).expect("a file");
        }
        self.profile(
            "team",
            &format!(
                "ssh:\n  user: ec2-user\n  identity_file: {}\n{further}",
                text(&key)
            ),
        );
        self
    }

    /// Installs the configuration of the profile `name`.
    pub(crate) fn installed(self, name: &str) -> Self {
        self.ops(["-p", name, "ssh-config", "--install"]).success();
        self
    }

    pub(crate) fn home(&self) -> &Path {
        self.service.home()
    }

    /// The folder of a server, in which its home and keys are.
    pub(crate) fn state(&self, id: &str) -> PathBuf {
        self.home().join("sandbox/instances").join(id)
    }

    pub(crate) fn profile(&self, name: &str, yaml: &str) {
        self.write(&format!(".config/ops/profiles/{name}.yaml"), yaml);
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.home().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    /// The installed configuration in a form for `-F`: ssh would look for a relative Include in the
    /// home of the user database.
    pub(crate) fn config(&self) -> String {
        let folder = self.home().join(".ssh");
        let installed =
            fs::read_to_string(folder.join("config")).expect("an installed configuration");
        let include = format!("Include {}/ops/*.conf\n", text(&folder));
        assert!(installed.contains("Include ops/*.conf\n"), "{installed}");
        let path = self.write(
            "config-for-tests",
            &installed.replace("Include ops/*.conf\n", &include),
        );
        text(&path).to_owned()
    }

    /// A program in the environment of the user.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(self.service.environment())
            .current_dir(self.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Said {
        finish(&mut self.command(program, args), b"")
    }

    pub(crate) fn ops<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Said {
        self.run(OPS, args)
    }

    /// A program on a terminal of its own, in the environment of the user.
    pub(crate) fn terminal(&self, program: &str, args: &[&str]) -> Terminal {
        let command = pty_process::blocking::Command::new(program)
            .args(args)
            .env_clear()
            .envs(self.service.environment())
            .current_dir(self.home());
        Terminal::run(command)
    }

    /// Plain ssh with the installed configuration.
    pub(crate) fn ssh<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Said {
        let mut command = self.command("ssh", ["-F", &self.config()]);
        finish(command.args(args), b"")
    }

    /// What ssh makes of `name` with the configuration `config`, a line for each option; `None` if
    /// it refuses the name.
    pub(crate) fn asked_of_ssh(&self, config: &str, name: &str) -> Option<Vec<String>> {
        let said = self.run("ssh", ["-F", config, "-G", "--", name]);
        (said.status == 0).then(|| said.stdout.lines().map(str::to_owned).collect())
    }

    /// How often `action` was called.
    pub(crate) fn calls(&self, action: &str) -> usize {
        let calls = self.service.calls();
        calls.iter().filter(|call| *call == action).count()
    }

    /// Waits until the service has `count` sessions, all of them ended.
    #[track_caller]
    pub(crate) fn all_ended(&self, count: usize) {
        wait_until("all sessions have ended", || {
            let sessions = self.service.sessions();
            sessions.len() == count && sessions.iter().all(|status| status.starts_with("Terminat"))
        });
    }
}

/// Runs a command to its end, or for as long as anything may take.
#[track_caller]
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Said {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        thread::spawn(move || stdin.write_all(&input));
    }
    wait(child, &format!("{command:?}"))
}

/// Waits for the end of a command.
#[track_caller]
pub(crate) fn wait(child: Child, what: &str) -> Said {
    let pid = rustix::process::Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(PATIENCE) else {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        panic!("{what} does not end");
    };
    let output = output.expect("its output");
    let signal = output.status.signal().map(|signal| 128 + signal);
    Said {
        status: output.status.code().or(signal).expect("a status"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(
            begin.elapsed() < PATIENCE,
            "it does not come about that {what}"
        );
        thread::park_timeout(std::time::Duration::from_millis(10));
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Bytes that differ from their neighbours, and whose place matters.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (seed..seed + len)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}

/// SHA-256 over all files below `path`, names included.
pub(crate) fn digest(path: &Path) -> Vec<u8> {
    fn add(path: &Path, name: &Path, digest: &mut Digest) {
        if path.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(path)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            entries.sort();
            for entry in entries {
                add(&path.join(&entry), &name.join(&entry), digest);
            }
        } else {
            digest.update(text(name).as_bytes());
            let bytes = fs::read(path).expect("a file");
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(&bytes);
        }
    }
    let mut digest = Digest::new(&SHA256);
    add(path, Path::new(""), &mut digest);
    digest.finish().as_ref().to_vec()
}

/// So many small files in forty folders.
pub(crate) fn small_files(folder: &Path, count: usize) {
    for number in 0..count {
        let folder = folder.join(format!("{:02}", number % 40));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(
            folder.join(number.to_string()),
            pattern(number, number % 500),
        )
        .expect("a file");
    }
}
