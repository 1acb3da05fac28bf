//! What the shells make of it.

use ops_test_needs::needs;
use ops_tests::terminal::Terminal;

use super::*;

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
    ("shell \"ban\t", &["shell", "bang!here"]),
    ("shell 'ban\t", &["shell", "bang!here"]),
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

fn start(service: &Service, program: &str, args: &[&str]) -> Terminal {
    let command = pty_process::blocking::Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment(service))
        .current_dir(service.home());
    Terminal::run(command)
}

/// A bash with bash-completion, whose prompt is `ready> `.
pub(crate) fn bash(service: &Service, more: &str) -> Terminal {
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
    needs!("bash", "/usr/share/bash-completion/bash_completion");
    let service = user("");
    check(&bash(&service, ""), CASES);
}

#[test]
fn bash_without_colon_and_equals_sign_as_word_breaks_does_too() {
    needs!("bash", "/usr/share/bash-completion/bash_completion");
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
fn bash_with_its_history_expanded_as_usual_leaves_exclamation_marks_alone() {
    let service = user("");
    let some: Vec<_> = CASES
        .iter()
        .filter(|(typed, _)| typed.contains("ban"))
        .copied()
        .collect();
    assert_eq!(some.len(), 3);
    check(&bash(&service, "set -o histexpand"), &some);
}

#[test]
fn zsh_inserts_every_name_as_it_is() {
    needs!("zsh");
    let service = user("");
    check(&zsh(&service), CASES);
}

#[test]
fn fish_inserts_every_name_as_it_is() {
    needs!("fish");
    let service = user("");
    check(&fish(&service), CASES);
}

#[test]
fn elvish_inserts_every_name_as_it_is() {
    needs!("elvish");
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
    needs!("bash", "/usr/share/bash-completion/bash_completion");
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

/// Has candidates shown, and looks at what is said of them.
fn shows_what_a_name_is(start: impl FnOnce(&Service) -> Terminal, keys: &str) {
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

#[test]
fn bash_shows_what_a_name_is() {
    needs!("bash", "/usr/share/bash-completion/bash_completion");
    shows_what_a_name_is(|service| bash(service, ""), "\t\t");
}

#[test]
fn zsh_shows_what_a_name_is() {
    needs!("zsh");
    shows_what_a_name_is(zsh, "\t");
}

#[test]
fn fish_shows_what_a_name_is() {
    needs!("fish");
    shows_what_a_name_is(fish, "\t");
}
