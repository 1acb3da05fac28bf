//! `ops shell` on real terminals and pipes.

use std::{
    io::{Read as _, Write as _},
    process::Stdio,
};

use ops_tests::{
    service::Service,
    terminal::{SIZE, Terminal},
};
use rustix::process::Signal;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

fn service() -> Service {
    Service::start(OPS, "")
}

/// A shell whose prompt is there.
fn shell(service: &Service) -> Terminal {
    let terminal = Terminal::start(service, &["shell", "web-1"]);
    terminal.wait_for("web-1:~$ ");
    terminal
}

#[track_caller]
fn assert_in_order(service: &Service, terminal: &Terminal) {
    assert!(terminal.is_cooked(), "the terminal is not restored");
    assert_ended(service);
}

/// The agent may still be at its last output when the service has ended the session.
#[track_caller]
fn assert_ended(service: &Service) {
    let sessions = service.sessions();
    assert!(
        !sessions.is_empty() && sessions.iter().all(|status| status.starts_with("Terminat")),
        "{sessions:?}"
    );
}

#[test]
fn exit_ends_the_session_and_restores_the_terminal() {
    let service = service();
    let mut terminal = shell(&service);
    assert!(!terminal.is_cooked());
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
    assert_in_order(&service, &terminal);
}

#[test]
fn ctrl_d_ends_the_session_and_restores_the_terminal() {
    let service = service();
    let mut terminal = shell(&service);
    terminal.send("\x04");
    assert_eq!(terminal.wait(), Some(0));
    assert_in_order(&service, &terminal);
}

#[test]
fn the_escape_ends_a_session_whatever_it_is_doing() {
    let service = service();
    let mut terminal = shell(&service);
    terminal.ask("stty -isig; echo be''gins; sleep 1000", "begins\r\n");
    terminal.send("\r~.");
    assert_eq!(terminal.wait(), Some(0));
    assert_in_order(&service, &terminal);
}

#[test]
fn sigterm_and_sigint_restore_the_terminal_and_what_an_editor_changed_in_it() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let service = service();
        let mut terminal = shell(&service);
        terminal.ask(r"printf '\033[?1049h\033[?1000h\033[?25lon%s' ce", "once");
        let from = terminal.output().len();
        terminal.signal(signal);
        assert_eq!(terminal.wait(), Some(status));
        terminal.wait_for_after(from, "\x1b[?1049l");
        let screen = terminal.screen(SIZE.0, SIZE.1);
        assert!(!screen.screen().alternate_screen());
        assert!(!screen.screen().hide_cursor());
        assert_eq!(
            screen.screen().mouse_protocol_mode(),
            vt100::MouseProtocolMode::None
        );
        assert_in_order(&service, &terminal);
    }
}

#[test]
fn a_terminal_that_is_closed_ends_the_session_at_the_service() {
    let service = service();
    let mut terminal = shell(&service);
    terminal.hang_up();
    assert_eq!(terminal.wait(), Some(143));
    assert_ended(&service);
}

#[test]
fn a_hang_up_while_the_session_is_being_ended_does_not_keep_it_open() {
    let service = service();
    let mut terminal = shell(&service);
    service.set_faults("slow=TerminateSession/1s");
    terminal.send("\r~.");
    terminal.wait_for("ending the session on web-1");
    terminal.signal(Signal::HUP);
    terminal.wait();
    assert_ended(&service);
}

#[test]
fn sighup_restores_the_terminal() {
    let service = service();
    let mut terminal = shell(&service);
    terminal.signal(Signal::HUP);
    assert_eq!(terminal.wait(), Some(143));
    assert_in_order(&service, &terminal);
}

#[test]
fn every_signal_that_ends_a_process_restores_the_terminal_first() {
    let service = service();
    let signals = [
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XCPU,
        Signal::XFSZ,
        Signal::ABORT,
        Signal::TRAP,
        Signal::SYS,
    ];
    for signal in signals {
        let mut terminal = shell(&service);
        terminal.signal(signal);
        assert_eq!(
            terminal.wait(),
            Some(128 + signal.as_raw()),
            "as a shell tells of {signal:?}"
        );
        assert_in_order(&service, &terminal);
    }
}

/// The user's own shell, in which `ops shell` runs.
fn local_shell(service: &Service, line: &str) -> Terminal {
    let command = pty_process::blocking::Command::new("bash")
        .args(["--norc", "--noprofile", "-i"])
        .env_clear()
        .envs(service.environment())
        // Long enough for a busy machine to type within it.
        .env("OPS_DEBUG_SURPRISE", "3000")
        .current_dir(service.home());
    let terminal = Terminal::run(command);
    terminal.ask("PS1='lo''cal$ '", "local$ ");
    terminal.ask(&format!("{OPS} {line}"), "web-1:~$ ");
    terminal
}

#[test]
fn a_session_that_the_service_ends_without_a_text_does_not_drop_the_user_into_his_own_shell() {
    let service = service();
    let terminal = local_shell(&service, "shell web-1");
    // The service ends the session as soon as a key has passed.
    service.set_faults("end-after=0");
    let from = terminal.output().len();
    terminal.send("e");
    let at = terminal.wait_for_after(from, "the session on web-1 is over: ");
    let at = terminal.wait_for_after(at, "which gave no");
    // On a line of its own, with what was at the prompt above.
    let shown = terminal.output();
    let line = shown[..at].iter().rposition(|&byte| byte == b'\n');
    assert!(
        shown[line.expect("a line") + 1..at].starts_with(b"the session"),
        "{}",
        String::from_utf8_lossy(&shown)
    );
    terminal.send("cho x >pwned\r");
    let at = terminal.wait_for_after(at, "is dropped");
    terminal.wait_for_after(at, "local$ ");
    terminal.ask("echo a''live $?", "alive 0");
    assert!(!service.home().join("pwned").exists());
}

#[test]
fn what_the_service_says_of_an_end_is_told_and_a_quiet_shell_says_nothing() {
    let service = service();
    let mut terminal = shell(&service);
    service.set_faults("end-after=0,end-text=Closed for the night.");
    terminal.send("e");
    terminal.wait_for("the session on web-1 is over: Closed for the night.");
    assert_eq!(terminal.wait(), Some(0));

    service.set_faults("seed=0");
    let mut terminal = Terminal::start(&service, &["-q", "shell", "web-1"]);
    terminal.wait_for("web-1:~$ ");
    service.set_faults("end-after=0");
    terminal.send("e");
    assert_eq!(terminal.wait(), Some(0));
    let shown = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(!shown.contains("is over"), "{shown}");
}

#[test]
fn an_exit_of_the_users_own_needs_no_words() {
    let service = service();
    for keys in ["exit\r", "\x04", "true; exit 3\r", "exot\x7f\x7fit\r\r"] {
        let mut terminal = shell(&service);
        terminal.send(keys);
        assert_eq!(terminal.wait(), Some(0));
        let shown = String::from_utf8_lossy(&terminal.output()).into_owned();
        assert!(!shown.contains("is over"), "{keys:?}: {shown}");
    }
}

#[test]
fn a_panic_restores_the_terminal_and_ends_the_session() {
    let service = service();
    let mut terminal = Terminal::start_with(&service, &["shell", "web-1"], |command| {
        command.env("OPS_DEBUG_PANIC", "1")
    });
    assert_eq!(terminal.wait(), Some(1));
    terminal.wait_for("this is a bug in ops");
    assert_in_order(&service, &terminal);
}

#[test]
fn a_far_side_that_is_gone_restores_the_terminal() {
    let service = service();
    let mut terminal = shell(&service);
    service.set_faults("cut-after=1,refuse-resume=gone");
    terminal.send("x\r");
    assert_eq!(terminal.wait(), Some(7));
    terminal.wait_for("is lost");
    assert!(terminal.is_cooked());
}

#[test]
fn a_killed_shell_ends_the_session() {
    let service = service();
    let mut terminal = shell(&service);
    terminal.send("kill -9 $$\r");
    assert_eq!(terminal.wait(), Some(0));
    assert_in_order(&service, &terminal);
}

#[test]
fn the_size_is_told_at_the_start_and_after_each_change() {
    let service = service();
    let terminal = shell(&service);
    terminal.ask("stty size", "24 80\r\n");
    terminal.resize(101, 37);
    // The change travels beside what is typed: asked for until it has arrived.
    terminal.ask(
        "until [ \"$(stty size)\" = '37 101' ]; do sleep 0.05; done; echo re''sized",
        "resized\r\n",
    );
}

#[test]
fn control_keys_reach_the_far_side() {
    let service = service();
    let terminal = shell(&service);
    for (key, line) in [("\x03", "^C"), ("\x1c", "^\\")] {
        // The program itself says that it has the terminal; the shell around it would ignore the
        // key.
        terminal.ask("sh -c 'echo st\"\"arted; exec cat'", "started\r\n");
        let from = terminal.output().len();
        terminal.send(key);
        let at = terminal.wait_for_after(from, line);
        terminal.wait_for_after(at, "web-1:~$ ");
    }
    terminal.ask("sh -c 'echo st\"\"arted; exec cat'", "started\r\n");
    let from = terminal.output().len();
    terminal.send("\x1a");
    terminal.wait_for_after(from, "Stopped");
}

#[test]
fn bytes_pass_as_they_are() {
    let service = service();
    let terminal = shell(&service);
    terminal.ask(
        "stty raw -echo; echo rea''dy; head -c 768 | md5sum; stty sane",
        "ready",
    );
    let every: Vec<u8> = (0..=255).cycle().take(768).collect();
    terminal.send(&every);
    // md5 of 00 01 … ff, three times.
    terminal.wait_for("e6899eaaf06fd702f3ed3f988eb19362");
}

#[test]
fn a_paste_of_a_megabyte_arrives_whole() {
    let service = service();
    let terminal = shell(&service);
    let paste: Vec<u8> = (0..1_048_576_u32).map(|i| b'a' + (i % 23) as u8).collect();
    let file = service.home().join("pasted");
    terminal.ask(
        &format!(
            "stty raw -echo; echo rea''dy; head -c {} > {}; stty sane; echo do''ne",
            paste.len(),
            file.display()
        ),
        "ready",
    );
    terminal.send(&paste);
    terminal.wait_for("done");
    assert!(std::fs::read(&file).expect("the file") == paste);
}

#[test]
fn pasted_lines_arrive_whole() {
    let service = service();
    let terminal = shell(&service);
    let lines: String = (0..300).fold(String::new(), |all, i| {
        all + &format!("{i:05} {}\n", "x".repeat(3500))
    });
    let file = service.home().join("pasted");
    terminal.ask(
        &format!(
            "stty -echo; echo rea''dy; cat > {}; stty sane; echo do''ne",
            file.display()
        ),
        "ready",
    );
    terminal.send(lines.replace('\n', "\r"));
    terminal.send("\x04");
    terminal.wait_for("done");
    assert!(std::fs::read_to_string(&file).expect("the file") == lines);
}

#[test]
fn help_for_escapes_is_shown_and_the_escape_can_be_another_or_none() {
    let service = service();
    let terminal = shell(&service);
    terminal.send("~?");
    terminal.wait_for("escapes, at the beginning of a line");

    let mut other = Terminal::start(&service, &["shell", "web-1", "--escape", "%"]);
    other.wait_for("web-1:~$ ");
    other.ask("~.", "not found");
    other.send("\r%.");
    assert_eq!(other.wait(), Some(0));

    let mut none = Terminal::start(&service, &["shell", "web-1", "--escape", "none"]);
    none.wait_for("web-1:~$ ");
    none.ask("~.", "not found");
    none.send("exit\r");
    assert_eq!(none.wait(), Some(0));
}

#[test]
fn what_is_typed_while_the_connection_is_down_is_delivered() {
    let service = service();
    let terminal = shell(&service);
    // Four attempts take longer than the two seconds that nothing is said of.
    service.set_faults("cut-after=1,refuse-resume=3");
    terminal.send("echo a line that is cut in the middle");
    terminal.wait_for("web-1: connection lost");
    terminal.send("; echo ty''ped mean''while\r");
    terminal.wait_for("web-1: resumed after");
    terminal.wait_for("typed meanwhile\r\n");
}

#[test]
fn a_connection_that_is_back_at_once_was_never_lost() {
    let service = service();
    let mut terminal = shell(&service);
    service.set_faults("bye-after=1");
    terminal.send("echo over the ho''urly close\r");
    service.wait_for_call("ResumeSession");
    terminal.wait_for("over the hourly close\r\n");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
    let shown = terminal.screen(SIZE.0, SIZE.1).screen().contents();
    assert!(
        !shown.contains("lost") && !shown.contains("resumed"),
        "{shown}"
    );
}

/// A program with a full screen: text, a status line on the last of 24 lines, the cursor in the
/// middle. It ends with a key.
const FULL_SCREEN: &str = r#"printf '\033[?1049h\033[2J\033[3;5Hbod''y of it\033[24;1H\033[7mstat''us line\033[0m\033[10;10H'; read -rsn1 k; printf '\033[?1049l'; echo the end"#;

#[test]
fn a_full_screen_program_is_told_on_its_last_line_and_gets_it_back() {
    let service = service();
    let terminal = shell(&service);
    let last_line = |screen: &vt100::Screen| screen.rows(0, SIZE.0).last().unwrap_or_default();
    terminal.send(format!("{FULL_SCREEN}\r"));
    terminal.wait_for_screen("the program's status line", |screen| {
        last_line(screen) == "status line" && screen.cursor_position() == (9, 9)
    });
    let before = terminal.screen(SIZE.0, SIZE.1);
    service.set_faults("cut-after=0,cuts=1,refuse-resume=4");
    terminal.wait_for_screen("the word about the connection", |screen| {
        last_line(screen).starts_with("web-1: connection lost (")
            && screen.contents().contains("body of it")
            && screen.cursor_position() == (9, 9)
    });
    terminal.wait_for_screen("the status line again", |screen| {
        screen.state_formatted() == before.screen().state_formatted()
    });
    terminal.send("q");
    terminal.wait_for("the end");
}

#[test]
fn a_full_screen_program_is_told_of_in_the_title_where_the_profile_says_so() {
    let service = service();
    let folder = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("t.yaml"), "shell: { notices: title }\n").expect("a profile");
    let terminal = Terminal::start(&service, &["shell", "--profile", "t", "web-1"]);
    terminal.wait_for("web-1:~$ ");
    terminal.send(format!("{FULL_SCREEN}\r"));
    terminal.wait_for_screen("the program's status line", |screen| {
        screen.contents().contains("status line") && screen.cursor_position() == (9, 9)
    });
    let before = terminal.screen(SIZE.0, SIZE.1);
    service.set_faults("cut-after=0,cuts=1,refuse-resume=4");
    // Put on the stack, taken, and given back.
    terminal.wait_for("\x1b[22;2t\x1b]2;web-1: connection lost (");
    terminal.wait_for("\x1b]2;web-1\x07\x1b[23;2t");
    let after = terminal.screen(SIZE.0, SIZE.1);
    assert_eq!(
        after.screen().state_formatted(),
        before.screen().state_formatted()
    );
    terminal.send("q");
    terminal.wait_for("the end");
}

#[test]
fn a_silent_agent_is_told_of_and_can_be_left() {
    let service = service();
    let mut terminal = shell(&service);
    service.set_faults("silent-after=1");
    terminal.send("echo the agent hears this no more");
    terminal.wait_for("the agent has not answered for");
    terminal.send("\r~.");
    assert_eq!(terminal.wait(), Some(0));
    assert!(terminal.is_cooked());
    assert!(service.calls().contains(&"TerminateSession".to_owned()));
}

#[test]
fn the_escape_works_behind_a_paste_that_nobody_takes() {
    let service = service();
    let mut terminal = shell(&service);
    service.set_faults("silent-after=1");
    // More than the session queues: what is typed behind it is read all the same.
    terminal.send("x".repeat(1 << 20));
    terminal.wait_for("the agent has not answered for");
    terminal.send("\r~.");
    assert_eq!(terminal.wait(), Some(0));
    assert!(terminal.is_cooked());
}

fn piped(service: &Service, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = service
        .ops(args)
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("input is taken");
    drop(stdin);
    let output = child.wait_with_output().expect("ops ends");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn piped_input_is_run_and_the_shell_ends_with_it() {
    let service = service();
    let (status, stdout, stderr) = piped(&service, &["shell", "web-1"], "echo si''x times\n");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("six times\r\n"), "{stdout}");
    assert_eq!(stderr, "");
    assert_ended(&service);
}

#[test]
fn piped_input_need_not_end_with_a_line_end_and_programs_see_its_end_too() {
    let service = service();
    let input = "cat > /dev/null\nread x; read y\nexec sh\necho la''st";
    let (status, stdout, _) = piped(&service, &["sh", "web-1"], input);
    assert_eq!(status, Some(0));
    assert!(!stdout.contains("not found"), "{stdout}");
    // `cat` has read everything up to the end; the shells behind it are told of the end again.
    let (status, stdout, _) = piped(&service, &["sh", "web-1"], "exec sh\necho la''st");
    assert_eq!(status, Some(0));
    assert!(stdout.contains("last\r\n"), "{stdout}");
}

#[test]
fn no_input_at_all_ends_at_once() {
    let service = service();
    let output = service.ops(&["shell", "web-1"]).output().expect("ops runs");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let service = service();
    let mut child = service
        .ops(&["shell", "web-1"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(b"stty -onlcr; seq 700000\nexit\n")
        .expect("input is taken");
    let mut stdout = child.stdout.take().expect("a pipe");
    // The first bytes say that it runs; then nobody reads until every buffer on the way is full and
    // the far side has to wait. That the far side waits shows in the session: it is still there
    // when the rest is read.
    let mut got = vec![0; 4096];
    stdout.read_exact(&mut got).expect("output");
    assert_eq!(service.sessions(), ["Connected"]);
    stdout.read_to_end(&mut got).expect("the rest");
    assert!(child.wait().expect("ops ends").success());
    let wanted: String = (1..=700_000).fold(String::new(), |all, i| all + &format!("{i}\n"));
    let text = String::from_utf8_lossy(&got);
    assert!(text.contains(&wanted), "{} bytes", got.len());
}

#[test]
fn a_reader_that_leaves_ends_the_session_quietly() {
    let service = service();
    let mut child = service
        .ops(&["shell", "web-1"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"yes\n").expect("input is taken");
    let mut first = [0; 1000];
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut first).expect("output");
    drop(stdout);
    let output = child.wait_with_output().expect("ops ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_ended(&service);
}

#[track_caller]
fn assert_fails(service: &Service, args: &[&str], status: i32, texts: &[&str]) {
    let output = service.ops(args).output().expect("ops runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert_eq!(output.stdout, b"");
    for text in texts {
        assert!(stderr.contains(text), "`{text}` is missing in:\n{stderr}");
    }
    assert!(stderr.contains("hint:"), "{stderr}");
}

#[test]
fn what_cannot_have_a_session_says_why_and_what_to_do() {
    let service = service();
    assert_fails(&service, &["shell", "nosuch"], 3, &["nosuch", "eu-west-1"]);
    assert_fails(&service, &["shell", "web-*"], 6, &["--first"]);
    assert_fails(
        &service,
        &["shell", "web-1", "--document", "nosuch"],
        1,
        &["nosuch"],
    );
    assert_fails(
        &service,
        &["shell", "root@web-1", "--document", "X"],
        2,
        &["document"],
    );
    service.set_faults("deny=ssm:StartSession");
    assert_fails(
        &service,
        &["shell", "web-1"],
        5,
        &[
            "ssm:StartSession",
            "instance/i-",
            "document/SSM-SessionManagerRunShell",
        ],
    );
    service.set_faults("kms=arn:aws:kms:eu-west-1:123456789012:key/k,deny=kms:GenerateDataKey");
    assert_fails(&service, &["shell", "web-1"], 5, &["encrypted", "key/k"]);
    service.set_faults("");
    service.change_instance("web-2", r#"{"online": false}"#);
    assert_fails(&service, &["shell", "web-2"], 7, &["web-2"]);
    service.change_instance("web-2", r#"{"state": "stopped"}"#);
    assert_fails(&service, &["shell", "web-2"], 7, &["stopped"]);
}

#[test]
fn parameters_go_to_the_document_as_they_are() {
    let service = service();
    let (status, stdout, stderr) = piped(
        &service,
        &[
            "shell",
            "--document",
            "AWS-StartInteractiveCommand",
            "--parameters",
            "command=echo a, b=c; tty",
            "web-1",
        ],
        "",
    );
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.starts_with("a, b=c\r\n/dev/"), "{stdout}");
}

#[test]
fn a_protected_profile_asks_before_the_session_and_the_shell_gets_the_rest_of_the_typing() {
    let service = service();
    let folder = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(
        folder.join("prod.yaml"),
        "guard: { protect: true, confirm: type-name }\n",
    )
    .expect("a profile");
    let args = ["-p", "prod", "shell", "web-1"];
    assert_fails(&service, &args, 9, &["--yes"]);
    let mut terminal = Terminal::start(&service, &args);
    terminal.wait_for("Type web-1");
    terminal.send("web-1\recho typed a''head\r");
    terminal.wait_for("typed ahead\r\n");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
    let mut terminal = Terminal::start(&service, &args);
    terminal.wait_for("Type web-1");
    terminal.send("web-2\r");
    assert_eq!(terminal.wait(), Some(9));
    // Ctrl-C at the question is an answer too.
    let mut terminal = Terminal::start(&service, &args);
    terminal.wait_for("Type web-1");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
    assert_eq!(service.sessions().len(), 1);
}

#[test]
fn ctrl_c_while_the_session_is_being_opened_ends_it() {
    let service = Service::start(OPS, "slow=ssm:StartSession/1h");
    let mut terminal = Terminal::start(&service, &["shell", "web-1"]);
    service.wait_for_call("DescribeInstances");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
    assert!(terminal.is_cooked());
}

#[test]
fn a_folder_and_a_login_shell_of_the_profile_are_used() {
    let service = service();
    let folder = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(
        folder.join("team.yaml"),
        "shell: { cwd: /usr, login: true }\nsession: { escape: none, reason: required }\n",
    )
    .expect("a profile");
    assert_fails(
        &service,
        &["-p", "team", "shell", "web-1"],
        9,
        &["--reason"],
    );
    let (status, stdout, stderr) = piped(
        &service,
        &["-p", "team", "shell", "web-1", "--reason", "a test"],
        "pwd; shopt -q login_shell && echo lo''gin\n",
    );
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("/usr\r\n"), "{stdout}");
    assert!(stdout.contains("login\r\n"), "{stdout}");
}
