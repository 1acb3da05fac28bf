//! The list from which servers are chosen, and what remembers which ones were used last.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use ops_tests::{service::Service, terminal::Terminal};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

fn service() -> Service {
    Service::start(OPS, "")
}

fn write(service: &Service, path: &str, text: &str) {
    let path = service.home().join(".config/ops").join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

fn memory(service: &Service) -> PathBuf {
    service.home().join(".local/state/ops/recent.jsonl")
}

/// Logs in to a server by what is typed, sees its name, and leaves.
#[track_caller]
fn visit(service: &Service, args: &[&str], name: &str) {
    let mut terminal = Terminal::start(service, args);
    terminal.wait_for(&format!("{name}:~$ "));
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
}

/// Runs to the end on a terminal; gives the exit status and the screen.
fn on_a_terminal(service: &Service, args: &[&str]) -> (Option<i32>, String) {
    let mut terminal = Terminal::start(service, args);
    let status = terminal.wait();
    (status, terminal.screen(80, 24).screen().contents())
}

#[test]
fn the_server_that_was_used_last_is_first_in_the_list_and_is_called_dash() {
    let service = service();
    let (status, text) = on_a_terminal(&service, &["shell", "-"]);
    assert_eq!(status, Some(3), "{text}");
    assert!(text.contains("used last, and none was"), "{text}");

    visit(&service, &["shell", "web-3"], "web-3");
    visit(&service, &["shell", "web-2"], "web-2");
    // A job without a terminal changes nothing for whoever sits at one.
    let job = service.ops(&["exec", "web-1", "--", "true"]).status();
    assert!(job.expect("an end").success());
    visit(&service, &["shell", "-"], "web-2");

    let mut terminal = Terminal::start(&service, &["pick"]);
    terminal.wait_for_screen("the list in order", |screen| {
        let text = screen.contents();
        let places = ["USED", "web-2", "web-3", "bastion"].map(|name| text.find(name));
        text.contains("ok") && places.iter().all(Option::is_some) && places.is_sorted()
    });
    terminal.send("\r");
    terminal.wait_for("i-0b2c3d4e5f6071829");
    assert_eq!(terminal.wait(), Some(0));

    // Every verb that takes a server takes this one too, and a user before it.
    let told = |args: &[&str]| {
        let output = service.ops(args).output().expect("an end");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(told(&["exec", "-", "--", "printf", "%s", "far"]), "far");
    assert_eq!(
        told(&["cp", "-:README.txt", "-"]),
        told(&["cp", "web-2:README.txt", "-"])
    );
    assert!(told(&["describe", "-"]).contains("web-2"));
    assert!(told(&["console", "--print", "-"]).contains("i-0b2c3d4e5f6071829"));
    assert_eq!(told(&["ls", "-", "-o", "name"]), "web-2\n");
    assert!(told(&["wait", "-", "-o", "json"]).contains("web-2"));
    assert_eq!(told(&["forward", "-", "0:80", "--", "echo", "up"]), "up\n");

    let file = memory(&service);
    let mode = std::fs::metadata(&file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let listed: serde_json::Value =
        serde_json::from_str(&told(&["recent", "-o", "json"])).expect("JSON");
    let names: Vec<_> = listed["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| (item["name"].as_str(), item["verb"].as_str()))
        .collect();
    assert_eq!(
        names,
        [
            (Some("web-2"), Some("shell")),
            (Some("web-3"), Some("shell"))
        ]
    );
    assert_eq!(told(&["recent", "--clear"]), "");
    assert!(!file.exists());
}

#[test]
fn nothing_is_remembered_of_a_protected_profile_or_where_that_is_forbidden() {
    let service = service();
    write(&service, "profiles/prod.yaml", "guard: { protect: true }\n");
    write(
        &service,
        "profiles/wished.yaml",
        "guard: { protect: true }\nrecent: true\n",
    );
    write(&service, "profiles/not.yaml", "recent: false\n");
    for profile in ["prod", "not"] {
        visit(
            &service,
            &["-p", profile, "--yes", "shell", "web-1"],
            "web-1",
        );
        assert!(!memory(&service).exists(), "{profile}");
    }
    let (_, text) = on_a_terminal(&service, &["-p", "prod", "recent"]);
    assert!(
        text.contains("none is remembered") && text.contains("prod.yaml:1"),
        "{text}"
    );
    visit(
        &service,
        &["-p", "wished", "--yes", "shell", "web-1"],
        "web-1",
    );
    let (_, text) = on_a_terminal(&service, &["-p", "wished", "recent"]);
    assert!(text.contains("web-1"), "{text}");
    // What was used with one profile is nothing of another.
    let (_, text) = on_a_terminal(&service, &["recent"]);
    assert!(!text.contains("web-1"), "{text}");

    write(&service, "config.yaml", "recent: false\n");
    let before = std::fs::read(memory(&service)).expect("a file");
    visit(
        &service,
        &["-p", "wished", "--yes", "shell", "web-2"],
        "web-2",
    );
    assert_eq!(std::fs::read(memory(&service)).expect("a file"), before);
}

#[test]
fn names_that_come_near_a_mistyped_one_are_offered_and_never_taken() {
    let service = service();
    visit_offered(&service);
    // An Enter that was typed before anybody could see the list takes nothing.
    let mut terminal = Terminal::start(&service, &["console", "--print", "wbe-1"]);
    terminal.send("\r\r");
    terminal.wait_for("nothing is called `wbe-1`; one of these?");
    terminal.send("\x1b");
    terminal.wait_for("no running instance is called `wbe-1`");
    assert_eq!(terminal.wait(), Some(3));
    let drawn = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(!drawn.contains("https://"), "{drawn}");
    // Nobody is asked without a terminal, or where that is forbidden.
    let output = service.ops(&["console", "--print", "wbe-1"]).output();
    let output = output.expect("an end");
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("did you mean `web-1`?"), "{error}");
    let (status, _) = on_a_terminal(&service, &["console", "--print", "--no-input", "wbe-1"]);
    assert_eq!(status, Some(3));
}

fn visit_offered(service: &Service) {
    let mut terminal = Terminal::start(service, &["shell", "wbe-1"]);
    terminal.wait_for("one of these?");
    terminal.wait_for("web-1");
    terminal.send("\r");
    terminal.wait_for("web-1:~$ ");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn several_are_marked_where_a_command_takes_several() {
    let service = service();
    let mut terminal = Terminal::start(&service, &["exec", "--", "echo", "far"]);
    terminal.wait_for("run it on which servers?");
    terminal.wait_for("web-3");
    terminal.send("web\t\t");
    terminal.wait_for("2 marked");
    terminal.send("\r");
    terminal.wait_for("2 of 2 succeeded");
    assert_eq!(terminal.wait(), Some(0));
    let text = terminal.screen(80, 24).screen().contents();
    assert!(text.contains("web-1") && text.contains("web-2"), "{text}");

    let mut terminal = Terminal::start(&service, &["pick", "--multi", "-o", "name"]);
    terminal.wait_for("which servers?");
    terminal.wait_for("web-3");
    terminal.send("web-1\t\x15web-3\t\r");
    terminal.wait_for("i-0a1b2c3d4e5f60718\r\ni-0c3d4e5f60718293a\r\n");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn what_has_come_can_be_chosen_before_the_list_is_whole() {
    let service = Service::start_with(OPS, |options| {
        options.faults = "slow=ssm:DescribeInstanceInformation/1h"
            .parse()
            .expect("a fault");
        options.fleet_size = 2500;
    });
    let mut terminal = Terminal::start(&service, &["pick"]);
    // Systems Manager says nothing yet, and the pages of EC2 come one after the other.
    terminal.wait_for("listing…");
    terminal.send("web-1");
    terminal.wait_for_screen("what was found", |screen| {
        let text = screen.contents();
        text.contains("web-1 ") && text.contains(" of 2452")
    });
    terminal.send("\x14");
    terminal.wait_for("Name=web-1");
    // Given another size, it is drawn anew at once.
    terminal.resize(40, 12);
    terminal.wait_for_screen("a narrow list", |screen| {
        screen
            .contents()
            .lines()
            .all(|line| line.chars().count() <= 40)
    });
    terminal.send("\r");
    terminal.wait_for("i-0a1b2c3d4e5f60718");
    assert_eq!(terminal.wait(), Some(0));
    assert!(terminal.is_cooked());
}

#[test]
fn a_list_that_fails_ends_the_choice_with_its_reason() {
    let service = Service::start(OPS, "deny=ec2:DescribeInstances");
    let (status, text) = on_a_terminal(&service, &["pick"]);
    assert_eq!(status, Some(5), "{text}");
    assert!(text.contains("ec2:DescribeInstances"), "{text}");
    assert!(
        !text.contains("which server?"),
        "the list is taken away: {text}"
    );
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let service = service();
    for args in [&["pick"][..], &["shell"]] {
        let mut terminal = Terminal::start(&service, args);
        terminal.wait_for("web-3");
        terminal.signal(rustix::process::Signal::TERM);
        assert_eq!(terminal.wait(), Some(143), "{args:?}");
        assert!(terminal.is_cooked(), "{args:?}");
    }
}

#[test]
fn a_terminal_on_which_nothing_can_be_drawn_is_asked_for_a_number() {
    let service = service();
    let mut terminal =
        Terminal::start_with(&service, &["pick"], |command| command.env("TERM", "dumb"));
    terminal.wait_for("6  web-1  i-0a1b2c3d4e5f60718");
    terminal.wait_for("Its number: ");
    terminal.send("6\r");
    terminal.wait_for("6\r\ni-0a1b2c3d4e5f60718");
    assert_eq!(terminal.wait(), Some(0));
    let drawn = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(!drawn.contains('\x1b'), "{drawn:?}");
}

#[test]
fn those_that_match_a_pattern_are_shown_with_what_is_known_of_their_agents() {
    let service = service();
    // One name for several: the picker comes where nobody could know of it.
    for (args, asked) in [
        (
            &["shell", "tag:Role=web"][..],
            "several match tag:Role=web:",
        ),
        (&["shell", "bild-1"], "nothing is called `bild-1`"),
    ] {
        let mut terminal = Terminal::start(&service, args);
        terminal.wait_for_screen("the agents", |screen| {
            let text = screen.contents();
            let knows = text.contains("  ok  ") || text.contains("  no agent  ");
            text.contains(asked) && text.contains("REACH") && knows
        });
        terminal.send("\x1b");
        terminal.wait();
    }
}
