//! One hostile name, everywhere a name can come from, in every verb.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use ops_tests::{service::Service, terminal::Terminal};

use super::{
    OPS,
    screen::{PWNED, assert_clean, hints, is_unprintable, name},
};

/// `text` between double quotes of YAML, everything unusual as an escape.
fn yaml(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || " -_.:;$()<>`'!*[".contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\\U{:08X}", u32::from(c)));
        }
    }
    out.push('"');
    out
}

const FIRST: &str = "i-0aaaaaaaaaaaaaaa1";
const STOPPED: &str = "i-0aaaaaaaaaaaaaaa3";
const OFFLINE: &str = "i-0aaaaaaaaaaaaaaa4";
const HYBRID: &str = "mi-0aaaaaaaaaaaaaaa5";

/// Servers that all have the name: two alike, a stopped one, one whose agent is lost, two
/// outside EC2, whose names come in JSON with every character of theirs.
fn fleet() -> String {
    let name = yaml(&name());
    format!(
        "region: eu-west-1\naccount: \"123456789012\"\ninstances:\n\
         \x20 - {{ name: {name}, id: {FIRST}, tags: {{ Team: {name} }} }}\n\
         \x20 - {{ name: {name}, id: i-0aaaaaaaaaaaaaaa2 }}\n\
         \x20 - {{ name: {name}, id: {STOPPED}, state: stopped }}\n\
         \x20 - {{ name: {name}, id: {OFFLINE}, agent: {{ online: false, last_ping: 3d }} }}\n\
         \x20 - {{ name: {name}, id: {HYBRID}, hybrid: true }}\n\
         \x20 - {{ name: {name}, id: mi-0aaaaaaaaaaaaaaa6, hybrid: true }}\n"
    )
}

fn service() -> Service {
    let service = Service::start_with(OPS, |options| {
        let path = options.state_dir.parent().expect("a home").join("fleet");
        std::fs::write(&path, fleet()).expect("a fleet");
        options.fleet = Some(path);
        for fault in ["end-text", "customer-message"] {
            options.faults.set(fault, &name()).expect("a fault");
        }
    });
    write(
        service.home(),
        ".config/ops/profiles/evil.yaml",
        &format!(
            "description: {name}\nhosts: {{ bastion: {{ target: {name} }} }}\n\
             forwards: {{ db: {{ via: {OFFLINE}, to: \"db:5432\", group: {name} }} }}\n\
             aliases: {{ web: {alias} }}\nguard: {{ confirm: type-name }}\n",
            name = yaml(&name()),
            alias = yaml("ls --tag 'Team=\u{202e}x'"),
        ),
    );
    write(
        service.home(),
        ".config/ops/profiles/wrong.yaml",
        &format!("region: [ {}, eu-west-1 ]\n", yaml(&name())),
    );
    service
}

fn write(home: &Path, path: &str, text: &str) {
    let path = home.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// A verb, its arguments (`NAME` is the hostile name), and what is typed.
type Case = (&'static str, &'static [&'static str], &'static str);

/// Leaves a picker, or declines a question.
const ESC: &str = "\x1b";

const CASES: &[Case] = &[
    ("ls", &[], ""),
    ("ls", &["-o", "wide", "--state", "all"], ""),
    ("ls", &["-o", "json"], ""),
    ("ls", &["-o", "yaml"], ""),
    ("ls", &["-o", "name"], ""),
    ("ls", &["NAME"], ""),
    ("ls", &["--tag", "Name=NAME"], ""),
    ("ls", &["--tag", "Team=none", "--tag", "NAME=NAME"], ""),
    ("ls", &["--NAME"], ""),
    // Not a plain shell: its prompt is the server's to write.
    (
        "shell",
        &[
            FIRST,
            "--document",
            "AWS-StartInteractiveCommand",
            "--parameters",
            "command=echo far",
        ],
        "",
    ),
    ("shell", &["NAME"], ESC),
    ("shell", &["NAME", "--no-input"], ""),
    ("shell", &["xNAME"], ESC),
    ("shell", &["-p", "evil", "bastion"], ESC),
    ("shell", &["-p", "evil", "--first", "bastion"], "no\r"),
    ("shell", &["-p", "evil", FIRST], "no\r"),
    ("shell", &["-p", "wrong", FIRST], ""),
    ("shell", &["-p", "NAME", FIRST], ""),
    ("shell", &[STOPPED], ""),
    ("shell", &[OFFLINE], ""),
    ("shell", &["--document", "NAME", FIRST], ""),
    ("cp", &[concat!("i-0aaaaaaaaaaaaaaa1", ":NAME"), "."], ""),
    (
        "cp",
        &["-r", concat!("i-0aaaaaaaaaaaaaaa1", ":evil"), "here"],
        "",
    ),
    (
        "cp",
        &[
            "-r",
            "-n",
            "-o",
            "json",
            concat!("i-0aaaaaaaaaaaaaaa1", ":evil"),
            "there",
        ],
        "",
    ),
    (
        "cp",
        &["-r", "local", concat!("i-0aaaaaaaaaaaaaaa1", ":up")],
        "",
    ),
    ("cp", &["NAME", concat!("i-0aaaaaaaaaaaaaaa1", ":")], ""),
    ("cp", &["NAME:x", "."], ESC),
    ("cp", &[concat!("i-0aaaaaaaaaaaaaaa4", ":x"), "."], ""),
    (
        "cp",
        &[
            "--via",
            "s3",
            concat!("i-0aaaaaaaaaaaaaaa1", ":evil/x"),
            ".",
        ],
        "",
    ),
    (
        "cp",
        &[
            "--via",
            "sftp",
            concat!("i-0aaaaaaaaaaaaaaa1", ":NAME"),
            ".",
        ],
        "",
    ),
    ("exec", &["NAME", "--", "true"], ESC),
    ("exec", &["-n", FIRST, OFFLINE, "--", "echo", "x"], ""),
    ("exec", &["-n", "--fold", FIRST, OFFLINE, "--", "true"], ""),
    (
        "exec",
        &["-n", "-o", "json", FIRST, OFFLINE, "--", "echo", "NAME"],
        "",
    ),
    ("exec", &["--dry-run", FIRST, "--", "echo", "NAME"], ""),
    ("exec", &["--script", "NAME", FIRST], ""),
    ("exec", &["--env", "NAME", FIRST, "true"], ""),
    ("exec", &["--targets-from", "NAME", "--", "true"], ""),
    ("logs", &["NAME", "/etc/passwd"], ESC),
    ("runs", &["--since", "NAME"], ""),
    ("runs", &["show", "NAME"], ""),
    ("api", &["resolve", "NAME"], ESC),
    ("api", &["connect", FIRST, "9"], ""),
    ("doctor", &["NAME", "--no-session"], ESC),
    ("logs", &[FIRST, OFFLINE, "/nosuch"], ""),
    ("logs", &[FIRST, "--unit", "NAME"], ""),
    ("forward", &["NAME", "0:80"], ESC),
    ("forward", &[OFFLINE, "0:80"], "\x03"),
    ("forward", &["NAME"], ""),
    ("forward", &[FIRST, "0:NAME:80"], ""),
    ("forward", &["-p", "evil", "--list"], ""),
    ("forward", &["-p", "evil", "--list", "-o", "yaml"], ""),
    ("forward", &["-p", "evil", "--group", "NAME"], "no\r"),
    ("forward", &["-p", "evil", "--group", "none"], ""),
    ("forward", &["--status"], ""),
    ("forward", &["--stop", "NAME"], ""),
    ("ssh", &["NAME"], ESC),
    ("ssh", &[OFFLINE], ""),
    ("ssh", &["-v", OFFLINE], ""),
    ("ssh", &["--instance-connect", FIRST], ""),
    ("ssh-proxy", &["NAME"], ESC),
    ("ssh-proxy", &[OFFLINE], ""),
    ("ssh-config", &[], ""),
    ("ssh-config", &["--install"], ""),
    ("ssh-config", &["--uninstall"], ""),
    ("console", &["--print", "NAME"], ESC),
    ("console", &[FIRST], ""),
    ("console", &["--login", "--print", FIRST], ""),
    ("describe", &["NAME"], ESC),
    ("describe", &[FIRST], ""),
    ("describe", &[FIRST, "-o", "yaml"], ""),
    ("pick", &[], ESC),
    ("pick", &["NAME"], ESC),
    ("recent", &[], ""),
    ("recent", &["-o", "yaml"], ""),
    ("describe", &["-"], ""),
    ("wait", &["--timeout", "1s", OFFLINE], ""),
    ("wait", &["--timeout", "1s", "xNAME"], ESC),
    ("version", &[], ""),
    ("man", &["NAME"], ""),
    ("completion", &["bash"], ""),
    ("cache", &["refresh"], ""),
    ("cache", &["info"], ""),
    ("cache", &["clear"], ""),
    ("plugin", &["list"], ""),
    ("plugin", &["run", "NAME"], ""),
    ("config", &["-p", "evil", "show"], ""),
    ("config", &["profiles"], ""),
    ("config", &["validate"], ""),
    ("config", &["validate", "NAME"], ""),
    ("config", &["path"], ""),
    ("sandbox", &["log"], ""),
    ("sandbox", &["fault", "NAME"], ""),
    ("man", &["NAME"], ""),
    ("sessions", &[], ""),
    ("sessions", &["NAME", "--owner", "NAME"], ""),
    ("sessions", &["--history", "-o", "wide"], ""),
    ("sessions", &["--history", "-o", "yaml"], ""),
    ("sessions", &["end", FIRST], "n\r"),
    ("sessions", &["end", "NAME", "--yes"], ""),
    ("sessions", &["log", "NAME"], ""),
    ("login", &[], ""),
    ("login", &["--sso-session", "NAME"], ""),
    ("logout", &["--sso-session", "NAME"], ""),
    ("whoami", &["-p", "evil"], ""),
    ("env", &["--", "NAME"], ""),
    ("help", &[], ""),
    ("NAME", &[], ""),
    ("-p", &["evil", "--help"], ""),
];

/// A terminal on which `ops` has run to its end in a folder of files with hostile names, told all
/// there is to tell.
fn run(service: &Service, folder: &Path, case: &Case) -> Vec<u8> {
    let hostile = name();
    let (verb, arguments, keys) = case;
    let mut line = vec![verb.replace("NAME", &hostile)];
    line.extend(arguments.iter().map(|word| word.replace("NAME", &hostile)));
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let mut terminal = Terminal::start_with(service, &line, |command| {
        command
            .current_dir(folder)
            .env("OPS_VERBOSE", "1")
            .env("BROWSER", "true")
            .env("OPS_PAGER", "cat")
    });
    // Typed ahead: whoever asks nothing does not read it.
    terminal.send(keys);
    terminal.wait();
    terminal.output()
}

#[test]
fn no_verb_lets_a_name_drive_the_terminal_or_a_shell() {
    let verbs: BTreeSet<&str> = CASES.iter().map(|(verb, ..)| *verb).collect();
    for entry in ops::entries() {
        assert!(verbs.contains(entry.name), "{} is not tried", entry.name);
    }
    let service = service();
    let folder = service.home().join("files");
    // A slash cannot stand in a file's name, and a name has 255 bytes at most.
    let file: String = name().replace('/', "").chars().take(120).collect();
    for place in ["local", "here"] {
        write(&folder.join(place), &file, "text");
    }
    let mut wrote_hints = 0;
    for case in CASES {
        let written = run(&service, &folder, case);
        assert_clean(&format!("{case:?}"), &written);
        for hint in hints(&written) {
            wrote_hints += 1;
            assert_harmless(&hint);
        }
    }
    assert!(wrote_hints > 20, "only {wrote_hints} hints");
}

/// Has shells read a hint, the whole line and each end of it behind a colon, where nothing can run
/// but what the shell does by itself.
#[track_caller]
fn assert_harmless(hint: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let ends = hint.match_indices(": ").map(|(at, _)| &hint[at + 2..]);
    for text in std::iter::once(hint).chain(ends) {
        for shell in ["sh", "bash", "zsh"] {
            let path = ["/bin", "/usr/bin", "/usr/local/bin"]
                .map(|folder| Path::new(folder).join(shell))
                .into_iter()
                .find(|path| path.exists());
            // zsh is not on every machine.
            let Some(path) = path else { continue };
            let _ = Command::new(path)
                .args(["-c", text])
                .env_clear()
                .env("PATH", "/nonexistent")
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("a shell");
            assert!(
                !folder.path().join(PWNED).exists(),
                "{shell} runs a part of the name in {text:?}"
            );
        }
    }
}

#[test]
fn documents_mean_the_name_and_have_no_character_of_it_raw() {
    let service = service();
    let read = |format: &str| {
        let output = service.ops(&["ls", "-o", format]).output().expect("an end");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for format in ["json", "yaml", "name"] {
        let text = read(format);
        let raw = text.chars().find(|c| *c != '\n' && is_unprintable(*c));
        assert_eq!(raw, None, "{format}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&read("json")).expect("JSON");
    let names: BTreeSet<&str> = json["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["name"].as_str())
        .collect();
    // All servers have the same name, of which XML keeps no CR.
    assert!(names.contains(&*name()), "{names:?}");
    // Who would read such a name as a line of its own is given an id.
    assert!(
        read("name")
            .lines()
            .all(|line| line.starts_with("i-") || line.starts_with("mi-"))
    );
}

#[test]
fn completion_offers_what_can_be_typed() {
    let service = service();
    let refreshed = service.ops(&["cache", "refresh"]).output().expect("an end");
    assert!(refreshed.status.success(), "{refreshed:?}");
    for shell in ["plain", "bash", "zsh", "fish"] {
        for words in [
            &["ops", "shell", ""][..],
            &["ops", "shell", "we"],
            &["ops", "ls", "--tag", "Team="],
            &["ops", "-p", "evil", "forward", ""],
        ] {
            let mut line = vec!["--"];
            line.extend_from_slice(words);
            let output = service
                .ops(&line)
                .env("OPS_COMPLETE", shell)
                .output()
                .expect("an end");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            let raw = text
                .chars()
                .find(|c| !matches!(c, '\n' | '\t' | '\0') && is_unprintable(*c));
            assert_eq!(raw, None, "{shell} {words:?}: {text:?}");
            if words[2].is_empty() && words[1] == "shell" && shell == "plain" {
                assert!(text.contains(FIRST), "{text:?}");
            }
        }
    }
}
