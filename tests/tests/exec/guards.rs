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
        ("exec: { via: run-command }\n", "Run Command"),
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
    terminal.wait_for("Go on with batch 1 of 1 (1 server)? Type yes:");
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
        done.stderr.contains("nobody can be asked between batches"),
        "{done}"
    );
}

#[test]
fn whoever_confirms_sees_the_servers_first() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("prod.yaml"), "guard: { confirm: yes }\n").unwrap();
    let terminal = Terminal::start(
        &service,
        &["-p", "prod", "exec", "web-1", "web-2", "--", "echo", "ran"],
    );
    terminal.wait_for("Type yes:");
    let screen = terminal.screen(80, 24).screen().contents();
    assert!(screen.contains("exec on 2 servers"), "{screen}");
    assert!(screen.contains("web-1, web-2"), "{screen}");
    assert!(!service.calls().contains(&"StartSession".to_owned()));
    terminal.send("yes\r");
    terminal.wait_for("2 of 2 succeeded");
}
