//! `ops ssh-config`: its text, and what it does to the user's own file.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use ops_test_needs::needs;

use crate::client::{Client, WEB_1, WEB_2, text};

const OWN: &str =
    "# mine\nForwardAgent yes\n\nHost web-1\n  User somebody\n\nHost *\n  ServerAliveInterval 7\n";

fn options(client: &Client, config: &str, name: &str, key: &str) -> Vec<String> {
    let lines = client.asked_of_ssh(config, name).expect("a host");
    let key = format!("{key} ");
    lines
        .iter()
        .filter_map(|line| line.strip_prefix(&key).map(str::to_owned))
        .collect()
}

#[test]
fn what_is_printed_can_be_appended_and_says_everything_the_profile_says() {
    needs!("ssh");
    let client = Client::new();
    client.profile(
        "team",
        r#"
ssh:
  user: ec2-user
  users: [{ match: { tags: { Role: db } }, user: admin }]
  port: 2222
  identity_file: ~/.ssh/team key
  host_prefix: stg-
  control_master: true
  local_forwards: ["8080:localhost:80", "127.0.0.1:3307:[fd00::1]:3306"]
  options: { ServerAliveInterval: 30, RekeyLimit: "1G 1h", SetEnv: "A=1 B=2" }
hosts:
  db-1: { target: db-1, ssh: { port: 22, host_keys: off } }
"#,
    );
    let said = client.ops(["-p", "team", "ssh-config"]).success();
    assert!(
        said.stdout
            .starts_with("# >>> ops team >>>\n# Written by `ops ssh-config`"),
        "{said:?}"
    );
    assert!(
        said.stdout
            .contains("Refresh: ops -p team ssh-config >> ~/.ssh/config"),
        "{said:?}"
    );
    let config = client.write("config", &format!("Host other\n  Port 9\n{}", said.stdout));
    let of = |name: &str, key: &str| options(&client, text(&config), name, key);
    let home = text(client.home());
    let one = |value: &str| vec![value.to_owned()];
    for name in ["stg-web-1", WEB_1] {
        assert_eq!(of(name, "hostname"), one(WEB_1));
        assert_eq!(of(name, "hostkeyalias"), one(WEB_1));
        assert_eq!(of(name, "user"), one("ec2-user"));
        assert_eq!(of(name, "port"), one("2222"));
        assert_eq!(
            of(name, "identityfile"),
            one(&format!("{home}/.ssh/team key"))
        );
        assert_eq!(of(name, "stricthostkeychecking"), one("accept-new"));
        assert_eq!(
            of(name, "userknownhostsfile"),
            one(&format!("{home}/.local/state/ops/ssh/known_hosts"))
        );
        assert_eq!(of(name, "controlmaster"), one("auto"));
        assert_eq!(of(name, "controlpersist"), one("60"));
        assert_eq!(of(name, "serveraliveinterval"), one("30"));
        assert_eq!(of(name, "rekeylimit"), one("1073741824 3600"));
        assert_eq!(of(name, "setenv"), ["A=1", "B=2"]);
        assert_eq!(
            of(name, "localforward"),
            ["8080 [localhost]:80", "[127.0.0.1]:3307 [fd00::1]:3306"]
        );
        let path = of(name, "controlpath").remove(0);
        assert!(path.len() + 17 < 104, "{path}");
        let proxy = of(name, "proxycommand").remove(0);
        let ops = proxy
            .strip_suffix(" --profile team --region eu-west-1 ssh-proxy --on-terminal -- %h %p");
        assert!(ops.is_some_and(|path| path.starts_with('/')), "{proxy}");
    }
    assert_eq!(of("stg-db-1", "user"), one("admin"));
    assert_eq!(of("stg-db-1", "port"), one("22"));
    assert_eq!(of("stg-db-1", "userknownhostsfile"), one("/dev/null"));
    // Ids that have no entry, of either kind.
    for id in ["i-00000000000000000", "mi-00000000000000000"] {
        assert_eq!(of(id, "hostname"), one(id));
        assert!(of(id, "proxycommand")[0].ends_with(" ssh-proxy --on-terminal -- %h %p"));
    }
    assert_eq!(of("other", "port"), one("9"));
    // The region's own, and the same selectors as `ops ls`.
    let said = client
        .ops([
            "-p",
            "team",
            "ssh-config",
            "--all-regions",
            "--tag",
            "Role=edge",
            "--state",
            "all",
        ])
        .success();
    assert!(
        said.stdout
            .contains("Host stg-edge-1 i-093a4b5c6d7e8f901\n")
            && said.stdout.contains("--region us-east-1"),
        "{said:?}"
    );
    assert!(!said.stdout.contains("stg-web-1"), "{said:?}");
}

#[test]
fn installing_again_changes_nothing_and_uninstalling_gives_everything_back() {
    needs!("ssh-keygen");
    let client = Client::with_key();
    let config = client.write(".ssh/config", OWN);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).expect("permissions");

    let diff = client.ops(["-p", "team", "ssh-config", "--diff"]).success();
    assert!(diff.stdout.contains("+Include ops/*.conf\n"), "{diff:?}");
    assert_eq!(fs::read_to_string(&config).expect("a file"), OWN);
    assert!(!client.home().join(".ssh/ops").exists());

    let said = client
        .ops(["-p", "team", "ssh-config", "--install"])
        .success();
    let installed = fs::read_to_string(&config).expect("a file");
    assert!(
        installed.starts_with(OWN) && installed.contains("\nMatch all\nInclude ops/*.conf\n"),
        "{installed}"
    );
    assert_eq!(
        fs::metadata(&config).expect("a file").permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(
        fs::read_to_string(client.home().join(".ssh/config.ops-backup")).expect("a backup"),
        OWN
    );
    // The user's own entry comes before ours and would be mixed with it, so ours must not be there.
    assert!(
        said.stderr.contains("no entry here for web-1: ")
            && said.stderr.contains("ssh.host_prefix"),
        "{said:?}"
    );
    let of = |name: &str, key: &str| options(&client, &client.config(), name, key);
    assert_eq!(of("web-1", "hostname"), ["web-1"]);
    assert_eq!(of("web-1", "user"), ["somebody"]);
    assert_eq!(of("web-2", "hostname"), [WEB_2]);
    assert_eq!(of(WEB_1, "hostname"), [WEB_1]);
    // What stands before the first entry still holds everywhere, which is said.
    assert!(
        said.stderr
            .contains("wins over these entries: ForwardAgent yes;"),
        "{said:?}"
    );
    for name in ["web-2", "elsewhere"] {
        assert_eq!(of(name, "forwardagent"), ["yes"]);
        assert_eq!(of(name, "serveraliveinterval"), ["7"]);
    }

    let said = client
        .ops(["-p", "team", "ssh-config", "--install"])
        .success();
    assert!(said.stderr.contains("everything is up to date"), "{said:?}");
    assert_eq!(
        client
            .ops(["-p", "team", "ssh-config", "--diff"])
            .success()
            .stdout,
        ""
    );
    assert_eq!(fs::read_to_string(&config).expect("a file"), installed);

    client
        .ops(["-p", "team", "ssh-config", "--uninstall"])
        .success();
    assert_eq!(fs::read_to_string(&config).expect("a file"), OWN);
    assert!(!client.home().join(".ssh/ops").exists());
    let said = client
        .ops(["-p", "team", "ssh-config", "--uninstall"])
        .success();
    assert!(
        said.stderr.contains("nothing was installed for `team`"),
        "{said:?}"
    );
}

#[test]
fn a_linked_configuration_is_changed_where_it_lies() {
    needs!("ssh-keygen");
    let client = Client::with_key();
    let real = client.write("dotfiles/ssh-config", "Host *\n  User me\n");
    symlink("../dotfiles/ssh-config", client.home().join(".ssh/config")).expect("a link");
    let client = client.installed("team");
    assert!(
        fs::symlink_metadata(client.home().join(".ssh/config"))
            .expect("a link")
            .is_symlink()
    );
    assert!(
        fs::read_to_string(&real)
            .expect("a file")
            .contains("Include ops/*.conf")
    );
    client
        .ops(["-p", "team", "ssh-config", "--uninstall"])
        .success();
    assert_eq!(
        fs::read_to_string(&real).expect("a file"),
        "Host *\n  User me\n"
    );
}

#[test]
fn two_profiles_stand_side_by_side() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    let key = client.home().join("id");
    client.profile(
        "web",
        &format!(
            "select: {{ tags: {{ Team: web }} }}\nssh: {{ user: web, identity_file: {} }}\n",
            text(&key)
        ),
    );
    client.profile("all", "ssh: { user: all, auth: agent }\n");
    client
        .ops(["-p", "web", "ssh-config", "--install"])
        .success();
    let said = client
        .ops(["-p", "all", "ssh-config", "--install"])
        .success();
    assert!(said.stderr.contains("hosts-web.conf has them"), "{said:?}");
    assert!(
        said.stderr.contains("ids-all.conf and ids-web.conf"),
        "{said:?}"
    );
    let of = |name: &str, key: &str| options(&client, &client.config(), name, key).remove(0);
    assert_eq!(of("web-1", "user"), "web");
    assert!(of("web-1", "proxycommand").contains("--profile web "));
    assert_eq!(of("bastion", "user"), "all");
    assert!(of("bastion", "proxycommand").contains("--profile all "));
    assert_eq!(
        client.ssh(["web-1", "echo $LOGNAME"]).success().stdout,
        "web\n"
    );
    // Refreshing either changes neither.
    for name in ["web", "all"] {
        assert_eq!(
            client
                .ops(["-p", name, "ssh-config", "--diff"])
                .success()
                .stdout,
            "",
            "{name}"
        );
    }
    client
        .ops(["-p", "web", "ssh-config", "--uninstall"])
        .success();
    assert_eq!(of("bastion", "user"), "all");
    client
        .ops(["-p", "all", "ssh-config", "--install"])
        .success();
    assert_eq!(of("web-1", "user"), "all");
}

#[test]
fn a_folder_of_ssh_that_cannot_be_read_is_named_with_its_purpose_and_its_variable() {
    let client = Client::new();
    // A file where the folder has to be: not even root can read below it.
    fs::remove_dir(client.home().join(".ssh")).expect("an empty folder");
    client.write(".ssh", "");
    for what in ["--install", "--uninstall"] {
        let said = client.ops(["ssh-config", what]).exits(1);
        for words in ["cannot keep entries for ssh in", "export HOME=FOLDER"] {
            assert!(said.stderr.contains(words), "{said:?}");
        }
    }
}
