//! From words to a command, and what its end means.

use std::ffi::OsStr;

use ops_tests::Lab;

#[test]
fn a_slip_is_answered_with_what_was_meant_and_never_run() {
    let done = Lab::new().ops(["vresion"]).output().exits(2);
    assert_eq!(done.stdout, "");
    insta::assert_snapshot!(done.stderr, @r"
    error: there is no command `vresion`
      why: it is not built in, no alias of the profile, and no `ops-vresion` is on PATH
      hint: did you mean: ops version
      hint: see all commands: ops --help
    ");
}

#[test]
fn a_slip_in_an_option_is_answered_too() {
    let done = Lab::new()
        .ops(["config", "show", "--outptu", "json"])
        .output()
        .exits(2);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("did you mean `--output`?"), "{done}");
    assert!(done.stderr.contains("ops config show --help"), "{done}");
}

#[test]
fn a_verb_without_its_target_shows_its_short_page() {
    for verb in ["shell", "ssh", "config", "wait", "completion"] {
        let done = Lab::new().ops([verb]).output().exits(2);
        assert_eq!(done.stdout, "", "{verb}");
        assert!(done.stderr.contains("Usage: ops "), "{done}");
    }
}

#[test]
fn errors_are_one_json_object_when_asked_for_even_those_of_usage() {
    let lab = Lab::new();
    for words in [
        ["--error-format=json", "nosuch"].as_slice(),
        &["version", "--nosuch", "--error-format", "json"],
    ] {
        let done = lab.ops(words).output().exits(2);
        let error: serde_json::Value = serde_json::from_str(&done.stderr).expect("JSON");
        assert_eq!(error["code"], "OPS-E-USAGE", "{done}");
    }
}

#[test]
fn global_options_work_before_and_after_the_verb_and_the_last_one_wins() {
    let lab = Lab::new();
    let region = |words: &[&str]| {
        let rows = lab.ops(words).output().success().json();
        let row = rows["settings"]
            .as_array()
            .expect("rows")
            .iter()
            .find(|row| row["name"] == "region")
            .cloned();
        let row = row.expect("a region");
        format!(
            "{} {}",
            row["value"].as_str().unwrap_or("-"),
            row["source"].as_str().unwrap_or("-")
        )
    };
    assert_eq!(
        region(&["--region", "eu-west-1", "config", "show", "-o", "json"]),
        "eu-west-1 flag --region"
    );
    assert_eq!(
        region(&["-o", "json", "config", "show", "--region=us-east-1"]),
        "us-east-1 flag --region"
    );
    let both = [
        "--region",
        "eu-west-1",
        "config",
        "--region",
        "eu-west-2",
        "show",
        "--region",
        "eu-west-3",
        "-o",
        "json",
    ];
    assert_eq!(region(&both), "eu-west-3 flag --region");
    let lab = Lab::new()
        .env("OPS_REGION", "ap-south-1")
        .env("AWS_REGION", "sa-east-1");
    let shown = |words: &[&str]| lab.ops(words).output().success().stdout;
    assert!(shown(&["config", "show"]).contains("ap-south-1  environment OPS_REGION"));
    assert!(
        shown(&["config", "show", "--region", "eu-north-1"]).contains("eu-north-1  flag --region")
    );
}

#[test]
fn the_sandbox_names_its_region_whether_it_is_served_or_not() {
    let lab = Lab::new().env("AWS_REGION", "sa-east-1");
    let shown = |lab: &Lab, words: &[&str]| {
        let done = lab.ops(words).output().success();
        done.stdout
            .lines()
            .find(|line| line.starts_with("region "))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    };
    let asked = ["--sandbox", "config", "show"];
    assert_eq!(shown(&lab, &asked), "region eu-west-1 sandbox");
    let fleet = lab.write("fleet.yaml", "region: us-west-2\ninstances: []\n");
    let lab = lab.env("OPS_SANDBOX_FLEET", &fleet);
    assert_eq!(shown(&lab, &asked), "region us-west-2 sandbox");
    let lab = lab.serve(["--fleet", fleet.to_str().expect("UTF-8")]);
    assert_eq!(shown(&lab, &["config", "show"]), "region us-west-2 sandbox");
    let other = ["--region", "eu-north-1", "config", "show"];
    assert_eq!(shown(&lab, &other), "region eu-north-1 flag --region");
}

/// What is full is here, and not on a server.
#[test]
#[cfg(target_os = "linux")]
fn a_result_that_cannot_be_written_is_told_as_that() {
    let lab = Lab::with_sandbox();
    let ops = ops_tests::lab::binary();
    for words in ["version", "ls", "exec web-1 -- echo hi"] {
        let script = format!("exec \"$0\" {words} >/dev/full");
        let done = lab.run("sh", [OsStr::new("-c"), script.as_ref(), ops.as_ref()]);
        let done = done.output();
        assert_ne!(done.status, 0, "{words}: {done}");
        let is_told = done.stderr.contains("cannot write to standard output");
        assert!(is_told, "{words}: {done}");
    }
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    use std::io::Read as _;
    let lab = Lab::new();
    // More than a pipe holds, so that a write must fail.
    let mut child = lab.ops(["config", "schema"]).spawn();
    drop(child.stdout.take());
    let mut text = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut text)
        .expect("text");
    assert_eq!(text, "");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn the_scripts_of_completion_are_printed_and_the_shell_is_answered() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = lab.ops(["completion", shell]).output().success().stdout;
        assert!(script.contains("ops"), "{shell}");
    }
    let done = lab
        .ops(["--", "ops", "ver"])
        .env("OPS_COMPLETE", "fish")
        .output()
        .success();
    assert!(done.stdout.starts_with("version"), "{done}");
}

/// What a newcomer types, and a command that the answer names.
#[test]
fn plausible_slips_are_answered_with_the_next_command() {
    let lab = Lab::with_sandbox();
    for (typed, status, told) in [
        (
            "shell web-1 uptime",
            2,
            "hint: a command there: ops --sandbox exec web-1 -- uptime",
        ),
        (
            "sh --reason x web-1 ls -l /tmp",
            2,
            "ops --sandbox exec web-1 -- ls -l /tmp",
        ),
        ("forward 8080", 2, "ops --sandbox forward TARGET 8080"),
        (
            "forward 8080:80 web-1",
            2,
            "turn them round: ops --sandbox forward web-1 8080:80",
        ),
        (
            "forward web-1",
            2,
            "here as 8080: ops --sandbox forward web-1 8080:80",
        ),
        (
            "ls web",
            0,
            "names with that in them: ops --sandbox ls '*web*'",
        ),
        (
            "web-1",
            2,
            "a shell on a server of that name: ops --sandbox shell web-1",
        ),
        ("connect web-1", 2, "did you mean: ops --sandbox shell"),
        (
            "port-forward web-1",
            2,
            "did you mean: ops --sandbox forward",
        ),
        ("ls -o foo", 2, "jsonl, csv, jsonpath=, custom-columns=]"),
        (
            "config foo",
            2,
            "error: `config` has no command `foo`\n  hint: see what it takes: ops --sandbox config --help",
        ),
        ("config shwo", 2, "did you mean `show`?"),
        (
            "config set ssh.user",
            2,
            "error: `config set` needs <VALUE>, which is missing\n  hint: see what it takes: ops --sandbox config set --help",
        ),
    ] {
        let done = lab.run(
            "/bin/sh",
            [
                "-c",
                &format!(
                    "exec {} --sandbox {typed}",
                    ops_tests::lab::binary().display()
                ),
            ],
        );
        let done = done.output().exits(status);
        assert!(done.stderr.contains(told), "{typed}: {done}");
    }
    for (typed, page) in [
        (&["-h", "shell"][..], "Usage: ops shell"),
        (&["--help", "config", "set"], "Usage: ops config set"),
        (&["--sandbox", "-h", "ls"], "Usage: ops ls"),
    ] {
        let done = lab.ops(typed).output().success();
        assert!(done.stdout.contains(page), "{done}");
    }
    let done = lab.ops(["sessions", "end"]).output().exits(2);
    assert!(done.stderr.contains("Usage: ops sessions end"), "{done}");
}

#[test]
fn a_form_of_output_that_a_verb_does_not_have_is_refused_and_not_ignored() {
    let lab = Lab::new();
    for (status, line) in [
        (2, "shell web-1 -o json"),
        (2, "logs web-1 /var/log/syslog -o jsonl"),
        (255, "ssh --output json web-1"),
        (2, "ssh-config -o json"),
        (255, "ssh-proxy web-1 22 -o json"),
        (2, "login -o json"),
        (2, "logout -o yaml"),
        (2, "completion bash -o json"),
        (2, "man -o json"),
        (2, "sessions log x -o json"),
        (2, "config set color auto -o json"),
        (2, "config use x -o json"),
        (2, "cache clear -o json"),
        (2, "sandbox stop -o json"),
        (2, "api connect web-1 22 -o json"),
        (255, "forward web-1 0:80 -o json -- true"),
        (2, "env -o json -- true"),
        (2, "whoami -o csv"),
    ] {
        let done = lab.ops(line.split(' ')).output().exits(status);
        assert!(
            done.stderr.contains("has no output format"),
            "{line}: {done}"
        );
        assert_eq!(done.stdout, "", "{line}");
    }
    // What the environment asks for is meant for the verbs that have forms.
    let lab = lab.env("OPS_OUTPUT", "json");
    lab.ops(["completion", "bash"]).output().success();
    let schema = ["config", "schema", "-o", "yaml"];
    let done = lab.ops(schema).output().success();
    assert!(done.stdout.starts_with("type: object"), "{done}");
    let lab = Lab::with_sandbox();
    for (what, key) in [("env", "AWS_ENDPOINT_URL: "), ("log", "calls:")] {
        let done = lab.ops(["sandbox", what, "-o", "yaml"]).output().success();
        assert!(done.stdout.contains(key), "{what}: {done}");
        assert!(!done.stdout.contains("export "), "{what}: {done}");
    }
}

#[test]
fn a_number_that_an_option_cannot_have_is_refused_with_what_it_may_be() {
    let lab = Lab::new();
    for (status, line, allowed) in [
        (
            255,
            "exec web-1 web-2 --batch 0 -- true",
            "at least one server",
        ),
        (
            255,
            "exec web-1 web-2 --batch 0% -- true",
            "at least one server",
        ),
        (
            255,
            "exec web-1 web-2 --batch -1 -- true",
            "number of servers",
        ),
        (
            255,
            "exec web-1 web-2 --canary 0 -- true",
            "from 1 to 10000",
        ),
        (
            255,
            "exec web-1 web-2 --canary -1 -- true",
            "from 1 to 10000",
        ),
        (
            255,
            "exec web-1 web-2 --parallel 0 -- true",
            "from 1 to 10000",
        ),
        (
            255,
            "exec web-1 web-2 --max-fail x -- true",
            "number of servers",
        ),
        (
            255,
            "exec web-1 web-2 --max-fail 101% -- true",
            "from 0% to 100%",
        ),
        (2, "logs web-1 /a --tail -1", "number of lines"),
        (2, "logs web-1 /a --tail x", "number of lines"),
        (2, "forward web-1 0:80 --sessions 0", "1..=16"),
        (2, "forward web-1 0:80 --sessions x", "whole number"),
        (2, "cp --parallel 0 a web-1:", "from 1 to 64"),
        (2, "cp --sessions -1 a web-1:", "from 1 to 64"),
        (2, "cp --limit-rate 0 a web-1:", "a rate of nothing"),
        (2, "ls --watch 0", "1 to 86400 seconds"),
        (2, "ls --timeout 0", "no time at all"),
        (255, "exec web-1 --timeout 0ms -- true", "no time at all"),
        (255, "exec web-1 --time-limit 0 -- true", "no time at all"),
        (255, "exec web-1 --time-limit 0m -- true", "no time at all"),
        (255, "exec web-1 --time-limit -1 -- true", "is no time"),
        (2, "runs --since 0", "no time at all"),
        (2, "sessions --since 0d", "no time at all"),
        (2, "sessions --since -1", "is no length of time"),
        (2, "sessions end --older-than -1", "is no length of time"),
        (2, "forward -D 1080 web-1 --idle -1", "is no time"),
        (2, "forward web-1 0:80 --grace -1", "is no time"),
        (2, "ls --timeout -1", "is no time"),
    ] {
        let done = lab.ops(line.split(' ')).output().exits(status);
        assert!(done.stderr.contains("invalid value"), "{line}: {done}");
        assert!(done.stderr.contains(allowed), "{line}: {done}");
    }
}
