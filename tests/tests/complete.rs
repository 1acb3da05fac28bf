//! Completion in the real shells, and the cache behind it.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use ops_tests::{service::Service, terminal::Terminal};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

/// Names that each shell has to quote in its own way.
const FLEET: &str = r#"
region: eu-west-1
account: "123456789012"
instances:
  - { name: web-1, id: i-0a1b2c3d4e5f60718, type: t3.medium, tags: { Team: web shop, "x:y": "a:b=c" } }
  - { name: web-2, tags: { Team: web } }
  - { name: web-3, state: stopped }
  - { name: my server 1 }
  - { name: my server 2 }
  - { name: "it's here" }
  - { name: 'say "hi"' }
  - { name: cost$5 }
  - { name: "ns:web:1" }
  - { name: "ns:web:2" }
  - { name: größe-✓ }
  - { name: 'back\slash' }
  - { name: semi;colon & co }
  - { name: bang!here }
  - { name: dup }
  - { name: dup }
"#;

/// What is typed (`\t` is the key), and the words that the shell then makes of the line.
const CASES: &[(&str, &[&str])] = &[
    ("she\t web-\t1\t", &["shell", "web-1"]),
    ("shell my\t1\t", &["shell", "my server 1"]),
    ("shell \"my\t2\t", &["shell", "my server 2"]),
    ("shell 'my\t2\t", &["shell", "my server 2"]),
    ("shell my\\ s\t1\t", &["shell", "my server 1"]),
    ("shell it\t", &["shell", "it's here"]),
    ("shell \"it\t", &["shell", "it's here"]),
    ("shell sa\t", &["shell", "say \"hi\""]),
    ("shell cos\t", &["shell", "cost$5"]),
    ("shell \"cos\t", &["shell", "cost$5"]),
    ("shell ns:w\t2\t", &["shell", "ns:web:2"]),
    ("shell gr\t", &["shell", "größe-✓"]),
    ("shell größe\t", &["shell", "größe-✓"]),
    ("shell bac\t", &["shell", "back\\slash"]),
    ("shell sem\t", &["shell", "semi;colon & co"]),
    ("shell ban\t", &["shell", "bang!here"]),
    ("shell i-0a1b\t", &["shell", "i-0a1b2c3d4e5f60718"]),
    ("ssh deploy@web-\t1\t", &["ssh", "deploy@web-1"]),
    ("ls --tag Na\tweb-\t2\t", &["ls", "--tag", "Name=web-2"]),
    ("ls --tag=Na\tweb-\t2\t", &["ls", "--tag=Name=web-2"]),
    ("ls --tag Name=we\t2\t", &["ls", "--tag", "Name=web-2"]),
    ("ls -l Team=web\\ \t", &["ls", "-l", "Team=web shop"]),
    ("ls -l x:\ta\t", &["ls", "-l", "x:y=a:b=c"]),
    ("shell tag:Te\tweb\\ \t", &["shell", "tag:Team=web shop"]),
    ("ls --stat\trunn\t", &["ls", "--state", "running"]),
    (
        "ls --region eu-west-\t2\t",
        &["ls", "--region", "eu-west-2"],
    ),
    ("-p sh\tshell bas\t", &["-p", "shop", "shell", "bastion"]),
    (
        "-p shop forward rep\t",
        &["-p", "shop", "forward", "reports"],
    ),
    (
        "-p shop fwd --group \t",
        &["-p", "shop", "fwd", "--group", "dev"],
    ),
    ("-p shop we\tweb-\t2\t", &["-p", "shop", "web", "web-2"]),
    ("gre\t al\t", &["greet", "alice"]),
    ("greet --loud b\t", &["greet", "--loud", "bob & co"]),
];

/// A user with a fleet, a profile, an external command, and an `ops` in PATH that completes, and says with what it was called otherwise.
fn user(faults: &str) -> Service {
    let service = Service::start_with(OPS, |options| {
        let fleet = options
            .state_dir
            .parent()
            .expect("a home")
            .join("fleet.yaml");
        std::fs::write(&fleet, FLEET).expect("a fleet");
        options.fleet = Some(fleet);
        options.faults = faults.parse().expect("faults that exist");
    });
    let script = format!(
        "#!/bin/sh\n[ -n \"$OPS_COMPLETE\" ] || [ \"$1\" = completion ] && exec {OPS} \"$@\"\nprintf '<%s>' called \"$@\"; echo\n"
    );
    write(&service, "bin/ops", &script);
    write(
        &service,
        ".local/share/ops/plugins/bin/ops-greet",
        "#!/bin/sh\ncase $1 in\n--ops-plugin-info) echo '{\"apiVersion\":\"ops.plugin/v1\",\"about\":\"Say hello\",\"completes\":true}';;\n__complete) printf 'alice\\tthe first\\nbob & co\\tthe second\\n';;\nesac\n",
    );
    write(
        &service,
        ".config/ops/profiles/shop.yaml",
        "description: The shop\nhosts:\n  bastion: web-1\nforwards:\n  reports: { via: bastion, to: \"db:3306\", group: dev }\naliases:\n  web: ls --tag Team=web*\n",
    );
    service
}

fn write(service: &Service, path: &str, text: &str) -> PathBuf {
    let path = service.home().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    path
}

/// The environment with our `ops` first in PATH.
fn environment(service: &Service) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let mut env = service.environment();
    for (name, value) in &mut env {
        if name == "PATH" {
            *value = format!(
                "{}:/usr/local/bin:/usr/bin:/bin",
                service.home().join("bin").display()
            )
            .into();
        }
    }
    env
}

fn start(service: &Service, program: &str, args: &[&str]) -> Terminal {
    let command = pty_process::blocking::Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment(service))
        .current_dir(service.home());
    Terminal::run(command)
}

/// A bash with bash-completion, whose prompt is `ready> `.
fn bash(service: &Service, more: &str) -> Terminal {
    let rc = write(
        service,
        ".bashrc",
        &format!(
            "PS1='ready> '\n. /usr/share/bash-completion/bash_completion\nset +o histexpand\n{more}\nsource <(ops completion bash)\n"
        ),
    );
    start(service, "bash", &["--rcfile", &rc.to_string_lossy(), "-i"])
}

fn zsh(service: &Service) -> Terminal {
    write(
        service,
        ".zshrc",
        "PS1='ready> '\nunsetopt zle_bracketed_paste 2>/dev/null\nunset zle_bracketed_paste\nunsetopt banghist prompt_sp\nsource <(ops completion zsh)\n",
    );
    start(service, "zsh", &["-i"])
}

fn fish(service: &Service) -> Terminal {
    write(
        service,
        ".config/fish/config.fish",
        "set fish_greeting\nfunction fish_prompt; echo 'ready> '; end\nfunction fish_right_prompt; end\nset -g fish_autosuggestion_enabled 0\nops completion fish > ~/.config/fish/completions/ops.fish\n",
    );
    std::fs::create_dir_all(service.home().join(".config/fish/completions")).expect("a folder");
    start(service, "fish", &["-i"])
}

fn elvish(service: &Service) -> Terminal {
    write(
        service,
        ".config/elvish/rc.elv",
        "set edit:prompt = { put 'ready> ' }\nset edit:rprompt = { }\neval (ops completion elvish | slurp)\n",
    );
    start(service, "elvish", &[])
}

/// Types each line and looks at the words that the shell made of it.
fn check(terminal: &Terminal, cases: &[(&str, &[&str])]) {
    check_with(terminal, cases, "\r");
}

/// The same, with the keys that end a line.
fn check_with(terminal: &Terminal, cases: &[(&str, &[&str])], enter: &str) {
    let mut from = terminal.wait_for("ready> ");
    for (typed, words) in cases {
        let wanted: String = std::iter::once("called")
            .chain(words.iter().copied())
            .map(|word| format!("<{word}>"))
            .collect();
        terminal.send(format!("ops {typed}"));
        terminal.send(enter);
        let end = terminal.wait_for_after(from, "<called>");
        let end = terminal.wait_for_after(end, "ready> ");
        let shown = String::from_utf8_lossy(&terminal.output()[from..end]).into_owned();
        assert!(shown.contains(&wanted), "{typed:?} gave:\n{shown}");
        from = end;
    }
}

#[test]
fn bash_with_bash_completion_inserts_every_name_as_it_is() {
    let service = user("");
    check(&bash(&service, ""), CASES);
}

#[test]
fn bash_without_colon_and_equals_sign_as_word_breaks_does_too() {
    let service = user("");
    let some: Vec<_> = CASES
        .iter()
        .filter(|(typed, _)| typed.contains([':', '=', '@', '"']))
        .copied()
        .collect();
    let terminal = bash(&service, "COMP_WORDBREAKS=${COMP_WORDBREAKS//[:=@]/}");
    check(&terminal, &some);
}

#[test]
fn zsh_inserts_every_name_as_it_is() {
    let service = user("");
    check(&zsh(&service), CASES);
}

#[test]
fn fish_inserts_every_name_as_it_is() {
    let service = user("");
    check(&fish(&service), CASES);
}

#[test]
fn elvish_inserts_every_name_as_it_is() {
    let service = user("");
    // Of several Elvish opens a list, in which the key walks: here is typed what leaves one.
    let cases: &[(&str, &[&str])] = &[
        ("she\tweb-1\t", &["shell", "web-1"]),
        ("shell 'my server 1\t", &["shell", "my server 1"]),
        ("shell \"my server 2\t", &["shell", "my server 2"]),
        ("shell it\t", &["shell", "it's here"]),
        ("shell sa\t", &["shell", "say \"hi\""]),
        ("shell cos\t", &["shell", "cost$5"]),
        ("shell ns:web:2\t", &["shell", "ns:web:2"]),
        ("shell größe\t", &["shell", "größe-✓"]),
        ("shell bac\t", &["shell", "back\\slash"]),
        ("shell sem\t", &["shell", "semi;colon & co"]),
        ("shell i-0a1b\t", &["shell", "i-0a1b2c3d4e5f60718"]),
        ("ssh deploy@web-1\t", &["ssh", "deploy@web-1"]),
        ("ls --tag Na\t\rweb-2\t", &["ls", "--tag", "Name=web-2"]),
        ("ls -l 'Team=web s'\t", &["ls", "-l", "Team=web shop"]),
        ("ls --stat\trunn\t", &["ls", "--state", "running"]),
        ("-p sh\tshell bas\t", &["-p", "shop", "shell", "bastion"]),
        ("gre\tal\t", &["greet", "alice"]),
        ("greet --loud b\t", &["greet", "--loud", "bob & co"]),
    ];
    // A name that has to be quoted is offered, and taken with the first of two.
    check_with(&elvish(&service), cases, "\r\r");
}

#[test]
fn bash_gets_along_with_a_large_fleet() {
    let service = user("");
    let names: String = (10_000..11_500)
        .map(|number| format!("  - {{ name: node-{number} }}\n"))
        .collect();
    let fleet = write(&service, "large.yaml", &format!("instances:\n{names}"));
    // A sandbox of its own, that is asked as the other one is.
    let large = Service::start_with(OPS, |options| options.fleet = Some(fleet));
    write(
        &large,
        "bin/ops",
        &std::fs::read_to_string(service.home().join("bin/ops")).expect("a script"),
    );
    let terminal = bash(&large, "");
    // All have `node-1` in common.
    check(&terminal, &[("shell n\t1234\t", &["shell", "node-11234"])]);
    let from = terminal.output().len();
    terminal.send("ops shell n\t\t\t");
    terminal.wait_for_after(from, "all 1001 possibilities");
}

#[test]
fn each_shell_shows_what_a_name_is() {
    for (start, keys) in [
        (
            (|service| bash(service, "")) as fn(&Service) -> Terminal,
            "\t\t",
        ),
        (zsh, "\t"),
        (fish, "\t"),
    ] {
        let service = user("");
        let terminal = start(&service);
        terminal.wait_for("ready> ");
        terminal.send(format!("ops shell web-{keys}"));
        terminal.wait_for("i-0a1b2c3d4e5f60718");
        terminal.wait_for("t3.medium");
        let screen = terminal.screen(80, 24);
        let text = screen.screen().contents();
        assert!(text.contains("running"), "{text}");
        assert!(!text.contains("web-3"), "a stopped one: {text}");
    }
}

/// Candidates for the last of `words`, one a line.
fn complete(service: &Service, words: &[&str]) -> Vec<String> {
    let output = plain(service, words).output().expect("ops runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
        .collect()
}

fn plain(service: &Service, words: &[&str]) -> Command {
    let mut command = service.ops(&[]);
    command
        .arg("--")
        .args(words)
        .envs(environment(service))
        .env("OPS_COMPLETE", "plain");
    command
}

fn count(service: &Service, action: &str) -> usize {
    service
        .calls()
        .iter()
        .filter(|call| *call == action)
        .count()
}

/// The files of the cache with this ending.
fn files(service: &Service, ending: &str) -> Vec<PathBuf> {
    let folder = service.home().join(".cache/ops/fleet");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .collect()
}

/// Makes a fleet older: its time is a number behind its texts, in the section that a digest protects.
fn grow_old(path: &Path, milliseconds: u64) {
    let mut bytes = std::fs::read(path).expect("a fleet");
    let len = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
    let (from, to) = (44, 44 + len);
    let number = |bytes: &[u8], at: &mut usize| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
        }
    };
    let mut at = from;
    let text = |at: &mut usize| {
        let len = number(&bytes, at) as usize;
        *at += len;
    };
    for _ in 0..3 {
        text(&mut at);
    }
    let regions = number(&bytes, &mut at);
    for _ in 0..regions {
        text(&mut at);
    }
    let begin = at;
    let mut value = number(&bytes, &mut at) - milliseconds;
    for byte in &mut bytes[begin..at] {
        let more = *byte & 0x80;
        *byte = (value & 0x7f) as u8 | more;
        value >>= 7;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes[from..to]);
    bytes[12..44].copy_from_slice(digest.as_ref());
    std::fs::write(path, bytes).expect("a fleet");
}

#[test]
fn a_fresh_cache_is_asked_and_the_service_is_not() {
    let service = user("");
    assert_eq!(
        complete(&service, &["ops", "shell", "we"]),
        ["web-1", "web-2"]
    );
    assert_eq!(count(&service, "DescribeInstances"), 1);
    assert_eq!(
        complete(&service, &["ops", "console", "web-"]),
        ["web-1", "web-2"]
    );
    assert_eq!(complete(&service, &["ops", "shell", "du"]), ["dup"]);
    assert_eq!(count(&service, "DescribeInstances"), 1);
    let fleets = files(&service, "fleet");
    let [fleet] = fleets.as_slice() else {
        panic!("{fleets:?}")
    };
    let mode = fleet.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Another region is another fleet.
    assert!(complete(&service, &["ops", "--region", "us-east-1", "shell", "we"]).is_empty());
    assert_eq!(files(&service, "fleet").len(), 2);
}

#[test]
fn what_is_damaged_or_not_ones_own_is_as_good_as_not_there() {
    let service = user("");
    complete(&service, &["ops", "shell", "we"]);
    let fleet = files(&service, "fleet").remove(0);
    let whole = std::fs::read(&fleet).expect("a fleet");
    // Among the names: what is not read may be damaged unseen.
    let middle = 230;
    let mut calls = 1;
    for bytes in [
        Vec::new(),
        whole[..middle].to_vec(),
        [&whole[..middle], &[whole[middle] ^ 1], &whole[middle + 1..]].concat(),
        b"not a fleet at all".repeat(100),
    ] {
        std::fs::write(&fleet, bytes).expect("a file");
        assert_eq!(
            complete(&service, &["ops", "shell", "we"]),
            ["web-1", "web-2"]
        );
        calls += 1;
        assert_eq!(count(&service, "DescribeInstances"), calls);
    }
    std::fs::set_permissions(&fleet, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    complete(&service, &["ops", "shell", "we"]);
    assert_eq!(count(&service, "DescribeInstances"), calls + 1);
}

#[test]
fn an_old_one_is_shown_at_once_and_refreshed_behind() {
    let service = user("");
    complete(&service, &["ops", "shell", "we"]);
    let fleet = files(&service, "fleet").remove(0);
    grow_old(&fleet, 120_000);
    service.change_instance("web-2", r#"{"state": "stopped"}"#);
    // The service does not answer in time: what is shown is the old one. That the output ends proves that the process behind does not hold it,
    // nor another descriptor that the shell has open.
    service.set_faults("slow=ec2:DescribeInstances/3s");
    let output = Command::new("sh")
        .args(["-c", "exec \"$@\" 9>&2", "sh"])
        .arg(OPS)
        .args(["--", "ops", "shell", "we"])
        .env_clear()
        .envs(environment(&service))
        .env("OPS_COMPLETE", "plain")
        .stdin(Stdio::null())
        .output()
        .expect("ops runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("web-1\t") && text.contains("web-2\t"),
        "{text}"
    );
    let busy = std::fs::File::open(files(&service, "lock").remove(0)).expect("a lock");
    // Waits for the process behind, which holds it while it works; what it has found is then there.
    service.wait_for_calls("DescribeInstances", 2);
    busy.lock().expect("its turn");
    service.set_faults("");
    assert_eq!(complete(&service, &["ops", "shell", "we"]), ["web-1"]);
    assert_eq!(count(&service, "DescribeInstances"), 2);
    // Too old to be shown.
    grow_old(&fleet, 700_000);
    service.set_faults("slow=ec2:DescribeInstances/3s");
    assert!(complete(&service, &["ops", "shell", "we"]).is_empty());
}

#[test]
fn without_permission_or_credentials_nothing_is_shown_and_nobody_asked_again_for_a_while() {
    let service = user("deny=ec2:DescribeInstances");
    assert!(complete(&service, &["ops", "shell", "we"]).is_empty());
    let calls = service.calls().len();
    assert!(complete(&service, &["ops", "shell", "we"]).is_empty());
    assert_eq!(service.calls().len(), calls);
    // A login that has ended is not begun anew.
    write(
        &service,
        ".aws/config",
        "[profile sso]\nregion = eu-west-1\nsso_session = x\nsso_account_id = 123456789012\nsso_role_name = dev\n[sso-session x]\nsso_region = eu-west-1\nsso_start_url = https://sso.example.invalid/start\n",
    );
    assert_eq!(complete(&service, &["ops", "--aws-profile", "ss"]), ["sso"]);
    assert!(complete(&service, &["ops", "--aws-profile", "sso", "shell", "we"]).is_empty());
    // Neither is there anything on the terminal.
    let terminal = bash(&service, "");
    let from = terminal.wait_for("ready> ");
    terminal.send("ops shell we\t\t1\r");
    let end = terminal.wait_for_after(from, "<called>");
    let text = String::from_utf8_lossy(&terminal.output()[from..end]).into_owned();
    assert!(
        !text.contains("error") && !text.contains("denied"),
        "{text}"
    );
}

#[test]
fn many_shells_at_once_ask_the_service_once() {
    let service = user("slow=ec2:DescribeInstances/300ms");
    let shells: Vec<_> = (0..8)
        .map(|_| {
            plain(&service, &["ops", "shell", "we"])
                .spawn()
                .expect("ops starts")
        })
        .collect();
    for shell in shells {
        let output = shell.wait_with_output().expect("ops ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    }
    assert_eq!(count(&service, "DescribeInstances"), 1);
}

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

#[test]
fn scripts_are_made_for_each_shell_and_read_by_it() {
    let service = user("");
    for shell in ["bash", "zsh", "fish", "elvish", "nushell", "powershell"] {
        let done = run(&mut service.ops(&["completion", shell]));
        assert!(done.status.success());
        assert!(done.stdout.ends_with(b"\n"));
        if ["bash", "zsh", "fish"].contains(&shell) {
            let script = write(&service, "script", &String::from_utf8_lossy(&done.stdout));
            let read = run(Command::new(shell).arg("-n").arg(&script));
            assert!(read.status.success(), "{shell}");
        }
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
