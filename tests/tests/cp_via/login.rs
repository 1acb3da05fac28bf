//! Who may log in, and on which server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use ops_test_needs::needs;
use ops_tests::{lab::PATIENCE, service::Service, terminal::Terminal};

use crate::scene::{CONNECT, WEB_1, fail, no_sessions, noise, remote, run, service, succeed, text};

#[test]
fn a_host_key_is_pinned_at_first_and_another_is_refused() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    fs::write(&there, "x").unwrap();
    let copy = || run(&service, &["--via", "sftp", &remote(&there), text(&here)]);
    succeed(&copy());
    succeed(&copy());
    let file = service.home().join(".local/state/ops/ssh/known_hosts");
    let pinned = fs::read_to_string(&file).unwrap();
    assert_eq!(pinned.lines().count(), 1, "{pinned}");
    assert!(pinned.starts_with(&format!("{WEB_1} ssh-ed25519 ")));
    fs::remove_file(&here).unwrap();
    fs::write(
        &file,
        format!("{WEB_1} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl0\n"),
    )
    .unwrap();
    let output = copy();
    let forget = format!("ssh-keygen -R {WEB_1} -f ");
    fail(
        &output,
        9,
        &["the host key of `web-1` has changed", &forget],
    );
    assert!(!here.exists());
}

/// Makes a key pair with the real program; gives the private half's file.
fn key(folder: &Path, name: &str, passphrase: &str) -> PathBuf {
    let path = folder.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-f", text(&path)])
        .status()
        .unwrap();
    assert!(made.success());
    path
}

/// Lets `key` in at the server.
fn authorize(service: &Service, key: &Path) {
    let state = service.home().join(format!("sandbox/instances/{WEB_1}"));
    fs::create_dir_all(&state).unwrap();
    fs::copy(key.with_extension("pub"), state.join("authorized_keys")).unwrap();
}

#[test]
fn who_is_not_let_in_is_told_what_was_tried() {
    needs!("ssh-keygen");
    let service = service("", "ssh: { user: ec2-user }\n");
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "x").unwrap();
    let here = folder.path().join("here");
    let copy = |args: &[&str]| {
        let (from, to) = (remote(&there), text(&here).to_owned());
        let all: Vec<&str> = ["--via", "sftp"]
            .iter()
            .chain(args)
            .copied()
            .chain([from.as_str(), to.as_str()])
            .collect();
        run(&service, &all)
    };
    fail(
        &copy(&[]),
        7,
        &[
            "does not let `ec2-user` in",
            "no SSH key was found",
            "--instance-connect",
        ],
    );
    let (plain, locked) = (
        key(folder.path(), "plain", ""),
        key(folder.path(), "locked", "secret"),
    );
    for key in [&plain, &locked] {
        let name = format!("{}`", text(key));
        let words = ["it took none of: key file `", &name];
        fail(&copy(&["-i", text(key)]), 7, &words);
    }
    authorize(&service, &plain);
    succeed(&copy(&["-i", text(&plain)]));
    assert_eq!(fs::read(&here).unwrap(), b"x");
    // The server would take this one; nobody can be asked for its passphrase.
    authorize(&service, &locked);
    let add = format!("ssh-add {}", text(&locked));
    let words = [
        "encrypted with a passphrase",
        "no ssh agent runs",
        &add,
        "--instance-connect",
    ];
    fail(&copy(&["-i", text(&locked)]), 9, &words);
    no_sessions(&service);
}

#[test]
fn a_passphrase_is_asked_for_once_and_not_shown() {
    needs!("ssh-keygen");
    let service = service("", "ssh: { user: ec2-user }\n");
    let folder = tempfile::tempdir().unwrap();
    let ssh = service.home().join(".ssh");
    fs::create_dir(&ssh).unwrap();
    authorize(&service, &key(&ssh, "id_ed25519", "open sesame"));
    let (from, to) = (folder.path().join("there"), folder.path().join("here"));
    let content = noise(3_000_000);
    fs::write(&from, &content).unwrap();
    let from = remote(&from);
    // Several sessions log in with it.
    let args = ["cp", "--profile", "t", "--via", "sftp", &from, text(&to)];
    let question = "Passphrase for the SSH key ~/.ssh/id_ed25519: ";

    let mut terminal = Terminal::start(&service, &args);
    let asked = terminal.wait_for(question);
    assert!(!terminal.is_cooked());
    terminal.send("open barley\r");
    terminal.wait_for("that is not the passphrase");
    terminal.wait_for_after(asked, question);
    terminal.send("open sesame\r");
    assert_eq!(terminal.wait(), Some(0));
    assert!(terminal.is_cooked());
    assert!(fs::read(&to).unwrap() == content);
    let shown = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(!shown.contains("open "), "{shown}");
    assert_eq!(shown.matches(question).count(), 2, "{shown}");

    fs::remove_file(&to).unwrap();
    let mut terminal = Terminal::start(&service, &args);
    terminal.wait_for(question);
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
    assert!(terminal.is_cooked());

    // Nothing typed is no answer; the next run is told what to do.
    let mut terminal = Terminal::start(&service, &args);
    terminal.wait_for(question);
    terminal.send("\r");
    assert_eq!(terminal.wait(), Some(9));
    terminal.wait_for("ssh-add ");
    assert!(terminal.is_cooked() && !to.exists());
    no_sessions(&service);
}

/// An ssh agent that ends with the test.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a", text(&socket)])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(begin.elapsed() < PATIENCE, "the agent does not listen");
            std::thread::yield_now();
        }
        Self { child, socket }
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add")
            .args(["-q", text(key)])
            .env("SSH_AUTH_SOCK", &self.socket)
            .status()
            .unwrap();
        assert!(added.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_key_that_only_the_agent_has_opens_the_server() {
    needs!("ssh-keygen", "ssh-agent", "ssh-add");
    let service = service("", "ssh: { user: ec2-user }\n");
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(folder.path());
    let there = folder.path().join("there");
    let content = noise(3_000_000);
    fs::write(&there, &content).unwrap();
    let here = folder.path().join("here");
    let copy = |args: &[&str], socket: &Path| {
        let (from, to) = (remote(&there), text(&here).to_owned());
        let mut command = service.ops(&["cp", "--profile", "t", "--via", "sftp"]);
        command.args(args).args([from, to]);
        command.env("SSH_AUTH_SOCK", socket).output().unwrap()
    };
    fail(&copy(&[], &agent.socket), 7, &["no SSH key was found"]);
    // Another one is offered first, and refused.
    agent.add(&key(folder.path(), "other", ""));
    let words = ["it took none of: agent key `", "ssh-ed25519 SHA256:"];
    fail(&copy(&[], &agent.socket), 7, &words);
    let own = key(folder.path(), "own", "");
    authorize(&service, &own);
    agent.add(&own);
    fs::remove_file(&own).unwrap();
    succeed(&copy(&[], &agent.socket));
    assert!(fs::read(&here).unwrap() == content);

    // The file is encrypted, and the agent has the same key: nobody is asked.
    let locked = key(folder.path(), "locked", "");
    agent.add(&locked);
    let changed = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", "secret", "-f", text(&locked)])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(changed.success());
    authorize(&service, &locked);
    succeed(&copy(&["-i", text(&locked)], &agent.socket));
    let gone = folder.path().join("no-agent");
    let words = [
        "cannot log in",
        "the ssh agent does not hold it",
        "ssh-add ",
    ];
    fail(&copy(&["-i", text(&locked)], &gone), 9, &words);
    no_sessions(&service);
}

#[test]
fn a_server_without_sshd_and_a_user_without_sudo_are_said() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "x").unwrap();
    service.change_instance("", r#"{"name": "mute", "ports": {"22": "closed"}}"#);
    let from = format!("mute:{}", there.display());
    let output = run(&service, &["--via", "sftp", &from, text(folder.path())]);
    fail(
        &output,
        7,
        &[
            "no SSH server answers on port 22 of `mute`",
            "document process failed unexpectedly",
            "--via session",
        ],
    );
    let from = format!("ops-nobody@web-1:{}", there.display());
    let output = run(&service, &["--via", "sftp", &from, text(folder.path())]);
    // Whether sudo is there or not, and whatever it allows, it does not become a user that is not.
    fail(&output, 7, &["as `ops-nobody` with sudo -n"]);
    no_sessions(&service);
}
