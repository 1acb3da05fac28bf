//! What is offered, and by whom.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use ops_test_needs::needs;
use ops_tests::terminal::Terminal;

use super::{cache::files, *};

#[test]
fn names_are_completed_as_profile_and_options_on_the_line_select() {
    let service = user("");
    write(
        &service,
        ".config/ops/profiles/narrow.yaml",
        "select: { tags: { Team: web } }\n",
    );
    assert_eq!(
        complete(&service, &["ops", "-p", "narrow", "shell", ""]),
        ["web-2"]
    );
    assert_eq!(
        complete(&service, &["ops", "shell", "-p", "narrow", ""]),
        ["web-2"]
    );
    assert_eq!(
        complete(
            &service,
            &["ops", "ls", "--profile=narrow", "--tag", "Name="]
        ),
        ["Name=web-2"]
    );
    // ssh's own option of that name is none of ours, and its value no target.
    assert_eq!(
        complete(
            &service,
            &["ops", "ssh", "-p", "22", "-L", "80:x:80", "web-"]
        ),
        ["web-1", "web-2"]
    );
    assert_eq!(
        complete(&service, &["ops", "-p", "nosuch", "shell", "we"]),
        Vec::<String>::new()
    );
    assert_eq!(
        complete(&service, &["ops", "shell", "web-1", "--", "x"]),
        Vec::<String>::new()
    );
    assert!(complete(&service, &["ops", "shell", "--fi"]).contains(&"--first".to_owned()));
    assert!(complete(&service, &["ops", "help", "fo"]).contains(&"forward".to_owned()));
    assert_eq!(
        complete(&service, &["ops", "config", "validate", ""]),
        ["narrow", "shop"]
    );
    assert_eq!(complete(&service, &["ops", "plugin", "run", ""]), ["greet"]);
}

#[test]
fn arguments_of_an_alias_complete_where_they_go() {
    let service = user("");
    write(
        &service,
        ".config/ops/profiles/placed.yaml",
        "aliases:\n  top: exec -it $1 -- top\n  both: cp $2:a $1\n",
    );
    let line = ["ops", "-p", "placed", "top"];
    let offered = |words: &[&str]| complete(&service, &[&line[..], words].concat());
    assert_eq!(offered(&["web-"]), ["web-1", "web-2"]);
    // Behind its place comes what the command is given on the server.
    assert_eq!(offered(&["web-1", "web-"]), [""; 0]);
    // A part of a word is not guessed.
    let typed = ["ops", "-p", "placed", "both", "here", "web-"];
    assert_eq!(complete(&service, &typed), [""; 0]);
}

#[test]
fn logs_of_the_profile_are_offered_and_nothing_among_the_words_of_a_command() {
    let service = user("");
    write(
        &service,
        ".config/ops/profiles/logged.yaml",
        "logs: { webserver: /var/log/nginx/error.log }\n",
    );
    let mut offered = complete(&service, &["ops", "-p", "logged", "logs", "-f", "web"]);
    offered.sort();
    assert_eq!(offered, ["web-1", "web-2", "webserver"]);
    assert_eq!(
        complete(&service, &["ops", "exec", "-n", "web-"]),
        ["web-1", "web-2"]
    );
    for command in [&["--", "ls", "web-"][..], &["ls", "web-"], &["--", "web-"]] {
        let words = [&["ops", "exec", "web-1"], command].concat();
        assert_eq!(
            complete(&service, &words),
            Vec::<String>::new(),
            "{words:?}"
        );
    }
}

#[test]
fn an_external_command_that_does_not_say_so_is_not_run() {
    let service = user("");
    let mark = service.home().join("ran");
    for path in ["bin/ops-old", ".local/share/ops/plugins/bin/ops-mute"] {
        write(
            &service,
            path,
            &format!(
                "#!/bin/sh\n[ \"$1\" = __complete ] && touch {}\necho x\n",
                mark.display()
            ),
        );
    }
    assert!(complete(&service, &["ops", "old", ""]).is_empty());
    assert!(complete(&service, &["ops", "mute", ""]).is_empty());
    assert!(!mark.exists());
    // One that hangs is given up.
    write(
        &service,
        ".local/share/ops/plugins/bin/ops-hang",
        "#!/bin/sh\ncase $1 in --ops-plugin-info) echo '{\"apiVersion\":\"ops.plugin/v1\",\"completes\":true}';; *) exec sleep 600;; esac\n",
    );
    assert!(complete(&service, &["ops", "hang", ""]).is_empty());
    assert!(complete(&service, &["ops", "m"]).contains(&"mute".to_owned()));
}

fn run(command: &mut Command) -> Output {
    command.output().expect("ops runs")
}

#[test]
fn with_cached_a_name_is_not_asked_for_and_one_that_is_gone_is() {
    let service = user("");
    let done = run(&mut service.ops(&["cache", "refresh"]));
    assert!(done.status.success());
    assert_eq!(
        String::from_utf8_lossy(&done.stderr),
        "15 running instances in eu-west-1\n"
    );
    assert_eq!(count(&service, "DescribeInstances"), 1);
    let done = run(&mut service.ops(&["--cached", "console", "web-1", "--print"]));
    assert!(done.stdout.ends_with(b"i-0a1b2c3d4e5f60718\n"));
    let done = run(&mut service.ops(&["console", "i-0a1b2c3d4e5f60718", "--print", "--cached"]));
    assert!(done.status.success());
    assert_eq!(count(&service, "DescribeInstances"), 1);
    // What may mean several, and lists, are never taken from it.
    run(&mut service.ops(&["--cached", "console", "dup", "--print"]));
    assert_eq!(count(&service, "DescribeInstances"), 2);
    run(&mut service.ops(&["--cached", "ls"]));
    assert_eq!(count(&service, "DescribeInstances"), 3);

    // Replaced by another machine of that name since.
    service.change_instance("web-1", r#"{"state": "terminated"}"#);
    service.change_instance("", r#"{"name": "web-1"}"#);
    let mut shell = service
        .ops(&["--cached", "shell", "web-1"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    let mut stdin = shell.stdin.take().expect("a pipe");
    stdin.write_all(b"echo it-$((40 + 2))\n").expect("typed");
    drop(stdin);
    let done = shell.wait_with_output().expect("ops ends");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(
        text.contains("it-42"),
        "{text}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );

    // Gone for good: the error is that of a look at the service.
    service.change_instance("web-2", r#"{"state": "terminated"}"#);
    let done = run(&mut service.ops(&["--cached", "shell", "web-2"]));
    assert_eq!(done.status.code(), Some(3));
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(
        text.contains("no running instance is called `web-2`"),
        "{text}"
    );
}

#[test]
fn the_cache_says_what_is_in_it_and_can_be_emptied() {
    let service = user("");
    complete(&service, &["ops", "shell", "we"]);
    let done = run(&mut service.ops(&["cache", "info", "-o", "json"]));
    let document: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let fleet = &document["fleets"][0];
    assert_eq!(fleet["account"], "123456789012");
    assert_eq!(fleet["regions"][0], "eu-west-1");
    assert_eq!(fleet["instances"], 15);
    assert_eq!(fleet["current"], true);
    let done = run(&mut service.ops(&["cache", "clear"]));
    assert_eq!(
        String::from_utf8_lossy(&done.stderr),
        "deleted 1 list of instances\n"
    );
    assert!(files(&service, "fleet").is_empty());
    assert!(run(&mut service.ops(&["cache", "info"])).status.success());
}

/// Whether a shell that only reads its script finds no fault in it.
fn is_read_by(shell: &str) {
    let service = user("");
    let done = run(&mut service.ops(&["completion", shell]));
    let script = write(&service, "script", &String::from_utf8_lossy(&done.stdout));
    let read = run(Command::new(shell).arg("-n").arg(&script));
    assert!(read.status.success(), "{shell}: {read:?}");
}

#[test]
fn bash_reads_its_script() {
    is_read_by("bash");
}

#[test]
fn zsh_reads_its_script() {
    needs!("zsh");
    is_read_by("zsh");
}

#[test]
fn fish_reads_its_script() {
    needs!("fish");
    is_read_by("fish");
}

#[test]
fn scripts_are_made_for_each_shell() {
    let service = user("");
    for shell in ["bash", "zsh", "fish", "elvish", "nushell", "powershell"] {
        let done = run(&mut service.ops(&["completion", shell]));
        assert!(done.status.success());
        assert!(done.stdout.ends_with(b"\n"));
    }
    // Other shells hand the line over in their own forms, and get theirs back.
    let ask = |shell: &str, words: &[&str], line: &str| {
        let done = run(plain(&service, words)
            .env("OPS_COMPLETE", shell)
            .env("OPS_COMPLETE_LINE", line));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let text = ask("nushell", &["ops", "shell", "\"my server 1"], "");
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer[0]["value"], "\"my server 1\" ");
    let text = ask("elvish", &["ops", "shell", "my server 1"], "");
    assert!(
        text.starts_with(" \tmy server 1\tmy server 1  (running"),
        "{text}"
    );
    let text = ask("powershell", &[], "ops shell 'it''s");
    assert!(
        text.starts_with("'it''s here'\tit's here\trunning"),
        "{text}"
    );
}

#[test]
fn with_cached_a_guard_asks_about_the_server_that_has_the_name_now() {
    let service = user("");
    crate::write(
        &service,
        ".config/ops/profiles/prod.yaml",
        "guard: { confirm: type-name }\n",
    );
    let ops = |args: &[&str]| {
        let done = run(&mut service.ops(&[&["-p", "prod", "--cached"], args].concat()));
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    assert_eq!(ops(&["cache", "refresh"]).0, Some(0));
    let (status, told) = ops(&["--no-input", "shell", "web-1"]);
    assert_eq!(status, Some(9), "{told}");
    assert!(told.contains("i-0a1b2c3d4e5f60718"), "{told}");
    // Another server has the name since.
    service.change_instance("web-1", r#"{"state": "terminated"}"#);
    service.change_instance("", r#"{"name": "web-1"}"#);
    let (status, told) = ops(&["--no-input", "shell", "web-1"]);
    assert_eq!(status, Some(9), "{told}");
    assert!(
        told.contains("shell on `web-1` (i-") && !told.contains("i-0a1b2c3d4e5f60718"),
        "{told}"
    );
    // And nobody has this one.
    service.change_instance("web-2", r#"{"state": "terminated"}"#);
    let (status, told) = ops(&["--no-input", "shell", "web-2"]);
    assert_eq!(status, Some(3), "{told}");
}

#[test]
fn paths_of_a_server_come_from_a_session_and_then_from_the_cache() {
    let service = user("");
    for path in [
        "there/alpha/x",
        "there/al file",
        "there/beta",
        "there/.hidden",
    ] {
        write(&service, path, "");
    }
    let there = service.home().join("there");
    let asked = |path: &str| {
        let word = format!("web-1:{}/{path}", there.display());
        // The first key may be too early for a busy machine: what comes later is there for the
        // next.
        let found = complete(&service, &["ops", "cp", &word]);
        let begin = format!("web-1:{}/", there.display());
        let names = found
            .iter()
            .map(|one| one.strip_prefix(&begin).expect(one).to_owned());
        names.collect::<Vec<String>>()
    };
    let sessions = || {
        let calls = service.calls();
        calls.iter().filter(|call| *call == "StartSession").count()
    };
    let begin = std::time::Instant::now();
    let mut first = asked("al");
    while first.is_empty() {
        assert!(begin.elapsed() < ops_tests::service::PATIENCE);
        first = asked("al");
    }
    first.sort();
    assert_eq!(first, ["al file", "alpha/"]);
    let started = sessions();
    assert!(started >= 1);
    assert_eq!(asked("b"), ["beta"]);
    assert_eq!(asked(".h"), [".hidden"]);
    assert_eq!(sessions(), started);
    // Nobody is asked for the folders of several servers, nor where a profile forbids sessions;
    // what is not there is no error.
    write(
        &service,
        ".config/ops/profiles/no-session.yaml",
        "copy: { deny_via: [session] }\n",
    );
    let word = format!("web-1:{}/", there.display());
    let denied = ["ops", "-p", "no-session", "cp", &word];
    assert_eq!(complete(&service, &denied), [""; 0]);
    let several = format!("web-*:{}/", there.display());
    assert_eq!(complete(&service, &["ops", "cp", &several]), [""; 0]);
    assert_eq!(sessions(), started);
    let missing = format!("web-1:{}/missing/", there.display());
    assert_eq!(complete(&service, &["ops", "cp", &missing]), [""; 0]);
}

#[test]
fn open_sessions_are_offered_by_their_ids_with_who_has_them() {
    let service = Service::start(OPS, "");
    let terminal = Terminal::start(&service, &["shell", "web-1"]);
    terminal.wait_for("$");
    let listed = service.ops(&["sessions", "-o", "name"]).output().unwrap();
    let id = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
    let begin = std::time::Instant::now();
    let asked = || complete(&service, &["ops", "sessions", "end", &id[..6]]);
    // The list is made behind the first key.
    while asked() != [id.as_str()] {
        assert!(
            begin.elapsed() < ops_tests::service::PATIENCE,
            "{:?}",
            asked()
        );
    }
    // A server stands for its sessions.
    let servers = complete(&service, &["ops", "sessions", "end", "web-"]);
    assert!(servers.contains(&"web-1".to_owned()), "{servers:?}");
    let log = complete(&service, &["ops", "sessions", "log", &id[..6]]);
    assert_eq!(log, [id.as_str()]);
}
