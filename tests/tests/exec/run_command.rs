//! `exec --via run-command` and `runs`.

use ops_tests::{Lab, lab::binary, service::Service, terminal::Terminal};

#[test]
fn one_server_gives_its_streams_and_its_status() {
    let lab = Lab::with_sandbox();
    let line = ["exec", "web-1", "-n", "--via", "run-command"];
    let ops = |words: &[&str]| lab.ops(line.iter().chain(words)).output();
    let done = ops(&["--shell", "echo out; printf err >&2; exit 3"]);
    assert_eq!(
        (done.status, &*done.stdout, &*done.stderr),
        (3, "out\n", "err"),
        "{done}"
    );
    // Nothing of it is a reference to the Parameter Store, or read by a shell.
    let done = ops(&[
        "--",
        "printf",
        "<%s>",
        "{{ ssm:x }}",
        "$$HOME",
        "a  b",
        "it's",
    ]);
    assert_eq!(done.success().stdout, "<{{ ssm:x }}><$$HOME><a  b><it's>");
    // The agent reads these three as something else.
    for status in ["137", "168", "194"] {
        let done = ops(&["--", "sh", "-c", &format!("exit {status}")]);
        assert_eq!(done.status.to_string(), status, "{done}");
    }
    let done = ops(&[
        "--cwd",
        "/",
        "--env",
        "A=1 2",
        "--shell",
        "pwd; echo \"$A\"",
    ]);
    assert_eq!(done.success().stdout, "/\n1 2\n");
    for (words, why) in [
        (&["-t", "--", "true"][..], "-t needs a session"),
        (&["--time-limit", "2s", "--", "true"], "5 seconds"),
        (&["--", "echo", &"x".repeat(70_000)], "too large"),
    ] {
        let without_n: Vec<&str> = line.into_iter().filter(|word| *word != "-n").collect();
        let done = lab.ops(without_n.iter().chain(words)).output();
        assert_eq!(done.status, 255, "{done}");
        assert!(done.stderr.contains(why), "{done}");
    }
}

#[test]
fn what_was_sent_can_be_listed_shown_and_waited_for() {
    let lab = Lab::with_sandbox();
    let line = ["exec", "web-1", "web-2", "-n", "--via", "run-command"];
    let words = [
        "--detach",
        "--comment",
        "from a test",
        "--",
        "sh",
        "-c",
        "echo hi; exit 4",
    ];
    let sent = lab.ops(line.iter().chain(&words)).output().success();
    let id = sent.stdout.trim();
    let done = lab.ops(["runs", "wait", id]).output();
    assert_eq!(done.status, 8, "{done}");
    assert_eq!(done.stdout, "web-1: hi\nweb-2: hi\n");
    assert!(done.stderr.contains("0 of 2 succeeded, 2 failed"), "{done}");
    let rows = lab
        .ops(["runs", "--mine", "-o", "json"])
        .output()
        .success()
        .json();
    assert_eq!(rows["items"][0]["id"], id);
    assert_eq!(rows["items"][0]["comment"], "from a test [ops sandbox]");
    let shown = lab.ops(["runs", "show", id, "-o", "json"]).output();
    let row = &shown.json()["items"][0];
    assert_eq!((&row["name"], &row["code"]), (&"web-1".into(), &4.into()));
    assert_eq!(row["serviceStatus"], "Failed");
    assert_eq!(
        lab.ops(["runs", "-o", "name"]).output().stdout,
        format!("{id}\n")
    );
    let unknown = "0".repeat(36);
    let done = lab.ops(["runs", "show", &unknown]).output();
    assert_eq!(done.status, 3, "{done}");
}

/// AWS tells two things of `MaxErrors`. This follows SendCommand ("when the command fails one more
/// time beyond the value of MaxErrors, the system stops sending") and its guide ("if you specify 3,
/// the system stops when the fourth error is received"), and so does the sandbox. The text of
/// `Command` ("allowed before the system stops") can be read as one failure less.
#[test]
fn failures_are_borne_as_by_sessions_and_canaries_stop_the_rest() {
    let lab = Lab::with_sandbox();
    let line = ["exec", "web-1", "web-2", "web-3", "-n", "--parallel", "1"];
    for (options, ran, is_stopped) in [
        (&["--max-fail", "0"][..], 1, true),
        (&["--max-fail", "1"], 2, true),
        (&["--max-fail", "2"], 3, false),
        (&["--canary", "1"], 1, true),
        (&[], 3, false),
    ] {
        for via in ["session", "run-command"] {
            let behind = ["--via", via, "--", "false"];
            let words = line.iter().chain(options).chain(&behind);
            let done = lab.ops(words).output();
            assert_eq!(done.status, 8, "{done}");
            let failed = format!("{ran} failed");
            assert!(done.stderr.contains(&failed), "{via} {options:?} {done}");
            assert_eq!(
                done.stderr.contains("not started"),
                is_stopped,
                "{via} {options:?} {done}"
            );
        }
    }
}

#[test]
fn one_that_is_away_is_a_row_and_nobody_waits_for_it() {
    let lab = Lab::with_sandbox();
    let line = [
        "exec",
        "web-1",
        "worker-1",
        "-n",
        "--via",
        "run-command",
        "--",
        "echo",
        "up",
    ];
    let done = lab.ops(line).output();
    assert_eq!((done.status, &*done.stdout), (8, "web-1: up\n"), "{done}");
    assert!(done.stderr.contains("worker-1 is left out"), "{done}");
    assert!(
        done.stderr.contains("1 of 2 succeeded, 1 could not be run"),
        "{done}"
    );
}

#[test]
fn a_cut_output_is_announced_or_whole_from_the_bucket() {
    let lab = Lab::with_sandbox();
    let line = ["exec", "web-1", "-n", "--via", "run-command"];
    let long = ["--", "head", "-c", "60000", "/dev/zero"];
    let done = lab.ops(line.iter().chain(&long)).output().success();
    assert!(done.stdout.len() < 25_000);
    assert!(done.stderr.contains("is not whole"), "{}", done.stderr);
    assert!(done.stderr.contains("exec.s3_bucket"), "{}", done.stderr);
    lab.profile("g", "exec: { s3_bucket: ops-sandbox-copies }\n");
    let words = ["-p", "g"].iter().chain(&line).chain(&long);
    let done = lab.ops(words).output().success();
    assert_eq!(done.stdout, "\0".repeat(60_000));
    assert_eq!(done.stderr, "");
}

#[test]
fn a_fleet_by_a_tag_takes_one_command_and_few_calls() {
    let service = Service::start_with(binary().to_str().unwrap(), |options| {
        options.fleet_size = 300;
        options.faults = "run-fail=4%,run-jitter=300ms".parse().unwrap();
    });
    let words = [
        "exec",
        "--tag",
        "Env=production,staging,development",
        "-n",
        "--via",
        "run-command",
        "--fold",
        "--parallel",
        "300",
        "--",
        "echo",
        "same",
    ];
    let done = service.ops(&words).output().unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(8));
    // One line for those that say the same, another one for those that fail alike.
    assert!(
        stdout.lines().next().unwrap().ends_with(" servers): same"),
        "{stdout}"
    );
    let calls = service.calls();
    let of = |action: &str| calls.iter().filter(|call| call.ends_with(action)).count();
    assert_eq!(of("SendCommand"), 1);
    assert_eq!(of("GetCommandInvocation"), 0);
    // Six pages of fifty, and one of the first failures.
    assert!(
        of("ListCommandInvocations") <= 9,
        "{}",
        of("ListCommandInvocations")
    );
}

#[test]
fn the_bar_counts_no_server_twice() {
    let service = Service::start_with(binary().to_str().unwrap(), |options| {
        options.fleet_size = 300;
        options.faults = "run-fail=4%,run-delay=300ms".parse().unwrap();
    });
    let words = "exec -n --via run-command --fold --parallel 300 -l Env=production,staging,development -- echo same";
    let words: Vec<&str> = words.split(' ').collect();
    let mut terminal = Terminal::start(&service, &words);
    assert_eq!(terminal.wait(), Some(8));
    // `[====  ] 50 of 283 ended, 2 failed; 233 under way`, drawn over and over.
    let drawn = String::from_utf8_lossy(&terminal.output()).into_owned();
    let counts: Vec<(usize, usize)> = drawn
        .split('[')
        .filter_map(|line| line.split_once("] ")?.1.split_once(" ended"))
        .filter_map(|(counts, _)| counts.split_once(" of "))
        .map(|(ended, servers)| (ended.parse().unwrap(), servers.parse().unwrap()))
        .collect();
    assert!(counts.len() >= 2, "{drawn}");
    for (ended, servers) in counts {
        assert!(ended <= servers, "{ended} of {servers}: {drawn}");
    }
}

#[test]
fn a_resource_group_is_one_command_for_its_members() {
    let service = Service::start_with(binary().to_str().unwrap(), |options| {
        options.fleet_size = 700;
    });
    let line = ["exec", "--resource-group", "web-servers", "-n"];
    let words = ["--via", "run-command", "--fold", "--", "echo", "same"];
    let done = service.ops(&[&line[..], &words].concat()).output().unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let hosts = stdout
        .split_once(" (")
        .and_then(|(_, rest)| rest.split_once(" servers)"));
    let hosts: usize = hosts.unwrap().0.parse().unwrap();
    assert!(hosts > 50, "{stdout}{stderr}");
    // The service would take those that do not run for members too.
    assert!(stderr.contains("the resource group means"), "{stderr}");
    assert!(stderr.contains("left out"), "{stderr}");
    let calls = service.calls();
    let of = |action: &str| calls.iter().filter(|call| *call == action).count();
    assert_eq!(of("SendCommand"), 1);
    assert!(of("ListGroupResources") >= 2, "{calls:?}");
    // Its members can be met by what is named beside, and by sessions.
    let some = [
        "exec",
        "--resource-group",
        "web-servers",
        "-n",
        "web-1",
        "db-1",
        "--",
    ];
    let done = service
        .ops(&[&some[..], &["echo", "hi"]].concat())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "web-1: hi\n");
    let unknown = ["exec", "--resource-group", "nobody", "-n", "--", "true"];
    let done = service.ops(&unknown).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(stderr.contains("OPS-E-NOT-FOUND"), "{stderr}");
    assert!(stderr.contains("no resource group `nobody`"), "{stderr}");
    service.set_faults("deny=resource-groups:ListGroupResources");
    let done = service.ops(&[&line[..], &words].concat()).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        stderr.contains("resource-groups:ListGroupResources"),
        "{stderr}"
    );
}

#[test]
fn a_resource_group_may_be_the_servers_of_a_stack() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let exec = |group: &str| {
        let line = ["exec", "--resource-group", group, "-n"];
        let words = ["--via", "run-command", "--", "echo", "hi"];
        let done = service.ops(&[&line[..], &words].concat()).output().unwrap();
        let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), stdout, stderr)
    };
    // The stack's security group is a member too, and no server.
    let (status, stdout, stderr) = exec("shop");
    assert_eq!(
        (status, &*stdout),
        (Some(0), "db-1: hi\nweb-1: hi\n"),
        "{stderr}"
    );
    // A stack that is gone leaves an empty group, and says why beside it.
    let (status, _, stderr) = exec("former-shop");
    assert_eq!(status, Some(255), "{stderr}");
    assert!(
        stderr.contains("CLOUDFORMATION_STACK_NOT_EXISTING"),
        "{stderr}"
    );
    assert!(
        stderr.contains("no server is a member of the group"),
        "{stderr}"
    );
    // The service looks into the stack with the caller's permissions.
    service.set_faults("deny=cloudformation:ListStackResources");
    let (_, _, stderr) = exec("shop");
    assert!(stderr.contains("OPS-E-DENIED"), "{stderr}");
    assert!(
        stderr.contains("cloudformation:ListStackResources"),
        "{stderr}"
    );
}

#[test]
fn a_cut_output_is_whole_from_the_log_group() {
    let service = Service::start(binary().to_str().unwrap(), "late-logs=700ms");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("g.yaml"), "exec: { log_group: /ops/runs }\n").unwrap();
    let ops = |line: &str| {
        let words = [
            "-p",
            "g",
            "exec",
            "web-1",
            "-n",
            "--via",
            "run-command",
            "--shell",
            line,
        ];
        service.ops(&words).output().unwrap()
    };
    // Many lines, and one that no event has room for, with no line feed behind it.
    let line = "seq 1 20000; head -c 450000 /dev/zero | tr '\\0' x; seq 1 9000 >&2; exit 5";
    let done = ops(line);
    let here = std::process::Command::new("sh")
        .args(["-c", line])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(5));
    assert!(
        done.stdout == here.stdout,
        "{} of {}",
        done.stdout.len(),
        here.stdout.len()
    );
    assert!(
        done.stderr == here.stderr,
        "{} of {}",
        done.stderr.len(),
        here.stderr.len()
    );
    // What the log has lost is no whole output.
    let done = ops("seq 1 9000 | sed 's/$/\\r/'");
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        stderr.contains("the output of web-1 is not whole"),
        "{stderr}"
    );
    assert!(stderr.contains("loses carriage returns"), "{stderr}");
    assert!(done.stdout.len() < 25_000);
}

#[test]
fn whoever_confirms_a_cancellation_sees_the_servers() {
    let service = Service::start(binary().to_str().unwrap(), "late-invocations=2s");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("g.yaml"), "guard: { confirm: yes }\n").unwrap();
    let line = [
        "exec",
        "web-1",
        "web-2",
        "-n",
        "--via",
        "run-command",
        "--detach",
    ];
    let sent = service.ops(&[&line[..], &["--", "sleep", "1000"]].concat());
    let sent = { sent }.output().unwrap();
    let id = String::from_utf8(sent.stdout).unwrap();
    let id = id.trim();
    let done = service
        .ops(&["-p", "g", "runs", "cancel", id])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(9), "{stderr}");
    assert!(
        stderr.contains("runs on 2 servers in eu-west-1 is not confirmed"),
        "{stderr}"
    );
    // The list is too wide for this terminal, which is said.
    let mut list = Terminal::start(&service, &["runs"]);
    assert_eq!(list.wait(), Some(0));
    let screen = list.screen(80, 24).screen().contents();
    assert!(
        screen.contains("left out for want of room: document"),
        "{screen}"
    );
    let mut terminal = Terminal::start(&service, &["-p", "g", "runs", "cancel", id]);
    terminal.wait_for("[y/N]");
    let screen = terminal.screen(80, 24).screen().contents();
    assert!(screen.contains("web-1, web-2"), "{screen}");
    terminal.send("yes\r");
    assert_eq!(terminal.wait(), Some(0));
    let done = service.ops(&["runs", "wait", id]).output().unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).contains("2 cancelled"));
}

/// A long command on two servers by Run Command, with the question that Ctrl-C leads to.
fn interrupted_command(service: &Service) -> Terminal {
    let line = [
        "exec",
        "web-1",
        "web-2",
        "--via",
        "run-command",
        "--",
        "sleep",
        "1000",
    ];
    let terminal = Terminal::start(service, &line);
    terminal.wait_for("under way");
    terminal.send("\x03");
    terminal.wait_for("[d/c/g]");
    terminal
}

#[test]
fn ctrl_c_asks_and_leaves_it_to_the_service() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let mut terminal = interrupted_command(&service);
    terminal.send("d\r");
    assert_eq!(terminal.wait(), Some(0));
    let found = service.ops(&["runs", "-o", "name"]).output().unwrap();
    let id = String::from_utf8(found.stdout).unwrap();
    let id = id.trim();
    let shown = service.ops(&["runs", "show", id]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(text.contains("2 InProgress"), "{text}");
    let cancelled = service.ops(&["runs", "cancel", id]).output().unwrap();
    assert!(cancelled.status.success());
    let done = service.ops(&["runs", "wait", id]).output().unwrap();
    assert_eq!(done.status.code(), Some(8));
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(text.contains("2 cancelled"), "{text}");
}

/// What tells the state of a few servers.
const LOOK: &str = "ListCommandInvocations";

#[test]
fn ctrl_c_may_mean_to_go_on_or_to_cancel() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let mut terminal = interrupted_command(&service);
    let asked = terminal.output().len();
    // What is no answer is asked for again.
    terminal.send("x\r");
    terminal.wait_for_after(asked, "[d/c/g]");
    let looks = || {
        let calls = service.calls();
        calls.iter().filter(|call| *call == LOOK).count()
    };
    let looked = looks();
    let asked = terminal.output().len();
    terminal.send("g\r");
    service.wait_for_calls(LOOK, looked + 1);
    terminal.send("\x03");
    terminal.wait_for_after(asked, "[d/c/g]");
    terminal.send("c\r");
    assert_eq!(terminal.wait(), Some(8));
    let screen = terminal.screen(80, 24).screen().contents();
    assert!(screen.contains("0 of 2 succeeded, 2 cancelled"), "{screen}");
}
