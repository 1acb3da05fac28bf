//! Who may log in, and on which server.

use std::{fs, process::Command};

use crate::scene::{CONNECT, WEB_1, fail, no_sessions, remote, run, service, succeed, text};

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

#[test]
fn who_is_not_let_in_is_told_what_was_tried() {
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
    let key = |name: &str, passphrase: &str| {
        let path = folder.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ecdsa", "-N", passphrase, "-f", text(&path)])
            .status()
            .unwrap();
        assert!(made.success());
        path
    };
    let (plain, locked) = (key("plain", ""), key("locked", "secret"));
    fail(
        &copy(&["-i", text(&plain)]),
        7,
        &["it took none of: key file `", "plain`"],
    );
    fail(
        &copy(&["-i", text(&locked)]),
        2,
        &[
            "encrypted with a passphrase",
            "ssh-add",
            "--instance-connect",
        ],
    );
    let state = service.home().join(format!("sandbox/instances/{WEB_1}"));
    fs::copy(plain.with_extension("pub"), state.join("authorized_keys")).unwrap();
    succeed(&copy(&["-i", text(&plain)]));
    assert_eq!(fs::read(&here).unwrap(), b"x");
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
            "connection refused",
            "--via session",
        ],
    );
    let from = format!("nobody@web-1:{}", there.display());
    let output = run(&service, &["--via", "sftp", &from, text(folder.path())]);
    // Whether sudo is there or not, it does not become that user without being allowed to.
    fail(&output, 7, &["as `nobody` with sudo -n"]);
    no_sessions(&service);
}
