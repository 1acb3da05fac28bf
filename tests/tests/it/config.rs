//! Settings and profiles that are written by `ops config`: comments stay, and nothing wrong is put
//! in place.

use std::fs;

use ops_tests::{Lab, service::Service, terminal::Terminal};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

const SHOP: &str = "# ours\naws: { region: eu-west-1 } # here\nguard:\n  max_targets: 3 # few\n";

#[test]
fn a_key_is_set_and_taken_out_and_comments_stay() {
    let lab = Lab::new();
    let shop = lab.profile("shop", SHOP);
    let read = || fs::read_to_string(&shop).expect("the profile");
    let run = |words: &[&str]| {
        lab.ops(["-p", "shop", "config"].iter().chain(words))
            .output()
    };

    run(&["set", "guard.max_targets", "5"]).success();
    run(&["set", "aws.account", "111122223333"]).success();
    run(&["set", "select.tags.Team", "shop"]).success();
    run(&["set", "guard.deny", "[cp, ssh]"]).success();
    let text = read();
    for part in [
        "max_targets: 5 # few",
        "account: '111122223333'",
        "deny: [cp, ssh]",
        "# ours",
        "# here",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    run(&["unset", "guard.deny"]).success();
    assert!(!read().contains("deny"), "{}", read());
    lab.ops(["config", "validate", "shop"]).output().success();

    // What is wrong is told, and changes nothing.
    let before = read();
    let wrong = run(&["set", "guard.max_targets", "many"]).exits(2);
    assert!(wrong.stderr.contains("max_targets"), "{}", wrong.stderr);
    let unknown = run(&["set", "guard.maxtargets", "5"]).exits(2);
    assert!(
        unknown.stderr.contains("max_targets"),
        "the near key: {}",
        unknown.stderr
    );
    assert_eq!(read(), before);
}

#[test]
fn without_p_it_is_the_users_own_file_that_changes() {
    let lab = Lab::new();
    lab.profile("shop", SHOP);
    let own = lab.home().join(".config/ops/config.yaml");
    lab.ops(["config", "set", "output", "wide"])
        .output()
        .success();
    // A profile of the environment is not what somebody who changes a setting looks at.
    lab.ops(["config", "use", "shop"]).output().success();
    assert_eq!(
        fs::read_to_string(&own).expect("config.yaml"),
        "output: wide\nprofile: shop\n"
    );
    let shown = lab
        .ops(["config", "show", "-o", "json"])
        .output()
        .success()
        .json();
    let is_profile = |row: &&serde_json::Value| row["name"] == "profile";
    let rows = shown["settings"].as_array().expect("rows");
    assert_eq!(
        rows.iter().find(is_profile).expect("a row")["value"],
        "shop"
    );

    let near = lab.ops(["config", "use", "shp"]).output().exits(2);
    assert!(near.stderr.contains("shop"), "{}", near.stderr);
    // The word is no `-p`: a hint that is run as it stands must work.
    assert!(!near.stderr.contains("-p shp"), "{}", near.stderr);
    lab.ops(["config", "use", "--none"]).output().success();
    assert_eq!(
        fs::read_to_string(&own).expect("config.yaml"),
        "output: wide\n"
    );
}

#[test]
fn no_time_at_all_is_no_timeout_in_the_users_own_file_either() {
    let lab = Lab::new();
    for (set, why) in [("0", "no time at all"), ("0s", "no time at all")] {
        let done = lab.ops(["config", "set", "timeout", set]).output().exits(2);
        assert!(done.stderr.contains(why), "{set}: {done}");
    }
    lab.ops(["config", "set", "timeout", "90"])
        .output()
        .success();
}

#[test]
fn two_profiles_are_compared_with_what_they_extend() {
    let lab = Lab::new();
    lab.profile("shop", SHOP);
    lab.profile(
        "shop-prod",
        "extends: shop\naws: { region: us-east-1 }\nssh: { user: root }\n",
    );
    let done = lab
        .ops(["config", "diff", "shop", "shop-prod", "-o", "json"])
        .output()
        .success()
        .json();
    let keys: Vec<&str> = done["differences"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["key"].as_str())
        .collect();
    assert_eq!(keys, ["aws.region", "ssh.user"]);
}

#[test]
fn a_first_profile_comes_from_a_line_or_from_five_answers() {
    let lab = Lab::new();
    lab.write(".aws/config", "[profile store]\nregion = eu-central-1\n");
    let line = [
        "config",
        "init",
        "shop",
        "--aws-profile",
        "store",
        "--select",
        "Team=a.b: c",
    ];
    let done = lab.ops(line).output().success();
    // The profile holds what the line says: nothing is said twice.
    assert!(
        done.stderr.contains("its servers: ops -p shop ls"),
        "{done}"
    );
    let path = lab.home().join(".config/ops/profiles/shop.yaml");
    let text = fs::read_to_string(&path).expect("the profile");
    for part in [
        "profile: store #",
        "region: eu-central-1",
        "Team: 'a.b: c'",
        "# guard:",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    assert!(!text.contains("USER"), "{text}");
    lab.ops(["config", "validate", "shop"]).output().success();
    lab.ops(line).output().exits(2);
    lab.ops(["config", "init"]).output().exits(2);

    let service = Service::start(OPS, "");
    let mut terminal = Terminal::start(&service, &["config", "init"]);
    for (question, answer) in [
        ("Name of the profile", "web\r"),
        ("AWS profile", "\r"),
        ("Tag of your servers", "Team=web\r"),
        ("User for ssh", "ec2-user\r"),
    ] {
        terminal.wait_for(question);
        terminal.send(answer);
        if question == "AWS profile" {
            terminal.wait_for("Region");
            terminal.send("eu-west-1\r");
        }
    }
    assert_eq!(terminal.wait(), Some(0));
    let written = service.home().join(".config/ops/profiles/web.yaml");
    let text = fs::read_to_string(written).expect("the profile");
    assert!(
        text.contains("Team: web") && text.contains("user: ec2-user"),
        "{text}"
    );
}

#[test]
fn an_editor_puts_nothing_wrong_in_place() {
    let service = Service::start(OPS, "");
    let profiles = service.home().join(".config/ops/profiles");
    fs::create_dir_all(&profiles).expect("a folder");
    let shop = profiles.join("shop.yaml");
    fs::write(&shop, SHOP).expect("the profile");
    let edit = |program: &str| {
        let line = format!("sh -c '{program}' editor");
        Terminal::start_with(&service, &["config", "edit", "shop"], |command| {
            command.env("EDITOR", line)
        })
    };

    let mut wrong = edit("echo nosuch: 1 >> $1");
    wrong.wait_for("nosuch");
    wrong.wait_for("Edit it again?");
    wrong.send("n\r");
    assert_eq!(wrong.wait(), Some(2));
    assert_eq!(fs::read_to_string(&shop).expect("the profile"), SHOP);

    let mut right = edit("echo description: Shop >> $1");
    assert_eq!(right.wait(), Some(0));
    let text = fs::read_to_string(&shop).expect("the profile");
    assert_eq!(text, format!("{SHOP}description: Shop\n"));
}

#[test]
fn what_other_tools_have_becomes_a_profile_and_the_rest_is_named() {
    let lab = Lab::new();
    let gate = lab.write(
        "gate",
        "defaults: {profile: dev, region: eu-west-1}\nhosts:\n  - {alias: be, name: backend-1}\n  - {alias: pay, name: pay-1, profile: pay}\n",
    );
    let done = lab
        .ops(["config", "import", "aws-gate", &gate.to_string_lossy()])
        .output()
        .success();
    assert!(
        done.stdout.contains("target: backend-1") && done.stdout.contains("profile: dev"),
        "{done}"
    );
    assert!(done.stderr.contains("pay: AWS profile pay"), "{done}");

    let ssh = lab.write(
        "ssh_config",
        "Host bastion\n  HostName i-0a1b2c3d4e5f60718\n  User ubuntu\n  Port 2222\n  LocalForward 3307 db.internal:3306\n  ProxyCommand sh -c \"aws ssm start-session --target %h --region eu-west-1 --profile dev\"\n  Compression yes\nHost *.example.com\n  User me\n",
    );
    let path = ssh.to_string_lossy();
    lab.ops(["config", "import", "ssh-config", &path, "--name", "dev"])
        .output()
        .success();
    let text = fs::read_to_string(lab.home().join(".config/ops/profiles/dev.yaml")).expect("it");
    for part in [
        "target: i-0a1b2c3d4e5f60718",
        "user: ubuntu",
        "port: 2222",
        "region: eu-west-1",
        "via: bastion",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    lab.ops(["config", "validate", "dev"]).output().success();
    let said = lab
        .ops(["config", "import", "ssh-config", &path])
        .output()
        .success()
        .stderr;
    assert!(
        said.contains("compression") && said.contains("*.example.com"),
        "{said}"
    );

    let aws = lab.write(
        "aws",
        "[profile a]\nregion = eu-west-1\nsso_account_id = 111122223333\n[profile b]\n",
    );
    let path = aws.to_string_lossy();
    lab.ops(["config", "import", "aws-config", &path])
        .output()
        .exits(2);
    let done = lab
        .ops([
            "config",
            "import",
            "aws-config",
            &path,
            "--aws-profile",
            "a",
        ])
        .output();
    let done = done.success();
    assert!(
        done.stdout.contains("111122223333") && done.stderr.contains("they stay"),
        "{done}"
    );
}

/// Makes a clone of a team's repository out of `folder`.
fn make_clone(lab: &Lab, folder: &str) {
    let path = lab.home().join(folder);
    let url = "https://alice:secret@git.example.com/web/ops-profiles.git";
    for words in [
        &["init", "-q"][..],
        &["add", "."],
        &["commit", "-q", "-m", "profiles"],
        &["remote", "add", "origin", url],
        // A setting of the clone must start no program when profiles are listed.
        &["config", "core.fsmonitor", "touch fsmonitor-was-run; false"],
    ] {
        lab.run("git", words)
            .current_dir(&path)
            .env("GIT_AUTHOR_NAME", "A")
            .env("GIT_AUTHOR_EMAIL", "a@example.com")
            .env("GIT_COMMITTER_NAME", "A")
            .env("GIT_COMMITTER_EMAIL", "a@example.com")
            .env("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z")
            .output()
            .success();
    }
}

#[test]
fn profiles_of_a_clone_are_listed_with_source_commit_and_age() {
    ops_test_needs::needs!("git");
    let lab = Lab::new();
    lab.write("team/web.yaml", "description: Web\n");
    make_clone(&lab, "team");
    lab.write("team/mine.yaml", "description: Not in the repository\n");
    lab.profile("own", "description: Of this user\n");
    let folder = lab.home().join("team");
    let list = |words: &[&str]| {
        lab.ops(["config", "profiles"].iter().chain(words))
            .env("OPS_PROFILES_DIR", &folder)
            // Variables of a hook that `ops` runs in name another repository.
            .env("GIT_DIR", "/nonexistent")
            .output()
            .success()
    };
    let head = lab
        .run("git", ["rev-parse", "HEAD"])
        .current_dir(&folder)
        .output()
        .success()
        .stdout;
    let document = list(&["-o", "json"]).json();
    let clone_of = |name: &str| {
        let rows = document["profiles"].as_array().expect("a list");
        let row = rows.iter().find(|row| row["name"] == name);
        row.expect("the profile")["clone"].clone()
    };
    let web = clone_of("web");
    assert_eq!(
        web["source"],
        "https://git.example.com/web/ops-profiles.git"
    );
    assert_eq!(web["commit"], head.trim());
    assert_eq!(web["committed"], "2026-01-02T03:04:05Z");
    assert_eq!(clone_of("mine"), web, "the clone that the folder is");
    assert_eq!(clone_of("own"), serde_json::Value::Null);

    let table = list(&[]).stdout;
    let line = table.lines().find(|line| line.contains("Web"));
    let line = line.expect("the profile");
    for part in ["git.example.com/web/ops-profiles", &head[..7]] {
        assert!(line.contains(part), "{part} in: {table}");
    }
    for title in ["SOURCE", "COMMIT", "AGE"] {
        assert!(table.contains(title), "{table}");
    }
    assert!(!table.contains("secret"), "{table}");
    assert!(!folder.join("fsmonitor-was-run").exists());

    // Without a clone the table has no columns for one; without git it is a list all the same.
    let table = lab.ops(["config", "profiles"]).output().success().stdout;
    assert!(!table.contains("COMMIT"), "{table}");
    let table = list(&[]);
    assert!(table.stderr.is_empty(), "{table}");
    let without = lab
        .ops(["config", "profiles"])
        .env("OPS_PROFILES_DIR", &folder)
        .env("PATH", "/nonexistent")
        .output()
        .success();
    assert!(without.stdout.contains("Web"), "{without}");
}
