//! Who is let in, and whom one is connected to: EC2 Instance Connect and host keys.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ops_test_needs::needs;

use crate::client::{Client, DEPOT_1, OPS, WEB_1, WEB_2, finish, text, wait_until};

const CONNECT: &str = "ssh: { user: ec2-user, auth: instance-connect }\n";

#[test]
fn plain_ssh_needs_no_key_of_the_users_where_the_profile_says_instance_connect() {
    needs!("ssh", "rsync");
    let client = Client::new();
    client.profile("connect", CONNECT);
    let said = client
        .ops(["-p", "connect", "ssh-config", "--install"])
        .success();
    assert!(
        said.stderr
            .contains("1 hybrid nodes (mi-…) have no EC2 Instance Connect"),
        "{said:?}"
    );
    for target in ["web-1", WEB_1] {
        assert_eq!(client.ssh([target, "uname"]).success().stdout, "Linux\n");
    }
    assert_eq!(client.calls("SendSSHPublicKey"), 2);
    let hosts = fs::read_to_string(client.home().join(".ssh/ops/hosts-connect.conf"));
    assert!(hosts.is_ok_and(|text| text.contains(" --zone eu-west-1a -- %h %p\n")));
    let key = client.home().join(".local/state/ops/ssh/instance-connect");
    let mode = fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // rsync and the like go the same way, and so does an id without an entry.
    client
        .ops(["-p", "connect", "ssh-config", "--install", "web-1"])
        .success();
    let config = client.config();
    client.write("file", "text");
    let shell = format!("ssh -F {config}");
    client
        .run(
            "rsync",
            [
                "-a",
                "-e",
                &shell,
                text(&client.home().join("file")),
                &format!("{WEB_2}:"),
            ],
        )
        .success();
    assert_eq!(
        fs::read_to_string(client.state(WEB_2).join("home/file")).expect("a file"),
        "text"
    );

    // The key lets in the user it was pushed for.
    let said = client.ssh(["root@web-1", "true"]).exits(255);
    assert!(
        said.stderr.contains("Permission denied (publickey)"),
        "{said:?}"
    );
    // EC2 alone: a node takes the user's own key, and nothing is pushed.
    let pushed = client.calls("SendSSHPublicKey");
    client.ssh([DEPOT_1, "true"]).exits(255);
    assert_eq!(client.calls("SendSSHPublicKey"), pushed);
}

#[test]
fn a_key_for_the_moment_is_pushed_for_the_right_user_and_wiped() {
    needs!("ssh");
    let client = Client::new();
    let folder = client.home().join("tmp");
    fs::create_dir(&folder).expect("a folder");
    let ssh = |args: &[&str]| {
        let mut command = client.command(
            OPS,
            ["ssh", "-F", "none", "--instance-connect"]
                .iter()
                .chain(args),
        );
        command.env("TMPDIR", &folder);
        finish(&mut command, b"")
    };
    for (args, user) in [
        (&["me@web-1"][..], "me"),
        (&["--user", "you", WEB_1], "you"),
        (&["web-1", "-l", "we"], "we"),
        (&["me@web-1", "-o", "User=they"], "they"),
    ] {
        let said = ssh(&[args, &["echo $LOGNAME; ls -ld $0"]].concat());
        assert_eq!(said.stdout.lines().next(), Some(user), "{said:?}");
    }
    assert_eq!(client.calls("SendSSHPublicKey"), 4);
    let left: Vec<_> = fs::read_dir(&folder).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");

    let said = ssh(&["web-1"]).exits(255);
    assert!(
        said.stderr.contains("no user is known for `web-1`")
            && said.stderr.contains("ec2-user@web-1"),
        "{said:?}"
    );
    let said = ssh(&["me@depot-1", "true"]).exits(255);
    assert!(
        said.stderr
            .contains("EC2 Instance Connect knows EC2 instances only"),
        "{said:?}"
    );
    client
        .service
        .set_faults("deny=ec2-instance-connect:SendSSHPublicKey");
    let said = ssh(&["me@web-1", "true"]).exits(255);
    assert!(
        said.stderr
            .contains("the caller lacks `ec2-instance-connect:SendSSHPublicKey`"),
        "{said:?}"
    );
}

#[test]
fn a_shared_connection_pushes_once_and_its_successor_again() {
    needs!("ssh");
    let client = Client::new();
    client.profile(
        "connect",
        "ssh: { user: ec2-user, auth: instance-connect, control_master: true }\n",
    );
    let ssh = |args: &[&str]| {
        client
            .ops(
                ["-p", "connect", "ssh", "-F", "none", "web-1"]
                    .iter()
                    .chain(args),
            )
            .success()
    };
    for pushes in [1, 2] {
        ssh(&["true"]);
        ssh(&["true"]);
        assert_eq!(client.calls("SendSSHPublicKey"), pushes);
        ssh(&["-O", "exit"]);
        client.all_ended(pushes);
    }
}

#[test]
fn who_is_not_let_in_is_told_who_was_tried_with_which_keys_and_what_to_try() {
    needs!("ssh", "ssh-keygen", "ssh-agent", "ssh-add");
    let client = Client::new();
    let key = client.home().join("mine");
    let make = [
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-C",
        "me@laptop",
        "-f",
        text(&key),
    ];
    client.run("ssh-keygen", make).success();
    let file = format!("IdentityFile={}", text(&key));
    let none = [
        "ssh",
        "-F",
        "none",
        "-o",
        "IdentityFile=none",
        "root@web-1",
        "true",
    ];
    let mine = ["ssh", "-F", "none", "-o", &file, "root@web-1", "true"];
    let refused = |args: &[&str], agent: Option<&str>| {
        let mut command = client.command(OPS, args);
        match agent {
            Some(socket) => command.env("SSH_AUTH_SOCK", socket),
            None => command.env_remove("SSH_AUTH_SOCK"),
        };
        let said = finish(&mut command, b"").exits(255);
        let told = said
            .stderr
            .find("Permission denied (publickey)")
            .expect("ssh's own words");
        said.stderr[told..].to_owned()
    };
    let told = refused(&none, None);
    assert!(
        told.contains("did not let root in: no SSH key was found"),
        "{told}"
    );
    for what in [
        "ops ssh ec2-user@web-1",
        "`ssh.user`",
        "-i FILE",
        "--instance-connect",
    ] {
        assert!(told.contains(what), "{told}");
    }
    let told = refused(&mine, None);
    assert!(
        told.contains(&format!("root in with any of: {}\n", text(&key))),
        "{told}"
    );

    let socket = client.home().join("agent");
    let mut agent = client
        .command("ssh-agent", ["-D", "-a", text(&socket)])
        .spawn()
        .expect("an agent");
    wait_until("the agent listens", || socket.exists());
    let mut add = client.command("ssh-add", ["-q", text(&key)]);
    finish(add.env("SSH_AUTH_SOCK", &socket), b"").success();
    let told = refused(&none, Some(text(&socket)));
    agent.kill().expect("it runs");
    agent.wait().expect("its end");
    assert!(
        told.contains("with any of: the agent's key `me@laptop`"),
        "{told}"
    );

    let mut terminal = client.terminal(OPS, &none);
    terminal.wait_for("Permission denied (publickey)");
    terminal.wait_for("--instance-connect");
    assert_eq!(terminal.wait(), Some(255));
}

#[test]
fn a_pushed_key_that_opens_nothing_and_a_command_that_ends_with_255_are_told_apart() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    // The key is pushed for one user, and ssh logs in as another one: its own `-l` counts.
    client.profile("connect", CONNECT);
    let ours = [
        "-p",
        "connect",
        "ssh",
        "-F",
        "none",
        "-o",
        "PubkeyAuthentication=no",
        "web-1",
    ];
    let said = client.ops(ours).exits(255);
    assert!(
        said.stderr
            .contains("with the key of the moment that EC2 Instance Connect pushed"),
        "{said:?}"
    );
    let ours = ["-p", "team", "ssh", "-F", "none", "web-1", "exit 255"];
    let said = client.ops(ours).exits(255);
    assert!(!said.stderr.contains("ops: "), "{said:?}");
    // A log of the user's own gets ssh's messages.
    let log = client.home().join("log");
    let ours = ["ssh", "-F", "none", "-E", text(&log), "root@web-1", "true"];
    let said = client.ops(ours).exits(255);
    assert_eq!(said.stderr, "");
    let log = fs::read_to_string(log).expect("a log");
    assert!(log.contains("Permission denied (publickey)"), "{log}");
}

#[test]
fn host_keys_are_pinned_before_the_first_contact_and_insisted_on_afterwards() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    let known_hosts = client.home().join(".local/state/ops/ssh/known_hosts");
    let pinned = |id: &str| {
        let text = fs::read_to_string(&known_hosts).unwrap_or_default();
        let public =
            fs::read_to_string(client.state(id).join("ssh_host_ed25519_key.pub")).expect("a key");
        let key: Vec<&str> = public.split_whitespace().take(2).collect();
        text.lines()
            .any(|line| line == format!("{id} {}", key.join(" ")))
    };
    let ours = [
        "-p",
        "team",
        "ssh",
        "-F",
        "none",
        "--host-keys",
        "ssm",
        "web-1",
        "uname",
    ];
    let said = client.ops(ours).success();
    assert_eq!(said.stdout, "Linux\n");
    assert!(!said.stderr.contains("Permanently added"), "{said:?}");
    assert!(pinned(WEB_1));
    // Known from now on: nothing is asked.
    let before = client.calls("StartSession");
    client.ops(ours).success();
    assert_eq!(client.calls("StartSession"), before + 1);

    // Plain ssh pins at its first contact too where the profile says so.
    client.profile("pinning", "extends: team\nssh: { host_keys: ssm }\n");
    client
        .ops(["-p", "pinning", "ssh-config", "--install"])
        .success();
    let said = client.ssh(["web-2", "uname"]).success();
    assert!(
        said.stderr.contains("pinned 1 host keys") && pinned(WEB_2),
        "{said:?}"
    );

    // Another server in its place.
    let key = client.state(WEB_2).join("ssh_host_ed25519_key");
    fs::remove_file(&key).expect("a key");
    fs::remove_file(key.with_extension("pub")).expect("a key");
    let said = client.ssh(["web-2", "uname"]).exits(255);
    let changed = format!("the host key of `{WEB_2}` has changed");
    assert!(
        said.stderr.contains(&changed) && said.stderr.contains("ssh-keygen -R"),
        "{said:?}"
    );
    // An entry of the user's for every host that checks nothing makes no difference to that.
    let own = "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n";
    client.write(".ssh/config", own);
    let said = client
        .ops(["-p", "pinning", "ssh-config", "--install"])
        .success();
    assert!(
        said.stderr.contains("StrictHostKeyChecking false"),
        "{said:?}"
    );
    let said = client.ssh(["web-2", "uname"]).exits(255);
    assert!(said.stderr.contains(&changed), "{said:?}");
    assert_eq!(client.ssh(["web-1", "uname"]).success().stdout, "Linux\n");
}
