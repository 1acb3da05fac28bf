//! One server: arguments, streams, input, status.

use std::fmt::Write as _;

use ops_tests::{Lab, noise};

#[test]
fn a_command_runs_and_its_output_and_status_are_ours() {
    let lab = Lab::with_sandbox();
    let done = lab.ops(["exec", "web-1", "--", "true"]).output();
    assert_eq!((done.status, &*done.stdout, &*done.stderr), (0, "", ""));
    let done = lab
        .ops([
            "exec",
            "web-1",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ])
        .output();
    assert_eq!(
        (done.status, &*done.stdout, &*done.stderr),
        (7, "out\n", "err\n")
    );
}

#[test]
fn each_of_the_256_statuses_comes_back() {
    let lab = Lab::with_sandbox();
    // Statuses of one server are those of a sub-shell, so that one session tells many; the ends of
    // the range, and those that mean something to a shell or to ops, have a session of their own.
    for code in [0, 1, 2, 126, 127, 128, 129, 130, 137, 141, 143, 254, 255] {
        let done = lab
            .ops(["exec", "web-1", "--shell", &format!("exit {code}")])
            .output();
        assert_eq!(done.status, code, "{done}");
        assert!(!done.stderr.contains("OPS-E-"), "{done}");
    }
    let mut line = String::new();
    for code in 0..=255 {
        let _ = write!(line, "sh -c 'exit {code}'; echo $?;");
    }
    let done = lab.ops(["exec", "web-1", "--shell", &line]).output();
    let told: Vec<i32> = done
        .stdout
        .lines()
        .map(|code| code.parse().unwrap())
        .collect();
    assert_eq!(told, (0..=255).collect::<Vec<_>>(), "{done}");
}

#[test]
fn a_death_by_a_signal_is_128_and_its_number() {
    let lab = Lab::with_sandbox();
    for (name, number) in [
        ("KILL", 9),
        ("TERM", 15),
        ("SEGV", 11),
        ("USR1", 10),
        ("PIPE", 13),
    ] {
        let done = lab
            .ops([
                "exec",
                "web-1",
                "--",
                "sh",
                "-c",
                &format!("kill -{name} $$"),
            ])
            .output();
        assert_eq!(done.status, 128 + number, "{name}: {done}");
    }
}

#[test]
fn arguments_arrive_as_they_are() {
    let lab = Lab::with_sandbox();
    let traps = [
        "a b",
        "",
        "it's",
        "\"",
        "$HOME",
        "`id`",
        "$(id)",
        "*",
        "~",
        "-n",
        "--",
        "\\",
        "\\n",
        "new\nline\n",
        "\t",
        "%s",
        "!x",
        ";",
        "a|b",
        "{a,b}",
        "#",
        "ü\u{202e}",
    ];
    let mut words = vec!["exec", "web-1", "--", "printf", "<%s>\\n"];
    words.extend(traps);
    let done = lab.ops(&words).output().success();
    let expected: String = traps.iter().map(|word| format!("<{word}>\n")).collect();
    assert_eq!(done.stdout, expected);
    // Without the dashes the command begins at the first word that is no option of ours.
    let done = lab
        .ops([
            "exec", "web-1", "printf", "<%s>", "-v", "--yes", "-o", "json",
        ])
        .output()
        .success();
    assert_eq!(done.stdout, "<-v><--yes><-o><json>");
    // One word is one word.
    let done = lab.ops(["exec", "web-1", "--", "echo a b"]).output();
    assert_eq!(done.status, 127, "{done}");
}

#[test]
fn a_long_command_line_arrives_whole() {
    let lab = Lab::with_sandbox();
    let long = "x".repeat(100_000);
    let done = lab
        .ops(["exec", "web-1", "--", "printf", "%s", &long])
        .output()
        .success();
    assert!(done.stdout == long, "{} bytes came", done.stdout.len());
}

#[test]
fn output_is_byte_exact_and_error_output_apart_from_it() {
    let lab = Lab::with_sandbox();
    let mut bytes = noise(3 << 20);
    // What an agent may take for broken text, and for its own.
    bytes.extend_from_slice("\u{fffd}\u{fffd}EXIT_CODE: 3".as_bytes());
    let file = lab.home().join("noise");
    std::fs::write(&file, &bytes).unwrap();
    let line = format!(
        "cat {0}; head -c 100000 {0} | od -c >&2; exit 3",
        file.display()
    );
    let done = lab
        .ops(["exec", "web-1", "--shell", &line])
        .output()
        .exits(3);
    assert!(
        done.bytes == bytes,
        "{} of {} bytes",
        done.bytes.len(),
        bytes.len()
    );
    assert!(done.stderr.len() > 300_000, "{}", done.stderr.len());
}

#[test]
fn input_arrives_byte_exact_with_its_end() {
    let lab = Lab::with_sandbox();
    let bytes = noise(2 << 20);
    let done = lab
        .ops(["exec", "web-1", "--", "sh", "-c", "cat; echo >&2 over"])
        .stdin(&bytes)
        .output()
        .success();
    assert!(done.bytes == bytes, "{} bytes came back", done.bytes.len());
    assert_eq!(done.stderr, "over\n");
}

#[test]
fn a_command_that_reads_no_input_does_not_wait_for_it() {
    let lab = Lab::with_sandbox();
    // More than any buffer on the way holds.
    let done = lab
        .ops(["exec", "web-1", "--", "true"])
        .stdin(noise(8 << 20))
        .output();
    assert_eq!((done.status, &*done.stderr), (0, ""));
    let done = lab
        .ops(["exec", "-n", "web-1", "--", "cat"])
        .stdin("never sent")
        .output();
    assert_eq!((done.status, &*done.stdout), (0, ""));
}

#[test]
fn a_slip_in_an_option_is_no_status_of_the_command() {
    let lab = Lab::with_sandbox();
    for words in [
        &["exec", "--bogus", "web-1", "--", "true"][..],
        &["exec", "--time-limit", "soon", "web-1", "--", "true"],
        &["exec", "", "--", "true"],
    ] {
        let done = lab.ops(words).output();
        assert_eq!(done.status, 255, "{words:?} {done}");
        assert!(
            done.stderr.starts_with("ops: OPS-E-USAGE: "),
            "{words:?} {done}"
        );
        assert_eq!(done.stderr.lines().count(), 1, "{words:?} {done}");
    }
}

#[test]
fn user_folder_variables_and_time_limit() {
    let lab = Lab::with_sandbox().env("SECRET", "s3 cr'et");
    let file = lab.write("vars", "# a comment\nB=two words\nA=replaced\n");
    let done = lab
        .ops([
            "exec", "web-1", "--cwd", "/usr", "--env", "A=1", "--env", "SECRET",
        ])
        .output();
    assert!(done.stderr.contains("no command to run"), "{done}");
    assert_eq!(done.status, 255);
    let done = lab
        .ops([
            "exec",
            "web-1",
            "--cwd",
            "/usr",
            "--env-file",
            file.to_str().unwrap(),
            "--env",
            "A=1",
            "--env",
            "SECRET",
            "--shell",
            "pwd; echo \"$A $B $SECRET\"",
        ])
        .output()
        .success();
    assert_eq!(done.stdout, "/usr\n1 two words s3 cr'et\n");
    let done = lab
        .ops(["exec", "web-1", "--time-limit", "1s", "--", "sleep", "600"])
        .output();
    assert_eq!((done.status, &*done.stdout), (124, ""), "{done}");
    let done = lab
        .ops(["exec", "web-1", "--env", "MISSING", "id"])
        .output();
    assert_eq!(done.status, 255);
    assert!(
        done.stderr
            .starts_with("ops: OPS-E-USAGE: the variable `MISSING` is not set here"),
        "{done}"
    );
}

#[test]
fn a_failure_of_ops_itself_is_255_with_one_line() {
    let lab = Lab::with_sandbox();
    for (target, code) in [
        ("nosuch", "OPS-E-NOT-FOUND"),
        ("web-4", "OPS-E-UNREACHABLE"),
    ] {
        let done = lab.ops(["exec", target, "--", "true"]).output();
        assert_eq!(done.status, 255, "{done}");
        assert!(done.stderr.starts_with(&format!("ops: {code}: ")), "{done}");
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
        assert_eq!(done.stdout, "");
    }
    let done = lab.ops(["exec", "web-1", "git", "log", "--", "x"]).output();
    assert_eq!(done.status, 255);
    assert!(
        done.stderr.contains("all words before -- are targets"),
        "{done}"
    );
}

#[test]
fn cron_and_xargs_run_it_too() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops(["exec", "web-1", "--", "echo", "here"])
        .without("HOME")
        .without("TERM")
        .without("USER")
        .without("SHELL")
        .without("LANG")
        .output()
        .success();
    assert_eq!((&*done.stdout, &*done.stderr), ("here\n", ""));
    let binary = ops_tests::lab::binary();
    let done = lab
        .run(
            "xargs",
            [
                "-P",
                "3",
                "-I{}",
                binary.to_str().unwrap(),
                "exec",
                "{}",
                "--",
                "echo",
                "of {}",
            ],
        )
        .stdin("web-1\nweb-2\nweb-3\n")
        .output()
        .success();
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["of web-1", "of web-2", "of web-3"], "{done}");
}

#[test]
fn connections_that_are_lost_cost_no_byte() {
    let lab = Lab::with_sandbox();
    let bytes = noise(1 << 20);
    let file = lab.home().join("noise");
    std::fs::write(&file, &bytes).unwrap();
    // A session writes all that there is at once, and is lost after a part of that.
    let cuts = ["sandbox", "fault", "cut-after=300,cuts=5"];
    lab.ops(cuts).output().success();
    let line = format!("cat {}; exit 6", file.display());
    let done = lab
        .ops(["exec", "-n", "web-1", "--shell", &line])
        .output()
        .exits(6);
    assert!(
        done.bytes == bytes,
        "{} of {} bytes: {}",
        done.bytes.len(),
        bytes.len(),
        done.stderr
    );
}

#[test]
fn a_detached_command_stays_and_says_where_its_output_goes() {
    let lab = Lab::with_sandbox();
    let seconds = super::odd_seconds();
    let line = format!("echo begun; exec sleep {seconds}");
    let done = lab
        .ops(["exec", "--detach", "web-1", "--shell", &line])
        .output()
        .success();
    let (pid, path) = done.stdout.trim_end().split_once(' ').unwrap();
    super::eventually("the command runs", || super::is_sleeping(&seconds));
    super::eventually("its output is kept", || {
        std::fs::read(path).is_ok_and(|text| text == b"begun\n")
    });
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    super::eventually("the command has ended", || !super::is_sleeping(&seconds));
}

mod on_a_terminal {
    use ops_tests::{lab::binary, service::Service, terminal::Terminal};

    #[test]
    fn a_program_has_a_terminal_of_our_size_and_its_status_comes_back() {
        let service = Service::start(binary().to_str().unwrap(), "");
        let script = "test -t 0 && test -t 1 && stty size; read line; echo \"got $line\"; exit 42";
        let mut terminal = Terminal::start(
            &service,
            &[
                "exec", "-it", "--env", "A=1", "web-1", "--", "sh", "-c", script,
            ],
        );
        terminal.wait_for("24 80");
        terminal.send("typed\r");
        terminal.wait_for("got typed");
        assert_eq!(terminal.wait(), Some(42));
        assert!(terminal.is_cooked());
        let output = String::from_utf8_lossy(&terminal.output()).into_owned();
        assert!(!output.contains('\u{1e}'), "{output:?}");
    }

    #[test]
    fn ctrl_c_is_the_commands_and_a_resize_reaches_it() {
        let service = Service::start(binary().to_str().unwrap(), "");
        let script = "trap 'stty size' WINCH; trap 'echo caught; exit 9' INT; echo up; \
                      while :; do sleep 0.1; done";
        let mut terminal = Terminal::start(
            &service,
            &["exec", "-t", "web-1", "--", "bash", "-c", script],
        );
        terminal.wait_for("up");
        terminal.resize(100, 30);
        terminal.wait_for("30 100");
        terminal.send("\x03");
        terminal.wait_for("caught");
        assert_eq!(terminal.wait(), Some(9));
    }

    #[test]
    fn an_end_of_input_is_the_commands_and_a_hang_up_leaves_nothing() {
        let service = Service::start(binary().to_str().unwrap(), "");
        let script = "echo up; cat; exit 6";
        let mut terminal = Terminal::start(&service, &["exec", "-it", "web-1", "--shell", script]);
        terminal.wait_for("up");
        terminal.send("line\r");
        terminal.wait_for("line");
        terminal.send("\x04");
        assert_eq!(terminal.wait(), Some(6));
        assert!(terminal.is_cooked());
        let seconds = crate::odd_seconds();
        let script = format!("echo up; sleep {seconds}");
        let mut terminal = Terminal::start(&service, &["exec", "-it", "web-1", "--shell", &script]);
        terminal.wait_for("up");
        crate::eventually("the command runs", || crate::is_sleeping(&seconds));
        terminal.hang_up();
        terminal.wait();
        crate::eventually("the command has ended", || !crate::is_sleeping(&seconds));
    }

    #[test]
    fn without_a_terminal_here_it_says_so() {
        let lab = ops_tests::Lab::with_sandbox();
        let done = lab.ops(["exec", "-t", "web-1", "--", "true"]).output();
        assert_eq!(done.status, 255);
        assert!(
            done.stderr
                .starts_with("ops: OPS-E-USAGE: -t needs a terminal on standard input"),
            "{done}"
        );
    }
}
