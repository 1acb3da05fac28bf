//! The first `ops ssh` of somebody who has set nothing up: no key, no configuration, perhaps no
//! home that can be written to.

use std::fs;

use ops_test_needs::needs;
use ops_tests::Lab;

use crate::client::{Client, OPS, WEB_1, finish, text};

/// Below a file no folder can be made, not even by root.
const NO_HOME: &str = "/dev/null/home";

#[test]
fn the_embedded_sandbox_lets_in_who_has_no_key() {
    needs!("ssh");
    let lab = Lab::new();
    let said = |args: &[&str]| {
        let ours = ["--sandbox", "ssh", "-F", "none"];
        lab.ops(ours.iter().chain(args)).output().success().stdout
    };
    // The image's user, as the agent tells the platform.
    assert_eq!(said(&["web-1", "echo $LOGNAME"]), "ec2-user\n");
    assert_eq!(said(&["me@web-1", "echo $LOGNAME"]), "me\n");
    // Plain ssh by way of what ssh-config prints, and a copy by sftp.
    let config = lab.ops(["--sandbox", "ssh-config", "web-1"]).output();
    let config = lab.write(
        "config",
        config.success().stdout.replace('~', text(&lab.home())),
    );
    let plain = lab.run("/usr/bin/ssh", ["-F", text(&config), "web-1", "uname"]);
    assert_eq!(plain.output().success().stdout, "Linux\n");
    let copy = lab.ops(["--sandbox", "cp", "--via", "sftp", "web-1:README.txt", "-"]);
    assert!(copy.output().success().stdout.contains("This is web-1"));
}

#[test]
fn nothing_is_pushed_on_aws_unless_somebody_asks_for_it() {
    needs!("ssh");
    let client = Client::new();
    client
        .ops(["ssh", "-F", "none", "web-1", "true"])
        .exits(255);
    assert_eq!(client.calls("SendSSHPublicKey"), 0);
}

#[test]
fn questions_about_ssh_itself_pass_through() {
    needs!("ssh");
    let client = Client::new();
    let version = client.ops(["ssh", "-V"]).success();
    assert!(version.stderr.contains("OpenSSH"), "{version:?}");
    let ciphers = client.ops(["ssh", "-Q", "cipher"]).success();
    assert_eq!(
        ciphers.stdout,
        client.run("ssh", ["-Q", "cipher"]).success().stdout
    );
    assert_eq!(client.calls("DescribeInstances"), 0);
}

#[test]
fn without_a_home_ssh_goes_on_and_says_what_it_forgets() {
    needs!("ssh");
    let client = Client::new();
    let homeless = |args: &[&str]| {
        let mut command = client.command(OPS, args);
        finish(command.env("HOME", NO_HOME), b"")
    };
    let ours = [
        "ssh",
        "-F",
        "none",
        "--instance-connect",
        "me@web-1",
        "uname",
    ];
    for args in [
        &ours[..],
        &[
            "cp",
            "--via",
            "sftp",
            "--instance-connect",
            "web-1:README.txt",
            "-",
        ],
    ] {
        let said = homeless(args).success();
        assert!(
            said.stderr
                .contains("the host key of web-1 is trusted for this run alone")
                && said.stderr.contains("/dev/null/home/.local/state/ops/ssh")
                && said.stderr.contains("export XDG_STATE_HOME=FOLDER"),
            "{said:?}"
        );
        assert_eq!(
            said.stderr.matches("for this run alone").count(),
            1,
            "{said:?}"
        );
    }
    for (args, folder, variable) in [
        (
            &["ssh-config"][..],
            ".local/state/ops/ssh",
            "XDG_STATE_HOME",
        ),
        (&["cache", "refresh"], ".cache/ops/fleet", "XDG_CACHE_HOME"),
        (
            &["--sandbox", "ls"],
            ".local/state/ops/sandbox",
            "XDG_STATE_HOME",
        ),
    ] {
        let said = homeless(args).exits(1);
        assert!(
            said.stderr.contains("cannot keep ")
                && said.stderr.contains(&format!("`{NO_HOME}/{folder}"))
                && said.stderr.contains(&format!("export {variable}=FOLDER")),
            "{said:?}"
        );
    }
    // Keys that were pinned before count there too.
    let state = client.home().join("state");
    fs::create_dir_all(state.join("ops/ssh")).expect("a folder");
    let pinned = format!(
        "{WEB_1} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
    );
    fs::write(state.join("ops/ssh/known_hosts"), pinned).expect("a file");
    let mut command = client.command(OPS, ours);
    let said = finish(command.env("XDG_STATE_HOME", &state), b"").exits(255);
    assert!(
        said.stderr.contains("HOST IDENTIFICATION HAS CHANGED"),
        "{said:?}"
    );
}

/// ssh itself, run as a user id without a line in `/etc/passwd`, as containers are.
#[test]
fn a_user_without_a_name_is_told_what_to_set() {
    use std::os::unix::fs::PermissionsExt as _;
    needs!("ssh", "setpriv");
    let client = Client::new();
    let folder = client.home().join("bin");
    fs::create_dir_all(&folder).expect("a folder");
    // Only root can become nobody in particular; others see what ssh says then.
    let script = "#!/bin/sh\n\
        [ \"$(id -u)\" != 0 ] || exec setpriv --reuid=54321 --regid=54321 --clear-groups /usr/bin/ssh \"$@\"\n\
        echo 'No user exists for uid 54321' >&2; exit 255\n";
    fs::write(folder.join("ssh"), script).expect("a file");
    fs::set_permissions(folder.join("ssh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut command = client.command(OPS, ["ssh", "-F", "none", "web-1", "true"]);
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let said = finish(command.env("PATH", path), b"").exits(255);
    for words in [
        "No user exists for uid 54321",
        "ops: ssh runs for nobody whom the system has no name for",
        "/sh >> /etc/passwd",
        "or do without ssh: ops shell web-1",
    ] {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
}

#[test]
fn a_temporary_folder_that_cannot_be_made_is_named() {
    let client = Client::new();
    let mut command = client.command(OPS, ["ssh", "-F", "none", "web-1", "true"]);
    let said = finish(command.env("TMPDIR", NO_HOME), b"").exits(255);
    assert!(
        said.stderr.contains("export TMPDIR=FOLDER") && said.stderr.contains(NO_HOME),
        "{said:?}"
    );
}
