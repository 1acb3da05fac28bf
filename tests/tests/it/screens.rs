//! What is on a terminal of 80 columns and 24 rows.

use ops_tests::{Lab, service::Service, terminal::Terminal};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

fn service() -> Service {
    Service::start(OPS, "")
}

/// Runs to the end; gives the exit status and all that was written, colours left out.
fn on_a_terminal(service: &Service, args: &[&str]) -> (Option<i32>, String) {
    let mut terminal = Terminal::start(service, args);
    let status = terminal.wait();
    let screen = terminal.screen(80, 200);
    (status, screen.screen().contents())
}

#[track_caller]
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line:?} in:\n{text}");
    }
}

#[test]
fn ops_alone_and_the_short_help_of_small_verbs_fit_one_screen() {
    let service = service();
    let (status, text) = on_a_terminal(&service, &[]);
    assert_eq!(status, Some(0));
    assert!(text.trim_end().lines().count() <= 23, "{text}");
    let verbs = text.find("  ls, list").expect("verbs");
    assert!(text[..verbs].lines().count() < 8, "{text}");
    for verb in ["describe", "version", "cache", "completion"] {
        let (_, text) = on_a_terminal(&service, &[verb, "-h"]);
        assert!(text.trim_end().lines().count() <= 23, "{text}");
    }
}

#[test]
fn a_verb_without_a_target_asks_which_server() {
    let service = service();
    let mut terminal = Terminal::start(&service, &["shell"]);
    terminal.wait_for("a shell on which server?");
    // What is known of agents comes after the names.
    terminal.wait_for("offline 3d");
    let screen = terminal.screen(80, 24);
    let text = screen.screen().contents();
    fits(&text);
    assert!(
        text.contains("offline 3d") && text.contains("no agent"),
        "{text}"
    );
    // Columns begin at the same place in each row.
    let ids: Vec<usize> = text
        .lines()
        .filter_map(|line| line.find(" i-0").or_else(|| line.find(" mi-")))
        .collect();
    assert!(
        ids.len() > 5 && ids.iter().all(|at| *at == ids[0]),
        "{text}"
    );
    terminal.send("web-1\r");
    terminal.wait_for("web-1:~$ ");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));

    let mut terminal = Terminal::start(&service, &["console", "--print"]);
    terminal.wait_for("the console of which server?");
    terminal.send("\x1b");
    terminal.wait_for("no target was chosen");
    assert_eq!(terminal.wait(), Some(6));

    let mut terminal = Terminal::start(&service, &["console", "--print"]);
    terminal.wait_for("the console of which server?");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
}

#[test]
fn cp_and_forward_ask_for_a_server_too() {
    let service = service();
    let copy = pty_process::blocking::Command::new(OPS)
        .arg("cp")
        .env_clear()
        .envs(service.environment())
        .current_dir(service.home());
    let mut terminal = Terminal::run(copy);
    terminal.wait_for("copy from which server?");
    terminal.send("web-1\r");
    terminal.wait_for("Which file there? ");
    terminal.send("README.txt\r");
    terminal.wait_for("1 copied");
    assert_eq!(terminal.wait(), Some(0));
    assert!(service.home().join("README.txt").exists());
    for typed in [&["forward", "-d"][..], &["forward", "-d", "0:80"]] {
        let mut terminal = Terminal::start(&service, typed);
        terminal.wait_for("forward through which server?");
        terminal.send("web-2\r");
        if typed.len() == 2 {
            terminal.wait_for("To what (PORT, or HOST:PORT)? ");
            terminal.send("0:80\r");
        }
        terminal.wait_for("running in the background");
        assert_eq!(terminal.wait(), Some(0));
        terminal.wait_for("80 through web-2");
    }
    let (status, _) = on_a_terminal(&service, &["forward", "--stop", "all"]);
    assert_eq!(status, Some(0));
}

#[test]
fn what_is_picked_goes_to_standard_output_and_the_list_to_the_terminal() {
    let service = service();
    let file = service.home().join("picked");
    let into = std::fs::File::create(&file).expect("a file");
    let mut terminal =
        Terminal::start_with(&service, &["pick", "web-*"], |command| command.stdout(into));
    terminal.wait_for("which server?");
    terminal.wait_for("web-3");
    terminal.send("web-2\r");
    assert_eq!(terminal.wait(), Some(0));
    let picked = std::fs::read_to_string(&file).expect("the choice");
    assert_eq!(picked, "i-0b2c3d4e5f6071829\n");
    let drawn = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(!drawn.contains("db-1"), "{drawn}");

    let done = Lab::with_sandbox().ops(["pick"]).output().exits(9);
    assert!(
        done.stderr.contains("hint: list them: ops ls -o name"),
        "{done}"
    );
}

#[test]
fn errors_are_broken_at_words() {
    let service = service();
    let mut terminal = Terminal::start(&service, &["console", "--print", "--no-input", "web-9"]);
    assert_eq!(terminal.wait(), Some(3));
    let text = terminal.screen(80, 200).screen().contents();
    fits(&text);
    assert!(
        text.contains("\n  why: ") && text.contains("\n  hint: "),
        "{text}"
    );
    // In a pipe each part is a line.
    let done = Lab::with_sandbox()
        .ops(["console", "--print", "web-9"])
        .output();
    assert!(
        done.stderr.lines().all(|line| line.starts_with("error: ")
            || line.starts_with("  why: ")
            || line.starts_with("  hint: ")),
        "{done}"
    );
}

#[test]
fn named_columns_are_shown_and_no_others() {
    let service = service();
    let named = ["--columns", "name,image,launched,vpc,private-dns,platform"];
    for form in [&["-o", "wide"][..], &[]] {
        let args = [&["ls"], form, &named].concat();
        let (_, text) = on_a_terminal(&service, &args);
        let head: Vec<&str> = text
            .lines()
            .next()
            .expect("a head")
            .split_whitespace()
            .collect();
        assert_eq!(head.len(), 6, "{text}");
        assert!(head[0] == "NAME" && !text.contains("STATE"), "{text}");
        fits(&text);
    }
    let (_, text) = on_a_terminal(&service, &["ls", "-o", "wide"]);
    assert!(text.contains("left out for want of room: "), "{text}");
    let lab = Lab::with_sandbox();
    lab.profile("w", "output: { format: wide }\n");
    let done = lab
        .ops(["-p", "w", "ls", "--columns", "id", "web-1"])
        .output()
        .success();
    assert_eq!(done.stdout, "ID\ni-0a1b2c3d4e5f60718\n");
}

#[test]
fn watching_says_so_marks_what_changes_and_ends_with_q() {
    let service = service();
    for form in [
        &["-w", "1"][..],
        &["-w1"],
        &["--watch", "1"],
        &["--watch=1"],
    ] {
        let mut terminal = Terminal::start(&service, &[&["ls"], form].concat());
        terminal.wait_for("every 1s");
        terminal.wait_for("q ends");
        terminal.wait_for("worker-1");
        terminal.send("q");
        assert_eq!(terminal.wait(), Some(0));
        assert!(terminal.is_cooked());
    }
    let mut terminal = Terminal::start(&service, &["ls", "-w", "web-1"]);
    terminal.wait_for("every 5s");
    terminal.send("q");
    assert_eq!(terminal.wait(), Some(0));
    let mut terminal = Terminal::start(&service, &["ls", "-w", "1"]);
    terminal.wait_for("worker-1");
    service.change_instance("", r#"{"name": "new-1"}"#);
    terminal.wait_for("1 changed");
    terminal.wait_for("\x1b[1mnew-1");
    terminal.send("q");
    terminal.wait();
}

#[test]
fn lists_have_the_forms_of_kubectl() {
    let lab = Lab::with_sandbox();
    let web_1 = "i-0a1b2c3d4e5f60718";
    let said = |args: &[&str]| {
        lab.ops([&["ls", "web-1"], args].concat())
            .output()
            .success()
            .stdout
    };
    let line = said(&["-o", "jsonl"]);
    assert_eq!(line.lines().count(), 1);
    let item: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(item["id"], web_1);
    assert_eq!(
        said(&["-o", "csv", "--columns", "name,id"]),
        format!("NAME,ID\r\nweb-1,{web_1}\r\n")
    );
    assert_eq!(
        said(&["-o", "jsonpath={.items[*].id}"]),
        format!("{web_1}\n")
    );
    assert_eq!(
        said(&["-o", "custom-columns=A:.name,B:.none"]),
        "A      B\nweb-1  <none>\n"
    );
    let done = lab
        .ops(["describe", "web-1", "-o", "jsonpath={.items[0].name}"])
        .output()
        .success();
    assert_eq!(done.stdout, "web-1\n");
    let page = lab.ops(["describe", "web-1"]).output().success().stdout;
    for line in [
        "name         web-1",
        "reach        ok",
        "private ip   10.0.1.11",
    ] {
        assert!(page.contains(line), "{page}");
    }
    let page = lab.ops(["describe", "worker-1"]).output().success().stdout;
    let ping = page.lines().find(|line| line.starts_with("last ping"));
    assert!(
        ping.is_some_and(|line| line.ends_with(" (3d ago)")),
        "{page}"
    );
    let done = lab.ops(["shell", "build-1"]).output().exits(7);
    assert_eq!(done.stderr.matches("ops doctor").count(), 1, "{done}");
    let done = lab.ops(["cache", "info", "-o", "csv"]).output().exits(2);
    assert!(done.stderr.contains("has no output format `csv`"), "{done}");
    lab.ops(["ls", "-o", "jsonpath={.a"]).output().exits(2);
}

/// `ops` on a terminal of 24 rows, with a pager that shows itself.
fn with_pager(service: &Service, args: &[&str], env: &[(&str, &str)]) -> String {
    let mut terminal = Terminal::start_with(service, args, |command| {
        let pager = ("OPS_PAGER", "sed s/^/paged:/");
        let env = std::iter::once(pager).chain(env.iter().copied());
        command.env_remove("CI").envs(env)
    });
    assert_eq!(terminal.wait(), Some(0), "{args:?}");
    String::from_utf8_lossy(&terminal.output()).into_owned()
}

#[test]
fn what_is_longer_than_the_screen_goes_through_the_pager_and_nothing_else_does() {
    let service = Service::start_with(OPS, |options| options.fleet_size = 40);
    for args in [
        &["ls"][..],
        &["ls", "-o", "yaml", "web-1", "web-2"],
        &["ls", "-o", "csv"],
        &["ls", "-o", "name"],
        &["describe", "web-1", "-o", "json"],
        &["ls", "--help"],
        &["help", "cp"],
        &["config", "schema"],
    ] {
        let shown = with_pager(&service, args, &[]);
        assert!(
            shown.lines().all(|line| line.starts_with("paged:")),
            "{args:?}: {shown}"
        );
    }
    let all = ["ls"];
    for (args, env) in [
        (&["ls", "web-*"][..], &[][..]),
        (&["describe", "web-1"], &[]),
        (&["ls", "-h"], &[]),
        (&["ls", "--no-pager"], &[]),
        (&["--no-pager", "ls"], &[]),
        (&["ls", "--help", "--no-pager"], &[]),
        (&all, &[("OPS_NO_PAGER", "1")]),
        (&all, &[("OPS_PAGER", "")]),
        (&all, &[("OPS_PAGER", "cat"), ("PAGER", "sed s/^/paged:/")]),
        (&all, &[("OPS_PAGER", "no-such-pager")]),
        (&all, &[("CI", "true")]),
        (&all, &[("TERM", "dumb")]),
    ] {
        let shown = with_pager(&service, args, env);
        assert!(!shown.contains("paged:"), "{args:?} {env:?}: {shown}");
        assert!(
            shown.contains("web-1") || shown.contains("List "),
            "{args:?}: {shown}"
        );
    }
    // In a pipe there is no screen.
    let piped = service.ops(&["ls"]).env("OPS_PAGER", "false").output();
    assert!(piped.expect("it runs").status.success());
    // A list that is drawn again and again never waits for a reader.
    let mut watching = Terminal::start_with(&service, &["ls", "-w", "60"], |command| {
        command.env("OPS_PAGER", "sed s/^/paged:/")
    });
    watching.wait_for("web-3");
    watching.send("q");
    assert_eq!(watching.wait(), Some(0));
    assert!(!String::from_utf8_lossy(&watching.output()).contains("paged:"));
}

/// What is not one of `ls`: everything that lists or shows a document, as with git.
#[test]
fn lists_of_every_verb_go_through_the_pager() {
    let service = Service::start_with(OPS, |options| options.fleet_size = 40);
    let write = |path: &str, text: &str| {
        let path = service.home().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    };
    let mut forwards = "forwards:\n".to_owned();
    for number in 0..30 {
        use std::os::unix::fs::PermissionsExt as _;
        let name = format!(".local/share/ops/plugins/bin/ops-p{number}");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(write(&name, "#!/bin/sh\n"), mode).expect("a mode");
        forwards += &format!("  f{number}: {{ via: web-1, to: 80 }}\n");
    }
    write(".config/ops/profiles/many.yaml", &forwards);
    write(".config/ops/profiles/none.yaml", "{}\n");
    write(".aws/config", "[profile a]\nregion = eu-west-1\n");
    for _ in 0..3 {
        let line = [
            "exec",
            "web-1",
            "-n",
            "--via",
            "run-command",
            "--detach",
            "--",
        ];
        let sent = service.ops(&[&line[..], &["true"]].concat()).output();
        assert!(sent.expect("an end").status.success());
    }
    let line = ["exec", "web-1", "-n", "--via", "run-command", "--detach"];
    let sent = service.ops(&[&line[..], &["--", "seq", "40"]].concat());
    let sent = { sent }.output().expect("an end").stdout;
    let id = String::from_utf8(sent).expect("an id");
    let id = id.trim();
    let waited = service.ops(&["runs", "wait", id]).output();
    assert!(waited.expect("an end").status.success());
    for args in [
        &["ssh-config"][..],
        &["ssh-config", "--diff"],
        &["plugin", "list"],
        &["-p", "many", "forward", "--list"],
        &["-p", "many", "forward", "--list", "-o", "json"],
        &["config", "diff", "many", "none"],
        &["runs", "-o", "json"],
        &["runs", "-o", "yaml"],
        &["runs", "show", id],
        &["completion", "bash"],
    ] {
        let shown = with_pager(&service, args, &[]);
        let is_paged = shown.contains("paged:");
        // A script is for a shell, and git has no pager for what a shell reads either.
        assert_eq!(is_paged, args[0] != "completion", "{args:?}: {shown}");
    }
}

#[test]
fn less_gets_the_flags_of_git_and_ctrl_c() {
    ops_test_needs::needs!("less");
    let service = Service::start_with(OPS, |options| options.fleet_size = 40);
    let told = "sh -c 'cat > less; echo LESS is $LESS'";
    let ours = with_pager(&service, &["ls"], &[("OPS_PAGER", told)]);
    assert!(ours.contains("LESS is FRX"), "{ours}");
    let own = with_pager(&service, &["ls"], &[("OPS_PAGER", told), ("LESS", "-i")]);
    assert!(own.contains("LESS is -i"), "{own}");

    // Both streams of a list that is left early: no word of a broken pipe.
    let mut terminal = Terminal::start_with(&service, &["ls"], |command| {
        command.env_remove("CI").env("TERM", "xterm")
    });
    terminal.wait_for("bastion");
    let before = terminal.wait_for(":");
    // Ctrl-C reaches both, and is for less: the program under it goes on.
    terminal.signal(rustix::process::Signal::INT);
    terminal.send("G");
    terminal.wait_for_after(before, "worker-1");
    terminal.send("q");
    assert_eq!(terminal.wait(), Some(0));
    assert!(terminal.is_cooked());
    let all = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(!all.contains("error:"), "{all}");
}

#[test]
fn colours_are_those_that_light_and_dark_terminals_can_show() {
    let service = service();
    let runs: [&[&str]; 6] = [
        &["ls", "--state", "all"],
        &["ls", "--help", "--no-pager"],
        &["shell", "--no-input", "nosuch"],
        &["doctor", "worker-1"],
        &["config", "profiles"],
        &["sessions"],
    ];
    let codes = |env: &[(&str, &str)]| -> Vec<String> {
        let mut codes = Vec::new();
        for args in runs {
            let mut terminal =
                Terminal::start_with(&service, args, |command| command.envs(env.iter().copied()));
            terminal.wait();
            let all = String::from_utf8_lossy(&terminal.output()).into_owned();
            for part in all.split("\x1b[").skip(1) {
                if let Some((code, _)) = part.split_once('m')
                    && code.chars().all(|c| c.is_ascii_digit() || c == ';')
                {
                    codes.extend(code.split(';').map(str::to_owned));
                }
            }
        }
        codes
    };
    let usual = codes(&[("TERM", "xterm")]);
    assert!(usual.iter().any(|code| code == "32"), "{usual:?}");
    let allowed = [
        "", "0", "1", "2", "4", "7", "22", "24", "27", "31", "32", "33", "35", "36",
    ];
    let others: Vec<_> = usual
        .iter()
        .filter(|code| !allowed.contains(&code.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    for off in [
        ("NO_COLOR", "1"),
        ("CLICOLOR", "0"),
        ("TERM", "dumb"),
        ("OPS_COLOR", "never"),
    ] {
        assert_eq!(codes(&[("TERM", "xterm"), off]), [""; 0], "{off:?}");
    }
}

#[test]
fn nothing_is_drawn_on_a_terminal_that_can_draw_nothing() {
    let service = service();
    let file = service.home().join("file");
    std::fs::write(&file, vec![b'x'; 1 << 20]).expect("a file");
    let file = file.to_string_lossy();
    // Each takes long enough for a bar, where bars are drawn.
    for args in [
        &["cp", "--limit-rate", "1MB", &*file, "web-1:copy"][..],
        &["exec", "web-*", "--", "sleep", "1"],
        &["wait", "web-1"],
        &["doctor", "web-1"],
        &["forward", "web-1", "0:80", "--", "true"],
        &["ls", "--all-regions"],
    ] {
        let mut terminal = Terminal::start_with(&service, args, |command| {
            command.env_remove("CI").env("TERM", "dumb")
        });
        assert_eq!(terminal.wait(), Some(0), "{args:?}");
        let drawn = String::from_utf8_lossy(&terminal.output()).into_owned();
        let without_ends = drawn.replace("\r\n", "\n");
        assert!(
            !without_ends.contains(['\x1b', '\r', '\x08']),
            "{args:?}: {drawn:?}"
        );
    }
}

/// README opens with a picture of this program: it shows what the program does today.
#[test]
fn the_recording_is_what_the_program_shows() {
    ops_test_needs::needs!("tmux", "python3", "curl");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let done = std::process::Command::new("python3")
        .arg(root.join("scripts/record"))
        .args(["--check", OPS])
        .env_remove("TMUX")
        .output()
        .expect("the script runs");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
}
