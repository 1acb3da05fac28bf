//! `ops ls`: what is listed, in which form, and what happens when parts of AWS do not answer.

use std::{
    io::{BufRead as _, BufReader},
    process::Command,
};

use ops_tests::{Lab, service::Service, terminal::Terminal};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

struct Answer {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Answer {
    /// The first word of each line.
    fn names(&self) -> Vec<&str> {
        self.stdout
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect()
    }
}

fn run(command: &mut Command) -> Answer {
    let output = command.output().expect("ops runs");
    Answer {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn ls(service: &Service, args: &[&str]) -> Answer {
    let mut words = vec!["ls", "--no-headers"];
    words.extend(args);
    run(&mut service.ops(&words))
}

#[test]
fn what_runs_is_listed_with_what_is_known_of_its_agent() {
    let service = Service::start(OPS, "");
    let answer = run(&mut service.ops(&["ls", "--columns", "name,id,state,reach,type,zone"]));
    assert_eq!((answer.status, answer.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(answer.stdout, @r"
    NAME      ID                    STATE    REACH       TYPE         ZONE
    bastion   i-0f60718293a4b5c6d   running  ok          t3.micro     eu-west-1b
    build-1   i-07182940a5b6c7d8e   running  no agent    c6i.2xlarge  eu-west-1b
    db-1      i-0e5f60718293a4b5c   running  ok          r6i.large    eu-west-1a
    depot-1   mi-0a4b5c6d7e8f90123  running  ok          -            -
    legacy-1  i-0829304a5b6c7d8e9   running  ok          m5.large     eu-west-1a
    web-1     i-0a1b2c3d4e5f60718   running  ok          t3.medium    eu-west-1a
    web-2     i-0b2c3d4e5f6071829   running  ok          t3.medium    eu-west-1b
    web-3     i-0c3d4e5f60718293a   running  ok          t3.large     eu-west-1a
    worker-1  i-060718293a4b5c6de   running  offline 3d  c6i.xlarge   eu-west-1a
    ");
}

#[test]
fn patterns_tags_states_and_filters_narrow_the_list() {
    let service = Service::start(OPS, "");
    for (args, expected) in [
        (
            &["web-*"] as &[&str],
            &["web-1", "web-2", "web-3"] as &[&str],
        ),
        (
            &["web-1", "i-0e5f60718293a4b5c", "10.0.2.31"],
            &["bastion", "db-1", "web-1"],
        ),
        (&["tag:Role=db"], &["db-1"]),
        (&["depot-1"], &["depot-1"]),
        (
            &["--tag", "Name=web*", "--tag", "Env!=production"],
            &["web-1", "web-2"],
        ),
        (
            &["--tag", "Role=db", "--tag", "Role=web", "--tag", "Team=web"],
            &["db-1", "web-1", "web-2", "web-3"],
        ),
        (
            &[
                "--tag",
                "Env=prod*",
                "--tag",
                "Team=platform",
                "--tag",
                "Role!=w*",
            ],
            &["bastion", "depot-1", "legacy-1"],
        ),
        (&["--state", "stopped"], &["web-4"]),
        (
            &["--state", "all", "web-*"],
            &["web-1", "web-2", "web-3", "web-4"],
        ),
        (
            &["--filter", "instance-type=t3.*"],
            &["bastion", "web-1", "web-2", "web-3"],
        ),
        (&["--offline"], &["build-1", "worker-1"]),
        (
            &["--online", "--tag", "Team=platform"],
            &["bastion", "depot-1", "legacy-1"],
        ),
        (
            &["--sort-by", "-private-ip", "web-*"],
            &["web-2", "web-3", "web-1"],
        ),
    ] {
        let answer = ls(&service, args);
        assert_eq!(answer.status, Some(0), "{args:?}: {}", answer.stderr);
        assert_eq!(answer.names(), expected, "{args:?}");
    }
}

#[test]
fn an_empty_list_says_so_beside_stdout() {
    let service = Service::start(OPS, "");
    let answer = ls(&service, &["nosuch"]);
    assert_eq!((answer.status, answer.stdout.as_str()), (Some(0), ""));
    assert!(
        answer.stderr.contains("no instances in region eu-west-1"),
        "{}",
        answer.stderr
    );
    assert_eq!(ls(&service, &["nosuch", "--fail-empty"]).status, Some(3));
}

#[test]
fn json_is_complete_and_names_are_targets() {
    let service = Service::start(OPS, "");
    let answer = ls(&service, &["-o", "json", "web-1", "depot-1"]);
    let document: serde_json::Value = serde_json::from_str(&answer.stdout).expect("JSON");
    assert_eq!(document["kind"], "InstanceList");
    let (depot, web) = (&document["items"][0], &document["items"][1]);
    assert_eq!(depot["kind"], "hybrid");
    assert_eq!(depot["tags"]["Role"], "depot");
    assert_eq!(web["agent"]["status"], "online");
    assert_eq!(web["privateIp"], "10.0.1.11");
    assert_eq!(web["tags"]["Team"], "web");

    service.change_instance("", r#"{"name": "web-1"}"#);
    let answer = ls(&service, &["-o", "name", "web-*", "--state", "all"]);
    let targets = answer.names();
    assert_eq!(
        targets.iter().filter(|t| t.starts_with("i-")).count(),
        3,
        "{targets:?}"
    );
    // Even when the list shows one of the two only.
    let answer = ls(&service, &["-o", "name", "i-0a1b2c3d4e5f60718"]);
    assert_eq!(answer.stdout, "i-0a1b2c3d4e5f60718\n");
}

#[test]
fn text_of_tags_cannot_drive_a_terminal() {
    let service = Service::start(OPS, "");
    service.change_instance(
        "",
        r#"{"name": "x\u202e\u009b2J\ty", "id": "i-0123456789abcdef0"}"#,
    );
    let answer = ls(&service, &["i-0123456789abcdef0"]);
    assert!(
        answer.stdout.starts_with("x\\u{202e}\\u{9b}2J\\ty  "),
        "{}",
        answer.stdout
    );
}

#[test]
fn agents_that_cannot_be_asked_about_are_unknown_and_the_list_still_comes() {
    for fault in [
        "deny=ssm:DescribeInstanceInformation",
        "fail=ssm:DescribeInstanceInformation",
    ] {
        let service = Service::start(OPS, fault);
        let answer = ls(&service, &["--columns", "name,reach"]);
        assert_eq!(answer.status, Some(0), "{fault}: {}", answer.stderr);
        assert!(
            answer.stdout.contains("web-1     unknown\n"),
            "{fault}: {}",
            answer.stdout
        );
        // Beside it there may be a word about a call that is tried again.
        let notes = answer
            .stderr
            .lines()
            .filter(|line| line.starts_with("note:"));
        assert_eq!(notes.count(), 1, "{fault}: {}", answer.stderr);
    }
}

#[test]
fn one_target_asks_about_its_own_agent_only() {
    let service = Service::start(OPS, "slow=ssm:DescribeInstanceInformation/1s");
    let answer = ls(&service, &["web-1", "--columns", "name,reach"]);
    assert_eq!(answer.stdout, "web-1  ok\n", "{}", answer.stderr);
}

#[test]
fn a_large_fleet_has_no_unknown_agents_where_pages_are_slow() {
    let service = Service::start_with(OPS, |options| {
        options.fleet_size = 2400;
        // One after another they would take twelve seconds.
        options.faults = "slow=ssm:DescribeInstanceInformation/250ms"
            .parse()
            .expect("a fault");
    });
    let answer = ls(&service, &["--columns", "name,reach"]);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.lines().count() > 1000);
    let unknown = answer.stdout.matches("unknown").count();
    assert_eq!((unknown, answer.stderr.as_str()), (0, ""));
}

#[test]
fn throttled_calls_are_repeated() {
    let service = Service::start(OPS, "throttle=ec2:DescribeInstances/2");
    let answer = ls(&service, &["web-1"]);
    assert_eq!(answer.names(), ["web-1"], "{}", answer.stderr);
    let calls = service.calls();
    let count = calls
        .iter()
        .filter(|call| call.ends_with("DescribeInstances"))
        .count();
    assert_eq!(count, 3, "{calls:?}");
}

#[test]
fn a_region_that_fails_does_not_hide_the_others() {
    let service = Service::start(OPS, "deny-region=us-east-1");
    let answer = ls(&service, &["web-*", "--region", "eu-west-1,us-east-1"]);
    assert_eq!(answer.names(), ["web-1", "web-2", "web-3"]);
    assert_eq!(answer.status, Some(8), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("1 of 2 regions"),
        "{}",
        answer.stderr
    );
    let answer = ls(&service, &["--region", "us-east-1"]);
    assert_eq!(answer.status, Some(5), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("`ec2:DescribeInstances`"),
        "{}",
        answer.stderr
    );
    assert!(
        answer.stderr.contains("region `us-east-1`"),
        "{}",
        answer.stderr
    );
}

#[test]
fn every_region_of_the_account_is_asked() {
    let service = Service::start(OPS, "");
    let answer = ls(
        &service,
        &[
            "--all-regions",
            "--columns",
            "name,region",
            "--tag",
            "Team=web",
        ],
    );
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(
        answer.stdout.contains("edge-1  us-east-1\n"),
        "{}",
        answer.stdout
    );
    assert!(
        answer.stdout.contains("web-1   eu-west-1\n"),
        "{}",
        answer.stdout
    );
}

#[test]
fn without_credentials_it_says_how_to_get_them() {
    let service = Service::start(OPS, "");
    let answer = run(service
        .ops(&["ls"])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY"));
    assert_eq!((answer.status, answer.stdout.as_str()), (Some(4), ""));
    assert!(
        answer.stderr.contains("no AWS credentials found"),
        "{}",
        answer.stderr
    );
    assert!(answer.stderr.contains("aws sso login"), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("ops --sandbox ls"),
        "{}",
        answer.stderr
    );
}

#[test]
fn on_a_narrow_terminal_columns_are_left_out_and_ids_stay_whole() {
    let service = Service::start(OPS, "");
    let mut terminal = Terminal::start(&service, &["ls", "--tag", "Name=web*"]);
    terminal.wait_for("i-0c3d4e5f60718293a");
    assert_eq!(terminal.wait(), Some(0));
    let output = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(output.contains("i-0a1b2c3d4e5f60718"), "{output}");
    assert!(!output.contains("ZONE"), "{output}");
    assert!(output.contains("\x1b[32mrunning\x1b[0m"), "{output}");
}

#[test]
fn a_watched_list_goes_on_with_what_changes() {
    let service = Service::start(OPS, "");
    let mut child = service
        .ops(&[
            "ls",
            "web-*",
            "--state",
            "all",
            "--no-headers",
            "--watch=1",
            "--columns",
            "name,state",
        ])
        .spawn()
        .expect("ops runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    let first: Vec<String> = (0..4).map(|_| next()).collect();
    assert_eq!(first[3], "web-4  stopped");
    service.change_instance("web-2", r#"{"state": "stopped"}"#);
    assert!(next().starts_with("web-2  stop"));
    child.kill().expect("it runs still");
    child.wait().expect("it ends");
}

#[test]
fn tags_are_columns_by_name_or_all_in_one_and_a_slip_in_the_case_is_told() {
    let lab = Lab::with_sandbox();
    let list = |args: &[&str]| {
        lab.ops([&["ls", "web-1"], args].concat())
            .output()
            .success()
    };
    let done = list(&["-L", "Team,Env"]);
    let head = done.stdout.lines().next().unwrap_or_default();
    assert!(head.ends_with("AGE  TEAM  ENV"), "{done}");
    assert!(done.stdout.contains("web   staging"), "{done}");
    assert_eq!(done.stderr, "");
    let done = list(&["--columns", "name,tag:Role", "--show-tags"]);
    assert_eq!(
        done.stdout,
        "NAME   ROLE  TAGS\nweb-1  web   Env=staging,Role=web,Team=web\n"
    );
    assert_eq!(
        list(&["--columns", "tags", "--no-headers"]).stdout,
        "Env=staging,Role=web,Team=web\n"
    );
    let done = list(&["-L", "team"]);
    let note = "nothing in this list has a tag `team`; there is `Team`: -L Team\n";
    assert_eq!(done.stderr, note);
    assert_eq!(list(&["-L", "Nosuch"]).stderr, "");
}

#[test]
fn what_comes_near_is_proposed_where_nothing_matches() {
    let service = Service::start(OPS, "");
    for (args, near) in [
        (&["wbe-1"][..], "did you mean `web-1`?"),
        (&["--tag", "Role=wbe"], "did you mean --tag Role=web?"),
        (&["--tag", "role=web"], "did you mean --tag Role=web?"),
        // Only what the other conditions let be found.
        (&["wbe-1", "--tag", "Role=web"], "did you mean `web-1`?"),
    ] {
        let answer = ls(&service, args);
        assert_eq!((answer.status, answer.stdout.as_str()), (Some(0), ""));
        assert!(answer.stderr.contains(near), "{args:?}: {}", answer.stderr);
    }
    for args in [
        &["wbe-1", "--tag", "Role=db"][..],
        &["nothing-like-it"],
        &["i-00000000000000000"],
        &["--tag", "Role!=*"],
    ] {
        let answer = ls(&service, args);
        assert!(!answer.stderr.contains("did you mean"), "{}", answer.stderr);
    }
}
