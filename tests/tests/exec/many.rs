//! Many servers: prefixes, groups, folds, documents, folders, batches.

use ops_tests::{Lab, lab::binary, service::Service, terminal::Terminal};

#[test]
fn each_line_stands_behind_the_name_of_its_server() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops([
            "exec",
            "web-[1-3]",
            "web-1",
            "web-2",
            "--",
            "printf",
            "one\\ntwo",
        ])
        .output();
    // A bracket is no glob of ours.
    assert_eq!(done.status, 255, "{done}");
    let done = lab
        .ops([
            "exec",
            "web-1",
            "web-2",
            "-n",
            "--",
            "sh",
            "-c",
            "echo one; echo err >&2; printf two",
        ])
        .output()
        .success();
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["web-1: one", "web-1: two", "web-2: one", "web-2: two"]
    );
    assert!(done.stderr.contains("web-1: err\n") && done.stderr.contains("web-2: err\n"));
    assert!(done.stderr.contains("2 of 2 succeeded"), "{done}");
}

#[test]
fn one_that_cannot_be_reached_is_a_row_and_the_others_go_on() {
    let lab = Lab::with_sandbox();
    let failed = lab.home().join("failed");
    let failed = failed.to_str().unwrap();
    let done = lab
        .ops([
            "exec",
            "web-1",
            "i-0d4e5f60718293a4b",
            "-n",
            "--failed-to",
            failed,
            "--",
            "echo",
            "up",
        ])
        .output();
    assert_eq!(done.status, 8, "{done}");
    assert_eq!(done.stdout, "web-1: up\n");
    assert!(
        done.stderr.contains("1 of 2 succeeded, 1 could not be run"),
        "{done}"
    );
    let row = done.stderr.lines().find(|line| line.starts_with("web-4: "));
    assert!(row.is_some_and(|row| row.contains("stopped")), "{done}");
    // The file of those that failed is a list of targets.
    let text = std::fs::read_to_string(failed).unwrap();
    assert_eq!(text, "web-4\n");
    let lab = lab.env("OPS_OUTPUT", "json");
    std::fs::write(failed, "# two\nweb-1\nweb-2\n").unwrap();
    let done = lab
        .ops(["exec", "-n", "--targets-from", failed, "--", "false"])
        .output();
    assert_eq!(done.status, 8, "{done}");
    assert_eq!(done.json()["items"][1]["code"], 1);
}

#[test]
fn a_file_of_targets_is_looked_up_at_once() {
    let lab = Lab::with_sandbox();
    let file = lab.home().join("targets");
    let ids = "i-0a1b2c3d4e5f60718\ni-0b2c3d4e5f6071829\n";
    std::fs::write(
        &file,
        format!("{ids}web-3\ndb-1\nroot@web-1\nweb-2\nweb-4\n"),
    )
    .unwrap();
    let lookups = || {
        let log = lab.ops(["sandbox", "log"]).output().success();
        log.stdout.matches("DescribeInstances").count()
    };
    let before = lookups();
    let file = file.to_str().unwrap();
    let words = [
        "exec",
        "--dry-run",
        "-n",
        "--targets-from",
        file,
        "--",
        "true",
    ];
    let done = lab.ops(words).output().success();
    assert_eq!(done.stdout.lines().count(), 6, "{done}");
    // One list for the ids, one for the names, and those of web-4, which does not run.
    assert!(lookups() - before <= 5, "{}", lookups() - before);
}

/// By its name too, which means no running server.
#[test]
fn one_that_is_stopped_is_a_row_whatever_it_was_called_by() {
    let lab = Lab::with_sandbox();
    let words = ["exec", "web-4", "web-1", "-n", "--", "echo", "up"];
    let done = lab.ops(words).output();
    assert_eq!(done.status, 8, "{done}");
    assert_eq!(done.stdout, "web-1: up\n");
    assert!(done.stderr.contains("web-4: not run: stopped"), "{done}");
    let done = lab.ops(["exec", "--dry-run", "-n", "web-4", "web-1", "--", "true"]);
    let done = done.output().success();
    assert_eq!(
        done.stdout,
        "web-4 (i-0d4e5f60718293a4b), stopped\nweb-1 (i-0a1b2c3d4e5f60718)\n"
    );
    // A name that nobody has ever had is a mistake, before anything is started.
    let done = lab.ops(["exec", "nosuch", "web-1", "-n", "--", "true"]);
    let done = done.output().exits(255);
    assert!(done.stderr.contains("OPS-E-NOT-FOUND"), "{done}");
    let done = lab
        .ops(["logs", "web-4", "web-1", "/etc/hostname"])
        .output();
    assert!(done.stderr.contains("web-4: not run: stopped"), "{done}");
    assert_eq!(done.status, 8, "{done}");
}

#[test]
fn the_highest_status_is_passed_on_where_that_is_asked_for() {
    let lab = Lab::with_sandbox();
    // 1 on web-1, 2 on web-2, 3 on web-3.
    let words = [
        "exec",
        "--shell",
        "exit ${HOSTNAME##*-}",
        "web-2",
        "web-3",
        "web-1",
        "-n",
    ];
    let done = lab.ops(words).output();
    assert_eq!(done.status, 8, "{done}");
    let rows: Vec<&str> = done
        .stderr
        .lines()
        .filter(|line| line.contains(": exit status"))
        .collect();
    assert_eq!(
        rows,
        [
            "web-2: exit status 2",
            "web-3: exit status 3",
            "web-1: exit status 1"
        ]
    );
    let done = lab.ops(words.iter().chain(&["--pass-status"])).output();
    assert_eq!(done.status, 3, "{done}");
}

#[test]
fn groups_come_server_by_server_and_folds_once() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops([
            "exec", "web-1", "web-2", "-n", "--group", "--", "printf", "a\\nb\\n",
        ])
        .output()
        .success();
    let blocks = ["web-1: a\nweb-1: b\n", "web-2: a\nweb-2: b\n"];
    assert!(
        done.stdout == blocks.concat() || done.stdout == [blocks[1], blocks[0]].concat(),
        "{done}"
    );
    let done = lab
        .ops([
            "exec", "web-1", "web-2", "web-3", "-n", "--fold", "--", "echo", "active",
        ])
        .output()
        .success();
    assert_eq!(done.stdout, "web-1,web-2,web-3 (3 servers): active\n");
    // What a shell says of a program that is not there names a folder of its own on each server.
    let done = lab
        .ops([
            "exec",
            "web-1",
            "web-2",
            "-n",
            "--fold",
            "--",
            "no-such-program",
            "x",
        ])
        .output()
        .exits(8);
    assert_eq!(done.stdout, "web-1,web-2 (2 servers, exit status 127):\n");
    let said = "web-1,web-2 (2 servers, exit status 127):\nno-such-program: command not found\n";
    assert!(done.stderr.starts_with(said), "{done}");
}

#[test]
fn documents_hold_text_or_base64() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops([
            "exec",
            "web-1",
            "-o",
            "json",
            "--",
            "sh",
            "-c",
            "echo text; printf '\\377' >&2; exit 4",
        ])
        .output();
    assert_eq!(done.status, 4, "{done}");
    let document = done.json();
    assert_eq!(document["apiVersion"], "ops/v1");
    let item = &document["items"][0];
    assert_eq!(item["name"], "web-1");
    assert_eq!(item["code"], 4);
    assert_eq!(item["stdout"], "text\n");
    assert_eq!(item["stderrBase64"], "/w==");
    let done = lab
        .ops(["exec", "web-1", "web-2", "-n", "-o", "jsonl", "--", "true"])
        .output()
        .success();
    assert_eq!(done.stdout.lines().count(), 2, "{done}");
    for line in done.stdout.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["state"], "succeeded");
    }
    // A profile's form of lists is none of a command's output.
    lab.profile("p", "output: { format: json }\n");
    let done = lab
        .ops(["-p", "p", "exec", "web-1", "--", "echo", "plain"])
        .output()
        .success();
    assert_eq!(done.stdout, "plain\n");
}

#[test]
fn a_folder_gets_two_files_for_each_server_and_an_index() {
    let lab = Lab::with_sandbox();
    let out = lab.home().join("out");
    let done = lab
        .ops([
            "exec",
            "web-1",
            "web-2",
            "-n",
            "--out",
            out.to_str().unwrap(),
            "--",
            "sh",
            "-c",
            "echo o; echo e >&2",
        ])
        .output()
        .success();
    assert_eq!(done.stdout, "");
    assert_eq!(std::fs::read(out.join("web-2.out")).unwrap(), b"o\n");
    assert_eq!(std::fs::read(out.join("web-1.err")).unwrap(), b"e\n");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["items"][1]["stdoutFile"], "web-2.out");
}

#[test]
fn every_server_gets_all_of_the_input() {
    let lab = Lab::with_sandbox();
    let bytes = ops_tests::noise(300_000);
    let out = lab.home().join("out");
    lab.ops([
        "exec",
        "web-1",
        "web-2",
        "web-3",
        "--out",
        out.to_str().unwrap(),
        "--",
        "cat",
    ])
    .stdin(&bytes)
    .output()
    .success();
    for name in ["web-1.out", "web-2.out", "web-3.out"] {
        assert!(std::fs::read(out.join(name)).unwrap() == bytes, "{name}");
    }
    let done = lab
        .ops(["exec", "web-1", "web-2", "--canary", "1", "--", "cat"])
        .stdin("x")
        .output();
    assert_eq!(done.status, 255);
    assert!(done.stderr.contains("without input: -n"), "{done}");
}

#[test]
fn a_roll_out_stops_where_it_fails() {
    let lab = Lab::with_sandbox();
    let marks = lab.folder("marks");
    let line = format!("echo x >> {}/ran; false", marks.display());
    let ran = || {
        let text = std::fs::read_to_string(marks.join("ran")).unwrap_or_default();
        let _ = std::fs::remove_file(marks.join("ran"));
        text.lines().count()
    };
    let words = ["exec", "--shell", &line, "web-1", "web-2", "web-3", "-n"];
    let done = lab.ops(words.iter().chain(&["--canary", "1"])).output();
    assert_eq!((done.status, ran()), (8, 1), "{done}");
    assert!(
        done.stderr
            .contains("not started: web-2 to web-3, 2 servers (a canary failed)"),
        "{done}"
    );
    let done = lab
        .ops(words.iter().chain(&["--parallel", "1", "--max-fail", "1"]))
        .output();
    assert_eq!((done.status, ran()), (8, 2), "{done}");
    let done = lab.ops(words.iter().chain(&["--batch", "2"])).output();
    assert_eq!((done.status, ran()), (8, 3), "{done}");
    // A dry run starts nothing.
    let done = lab
        .ops(words.iter().chain(&["--canary", "1", "--dry-run"]))
        .output()
        .success();
    assert_eq!(ran(), 0);
    assert_eq!(
        done.stdout,
        "canary:\n  web-1 (i-0a1b2c3d4e5f60718)\nbatch 1 of 1:\n  web-2 (i-0b2c3d4e5f6071829)\n  \
         web-3 (i-0c3d4e5f60718293a)\n"
    );
    assert!(done.stderr.starts_with("would run: sh -c '"), "{done}");
    let options = ["--canary", "1", "--dry-run", "-o", "json"];
    let plan = lab.ops(words.iter().chain(&options)).output().success();
    assert_eq!(plan.json()["batches"][0]["items"][0]["name"], "web-1");
    assert_eq!(ran(), 0);
}

#[test]
fn tags_select_servers_too() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops([
            "exec", "-n", "--tag", "Role=web", "--fold", "--", "echo", "up",
        ])
        .output();
    assert!(done.stdout.starts_with("web-1,web-2,web-3"), "{done}");
    let done = lab
        .ops(["exec", "-n", "--tag", "Role=nothing", "--", "true"])
        .output();
    assert_eq!(done.status, 255);
    assert!(done.stderr.starts_with("ops: OPS-E-NOT-FOUND: "), "{done}");
}

/// On a terminal names are coloured and aligned, and nothing of a server drives the terminal.
#[test]
fn on_a_terminal_nothing_of_one_server_touches_the_lines_of_another() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let terminal = Terminal::start(
        &service,
        &[
            "exec",
            "web-1",
            "web-2",
            "--",
            "printf",
            "\\033[2J\\033[1;1Hx\\n",
        ],
    );
    terminal.wait_for("2 of 2 succeeded");
    let screen = terminal.screen(80, 24).screen().contents();
    for name in ["web-1: ", "web-2: "] {
        let line = format!("{name}\\u{{1b}}[2J\\u{{1b}}[1;1Hx");
        assert!(screen.contains(&line), "{screen}");
    }
}

/// `evil` prints what looks like titles and lines of others, in the hope of standing at the left
/// edge of the screen.
#[test]
fn on_a_terminal_no_server_prints_what_looks_like_another_ones_line() {
    let service = Service::start(binary().to_str().unwrap(), "");
    // As many columns before it as there are left of 80, whatever the view puts in front.
    let forged = "printf 'ok\\nweb-2: all is well\\n'; for pad in 73 78 80; do printf \"%${pad}sweb-2: all is well\\n\" x; done";
    for view in ["--fold", "--no-fold", "--group"] {
        let line = ["exec", "--shell", forged, view, "-n", "web-1", "web-3"];
        let terminal = Terminal::start(&service, &line);
        terminal.wait_for("2 of 2 succeeded");
        let screen = terminal.screen(80, 24).screen().contents();
        assert!(screen.contains("all is well"), "{view}: {screen}");
        let is_forged = screen.lines().any(|line| line.starts_with("web-2"));
        assert!(!is_forged, "{view}: {screen}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_anything_is_started() {
    let lab = Lab::with_sandbox();
    let marker = lab.folder("far").join("ran");
    let touch = format!("touch {}", marker.display());
    let taken = lab.folder("out").join("index.json");
    std::fs::create_dir(&taken).unwrap();
    let missing = lab.folder("far").join("missing/failed");
    for (option, place) in [
        ("--out", taken.parent().unwrap()),
        ("--failed-to", missing.as_path()),
    ] {
        for way in ["session", "run-command"] {
            let place = place.to_str().unwrap();
            let line = ["exec", "--shell", &touch, "-n", "--via", way, option, place];
            let done = lab.ops(line.iter().chain(&["web-1", "web-2"])).output();
            assert_eq!(done.status, 255, "{option} {way} {done}");
            assert!(done.stderr.contains("cannot be written"), "{done}");
            assert!(!marker.exists(), "{option} {way} {done}");
        }
    }
}
