//! What a profile says comes before the first session.

use ops_tests::{Lab, lab::binary, service::Service, terminal::Terminal};

#[test]
fn a_profile_may_deny_it_bound_it_and_demand_a_reason() {
    let lab = Lab::with_sandbox();
    for (guard, why) in [
        ("guard: { deny: [exec] }\n", "OPS-E-REFUSED"),
        ("guard: { max_targets: 1 }\n", "guard.max_targets"),
        ("session: { reason: required }\n", "--reason TEXT"),
        ("guard: { protect: true }\n", "--yes"),
    ] {
        lab.profile("g", guard);
        let done = lab
            .ops(["-p", "g", "exec", "web-1", "web-2", "-n", "--", "true"])
            .output();
        assert_eq!(done.status, 255, "{guard} {done}");
        assert!(done.stderr.contains(why), "{guard} {done}");
    }
    // What is typed counts more than the profile.
    lab.profile("g", "exec: { via: run-command }\n");
    let words = ["-p", "g", "exec", "web-1", "-n", "--via", "session"];
    let done = lab.ops(words.iter().chain(&["--", "echo", "by a session"]));
    assert_eq!(done.output().success().stdout, "by a session\n");
    lab.profile(
        "g",
        "session: { reason: required }\nexec: { parallel: 1 }\n",
    );
    let done = lab
        .ops([
            "-p", "g", "exec", "web-1", "-n", "--reason", "INC-1", "--", "true",
        ])
        .output()
        .success();
    assert_eq!(done.stderr, "");
}

#[test]
fn between_batches_somebody_is_asked_and_a_no_leaves_the_rest_alone() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let line = [
        "exec", "--canary", "1", "--pause", "web-1", "web-2", "--", "echo", "ran",
    ];
    let mut terminal = Terminal::start(&service, &line);
    terminal.wait_for("Go on with batch 1 of 1 (1 server)? [y/N]");
    terminal.send("no\r");
    assert_eq!(terminal.wait(), Some(8));
    let screen = terminal.screen(80, 24).screen().contents();
    assert!(screen.contains("web-1: ran"), "{screen}");
    assert!(!screen.contains("web-2: ran"), "{screen}");
    assert!(
        screen.contains("not started: web-2 (batch 1 of 1 was not confirmed)"),
        "{screen}"
    );
    // Where nobody can be asked, it is said before anything is started.
    let lab = Lab::with_sandbox();
    let done = lab.ops(line.iter().chain(&[""; 0])).output();
    assert_eq!(done.status, 255);
    assert!(
        done.stderr
            .contains("OPS-E-REFUSED: nobody can be asked between batches"),
        "{done}"
    );
}

#[test]
fn whoever_confirms_sees_the_servers_and_the_command_first() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("prod.yaml"), "guard: { confirm: yes }\n").unwrap();
    let line = ["-p", "prod", "exec", "web-1", "nobody@web-2", "--cwd", "/"];
    let words = ["--env", "PATH", "--", "printf", "ops ls \x1b[2J%s\n", "a b"];
    let mut terminal = Terminal::start(&service, &[&line[..], &words].concat());
    terminal.wait_for("[y/N]");
    let screen = terminal.screen(80, 24).screen().contents();
    assert_eq!(
        screen.trim_end().lines().collect::<Vec<_>>(),
        [
            "[prod] exec on 2 servers in eu-west-1",
            "web-1, web-2",
            r"command: printf $'ops ls \033[2J%s\012' 'a b'",
            "folder: /",
            "variables: PATH",
            "runs as: nobody, the user of sessions (ssm-user, or the account's Run As)",
            "Go on? [y/N]",
        ]
    );
    assert!(!service.calls().contains(&"StartSession".to_owned()));
    terminal.send("no\r");
    assert_eq!(terminal.wait(), Some(255));
    let screen = terminal.screen(80, 24).screen().contents();
    assert!(screen.contains("`no` was\n  typed, not `y`"), "{screen}");

    // A long one is cut with a mark, and by Run Command it is said whom it runs as.
    let long = "x".repeat(5000);
    let line = ["-p", "prod", "exec", "web-1", "--via", "run-command"];
    let terminal = Terminal::start(&service, &[&line[..], &["--", "ops", "ls", &long]].concat());
    terminal.wait_for("[y/N]");
    let screen = terminal.screen(80, 24).screen().contents();
    // A command that is shown is the command: no option in use is put into it.
    assert!(screen.contains("command: ops ls\n  xxx"), "{screen}");
    assert!(
        screen.contains("(cut here: it has 5007 characters)"),
        "{screen}"
    );
    assert!(screen.contains("runs as: root, by Run Command"), "{screen}");
}

#[test]
fn many_servers_are_named_in_lines_that_break_between_names() {
    let service = Service::start_with(binary().to_str().unwrap(), |options| {
        options.fleet_size = 20;
    });
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("prod.yaml"), "guard: { confirm: yes }\n").unwrap();
    let named = service.ops(&["ls", "-o", "name"]).output().unwrap();
    let named = String::from_utf8(named.stdout).unwrap();
    let names: Vec<&str> = named.lines().filter(|name| name.contains('-')).collect();
    let line = [&["-p", "prod", "exec"][..], &names[..12], &["--", "true"]].concat();
    let terminal = Terminal::start(&service, &line);
    terminal.wait_for("[y/N]");
    let screen = terminal.screen(80, 24).screen().contents();
    for name in &names[..12] {
        let is_whole = screen.lines().any(|line| line.contains(name));
        assert!(is_whole, "{name} in {screen}");
    }
    terminal.send("y\r");
    terminal.wait_for(" s\r\n");
    let screen = terminal.screen(80, 24).screen().contents();
    let title = screen.split("[y/N]").nth(1).unwrap_or_default();
    assert!(title.contains("servers)"), "{screen}");
    for name in &names[..10] {
        let is_whole = title.lines().any(|line| line.contains(name));
        assert!(is_whole, "{name} in {title}");
    }
}

#[test]
fn whoever_confirms_logs_or_a_forward_sees_what_is_read_and_what_is_opened() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("prod.yaml"), "guard: { confirm: yes }\n").unwrap();
    for (args, lines) in [
        (
            &[
                "logs",
                "web-1",
                "/var/log/a b.log",
                "--grep",
                "x y",
                "--user",
                "app",
            ][..],
            &[
                "files: '/var/log/a b.log'",
                "matching: 'x y'",
                "runs as: app",
            ][..],
        ),
        (
            &["logs", "-f", "web-1", "--unit", "nginx"],
            &["units: nginx"],
        ),
        (
            &[
                "forward",
                "web-1",
                "0:db.internal:5432",
                "--",
                "psql",
                "a b",
            ],
            &[
                "a free port → db.internal:5432 through web-1",
                "command: psql 'a b'",
            ],
        ),
        (
            &["forward", "web-1", "-D", "1080"],
            &["wherever its SOCKS clients ask for through web-1"],
        ),
    ] {
        let words = [&["-p", "prod"][..], args].concat();
        let mut terminal = Terminal::start(&service, &words);
        terminal.wait_for("[y/N]");
        let screen = terminal.screen(80, 24).screen().contents();
        for line in lines {
            assert!(screen.contains(line), "{line}: {screen}");
        }
        terminal.send("no\r");
        terminal.wait();
    }
    assert!(!service.calls().contains(&"StartSession".to_owned()));
}
