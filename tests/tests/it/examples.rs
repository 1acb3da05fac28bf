//! Every example of the help pages, of README and of docs is a command line that works. A line that
//! is new is run here; one that cannot be is listed with the reason.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use ops_tests::{Lab, lab::PATIENCE};
use rustix::process::{Pid, Signal, kill_process};

/// Lines that are not run, by how they begin, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("./test", "builds everything"),
    ("bash .ci/run", "builds everything"),
    ("cargo ", "builds everything"),
    ("ops -p payments-prod shell", "a team's own account"),
    (
        "ops sandbox serve",
        "the examples run on one that is served so",
    ),
    (
        "ops --sandbox shell web-1",
        "tests/sandbox.rs, with a sandbox of its own",
    ),
    (
        "eval \"$(ops sandbox env)\"; aws",
        "tests/independent holds the AWS CLI against the sandbox",
    ),
    ("ssh $(ops pick)", "somebody has to choose: it/screens.rs"),
    ("ops pick ", "somebody has to choose: it/screens.rs"),
    (
        "ops --sandbox disk",
        "it/plugins.rs, with docs/plugins on PATH",
    ),
    (
        "ops --sandbox banner",
        "it/plugins.rs, with docs/plugins on PATH",
    ),
    (
        "ops shell -",
        "somebody has to have used a server: it/picker.rs",
    ),
    // OpenSSH takes the home folder of the user database: ssh/transfers.rs runs it with `-F`.
    ("ssh ", "ssh/use_it.rs"),
    ("scp ", "ssh/transfers.rs"),
    ("rsync ", "ssh/transfers.rs"),
    ("OPS_REASON=INC-4711 OPS_YES=1 rsync", "ssh/use_it.rs"),
    ("git ", "ssh/use_it.rs"),
    (
        "ops config init",
        "writes what later examples would read: it/config.rs",
    ),
    (
        "ops config use",
        "writes what later examples would read: it/config.rs",
    ),
    ("ops sessions log", "account/logs.rs"),
    (
        "ops exec --tag Role=web --via run-command",
        "needs systemd on the servers",
    ),
    (
        "ops runs show",
        "needs the id of a command: exec/run_command.rs",
    ),
    (
        "ops runs wait",
        "needs the id of a command: exec/run_command.rs",
    ),
    (
        "ops runs cancel",
        "needs the id of a command: exec/run_command.rs",
    ),
    ("ops login --sso-session", "account/login.rs"),
    ("ops logout --sso-session", "account/login.rs"),
    ("ops env -- terraform", "needs Terraform: account/env.rs"),
    ("ops exec db-1 -- pg_dump", "needs PostgreSQL on the server"),
    (
        "cat dump.sql | ops exec db-1",
        "needs PostgreSQL on the server",
    ),
    (
        "ops exec 'web-*' -- systemctl",
        "needs systemd on the servers",
    ),
    ("ops exec -it", "exec/single.rs, on a terminal"),
    ("ops exec 'web-*' -o json", "needs jq"),
    ("ops logs -f", "stays until it is ended: exec/logs.rs"),
    ("ops logs web-1 --unit", "needs systemd on the server"),
    (
        "OPS_SANDBOX_FLEET=broken",
        "fails as it is to: it/doctor.rs, with a fleet of its own",
    ),
    (
        "ops ssh deploy@web-1 -L",
        "stays until it is ended: ssh/use_it.rs",
    ),
];

/// Options of other programs that pages name.
const OF_OTHERS: &[&str] = &["query"];

/// Verbs of pages that are not built in: aliases and external commands that the page itself shows.
const OF_PAGES: &[&str] = &["db", "errors", "top", "web"];

/// Languages of fenced blocks: a block of another one might hide commands from this test.
/// `sh needs-aws` is for commands that need an account; what is `ops` in it is still read by the
/// parser of the command line.
const LANGUAGES: [&str; 9] = [
    "sh",
    "sh needs-aws",
    "console",
    "yaml",
    "json",
    "text",
    "rust",
    "python",
    "ini",
];

/// What differs where an example runs here, and why.
const REPLACED: &[(&str, &str)] = &[
    // The servers share this machine's files: absolute paths become those of their homes.
    (":/", ":"),
    // That is a word of fish; bash wants a file behind it.
    (" | source", ""),
    // Nobody becomes another user, which needs sudo.
    (" --sudo", ""),
    ("deploy@", ""),
    // Ports that somebody may have taken.
    (" 3307:", " 0:"),
    (" 8080:80", " 0:80"),
    ("-L 8080:localhost", "-L ./socket:localhost"),
    ("-D 1080", "-D 0"),
    (" /tmp/db.sock:", " ./db.sock:"),
    // The example names a team's production.
    ("payments-prod", "shop"),
    // A destination that the sandbox knows.
    ("db.internal:3306", "db-reporting:3306"),
    ("redis:6379", "db-reporting:3306"),
    // The guard of that profile asks on a terminal.
    ("web-3 --reason INC-4711", "web-3 --reason INC-4711 --yes"),
    // Standard input is a pipe here, and it cannot go to servers that start later.
    (" --canary", " -n --canary"),
    // Nobody can be asked here whether the report may be written.
    (" --bundle report.txt", " --bundle report.txt --yes"),
    // Long enough for an agent that reports at once.
    ("--timeout 10m", "--timeout 1m"),
];

/// What examples name of a profile that no page shows.
const OF_TEAM: [&str; 2] = ["reporting-db", "--group dev"];
const TEAM: &str = "forwards:\n  \
    reporting-db: { via: bastion, listen: 0, to: \"db-reporting:3306\", group: dev }\n";

struct Example {
    line: String,
    /// What is shown below it, where it is a transcript.
    shown: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("profiles/README.md")];
    let docs = fs::read_dir(root().join("docs")).expect("docs");
    pages.extend(docs.map(|entry| entry.expect("an entry").path()));
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// The fenced blocks of `text` in one of `languages`.
fn blocks(text: &str, languages: &[&str]) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if languages.contains(&language) {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

fn examples_of_page(page: &Path) -> Vec<Example> {
    let text = fs::read_to_string(page).expect("a page");
    let alone = |line: &str| Example {
        line: line
            .split(" # ")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned(),
        shown: Vec::new(),
    };
    let mut examples: Vec<Example> = blocks(&text, &["sh"])
        .iter()
        .flat_map(|block| block.lines().map(alone).collect::<Vec<_>>())
        .collect();
    for block in blocks(&text, &["console"]) {
        for part in block.split("$ ops ").skip(1) {
            let mut lines = part.lines();
            examples.push(Example {
                line: format!("ops {}", lines.next().unwrap_or_default()),
                shown: lines.map(str::to_owned).collect(),
            });
        }
    }
    examples
}

fn examples_of_help() -> Vec<Example> {
    let page = Lab::new().ops(["--help"]).output().success().stdout;
    let (_, root) = page.split_once("Examples:\n").expect("examples");
    // What a line is for stands below it, further in, or behind two blanks.
    let root = root.lines().take_while(|line| line.starts_with("  "));
    let root = root
        .filter(|line| !line.starts_with("   "))
        .map(|line| line.trim().split("  ").next().unwrap_or_default());
    let verbs = ops::entries().flat_map(|entry| entry.examples.iter().map(|(line, _)| *line));
    root.chain(verbs)
        .map(|line| Example {
            line: line.to_owned(),
            shown: Vec::new(),
        })
        .collect()
}

/// Somebody who has followed the pages: their profiles, programs that examples name, files.
fn reader() -> Lab {
    let lab = Lab::with_sandbox();
    for page in pages() {
        let text = fs::read_to_string(page).expect("a page");
        for block in blocks(&text, &["yaml"]) {
            let first = block.lines().next().unwrap_or_default();
            if let Some(path) = first.strip_prefix("# ~/.config/ops/profiles/") {
                lab.write(&format!(".config/ops/profiles/{path}"), &block);
            }
        }
    }
    lab.profile("team", TEAM);
    lab.write(".ssh/README", "");
    lab.write(
        ".aws/config",
        "[profile my-aws-profile]\nregion = eu-west-1\n",
    );
    lab.write("app.conf", "a\n");
    lab.write("site/index.html", "b\n");
    for file in fs::read_dir(root().join("profiles")).expect("profiles") {
        let file = file.expect("an entry").path();
        let name = file.file_name().expect("a name").to_string_lossy();
        lab.write(
            &format!("profiles/{name}"),
            fs::read(&file).expect("a file"),
        );
    }
    for (server, file) in [
        ("i-0a1b2c3d4e5f60718", "var/log/syslog"),
        ("i-0a1b2c3d4e5f60718", "var/log/nginx/error.log"),
        ("i-0b2c3d4e5f6071829", "var/log/nginx/error.log"),
        ("i-0c3d4e5f60718293a", "var/log/nginx/error.log"),
        ("i-0a1b2c3d4e5f60718", "dump.sql.gz"),
    ] {
        lab.write(&format!("{}/{file}", home_of(server)), "text\n");
    }
    for server in [
        "i-0a1b2c3d4e5f60718",
        "i-0b2c3d4e5f6071829",
        "i-0c3d4e5f60718293a",
        "i-0e5f60718293a4b5c",
    ] {
        for folder in ["etc/app", "srv/www", "tmp"] {
            lab.write(&format!("{}/{folder}/README", home_of(server)), "");
        }
    }
    for (program, body) in [
        // A client that finds the tunnel and says nothing else.
        ("psql", "test \"$1\" = -h && test \"$3\" = -p"),
        ("ops-ls", "echo mine"),
        ("xdg-open", "true"),
    ] {
        lab.write_program(&format!("bin/{program}"), &format!("#!/bin/sh\n{body}\n"));
    }
    for script in ["fix.sh", "upgrade.sh"] {
        lab.write_program(script, "#!/bin/sh\ntrue\n");
    }
    let ops = lab.home().join("bin/ops");
    std::os::unix::fs::symlink(ops_tests::lab::binary(), ops).expect("a link");
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin",
        lab.home().join("bin").display()
    );
    lab.env("PATH", path)
}

/// The home folder of a server of the sandbox, below that of the reader.
fn home_of(server: &str) -> String {
    format!(".local/state/ops/sandbox/instances/{server}/home")
}

/// Why `line` is not run.
fn not_run(line: &str) -> Option<&'static str> {
    let found = NOT_RUN.iter().find(|(begin, _)| line.starts_with(begin));
    found.map(|(_, why)| *why)
}

/// A tunnel stays until it is ended; there is nothing to wait for but that it listens.
fn stays(line: &str) -> bool {
    let is_tunnel = line.starts_with("ops forward ") || line.starts_with("ops -p team forward ");
    is_tunnel
        && [" -d ", " -- ", " --list"]
            .iter()
            .all(|how| !line.contains(how))
}

/// Runs `line` until it says where it listens, then ends it.
fn listens(lab: &Lab, line: &str) -> Result<(), String> {
    let words = ["-c", &format!("exec {line} 2>&1")];
    let mut child = lab.run("/bin/bash", words).spawn();
    let stdout = child.stdout.take().expect("a pipe");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut first = String::new();
        let _ = BufReader::new(stdout).read_line(&mut first);
        let _ = sender.send(first);
    });
    let first = receiver.recv_timeout(PATIENCE).unwrap_or_default();
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    let _ = child.wait();
    if first.contains(" → ") {
        Ok(())
    } else {
        Err(first)
    }
}

fn check(lab: &Lab, example: &Example) -> Result<(), String> {
    let mut line = example.line.clone();
    for (written, here) in REPLACED {
        line = line.replace(written, here);
    }
    if OF_TEAM.iter().any(|what| line.contains(what)) {
        line = line.replacen("ops ", "ops -p team ", 1);
    }
    if stays(&line) {
        return listens(lab, &line);
    }
    // What is typed into a shell of the transcript.
    let prompt = "web-1:~$ ";
    let typed: String = example
        .shown
        .iter()
        .filter_map(|line| Some(format!("{}\n", line.strip_prefix(prompt)?)))
        .collect();
    let done = lab.run("/bin/bash", ["-c", &line]).stdin(typed).output();
    let fails = example.shown.iter().any(|line| line.starts_with("error: "));
    if (done.status == 0) == fails {
        return Err(done.to_string());
    }
    let said = format!("{}{}", done.stdout, done.stderr).replace('\r', "");
    let missing = example
        .shown
        .iter()
        .find(|line| !line.starts_with(prompt) && !said.contains(line.as_str()));
    match missing {
        Some(missing) => Err(format!("`{missing}` is not in: {done}")),
        None => Ok(()),
    }
}

/// Programs that examples run, and what an example has in it that does.
const PROGRAMS: &[(&str, &str)] = &[("ssh", " ssh "), ("ps", "ps aux")];

#[test]
fn every_example_works() {
    let lab = reader();
    // Each that is missing is told once, as with `needs!`; the other examples are run all the same.
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !ops_test_needs::are_installed(&[program]))
        .map(|(_, sign)| *sign)
        .collect();
    let mut examples = examples_of_help();
    examples.extend(pages().iter().flat_map(|page| examples_of_page(page)));
    let mut seen = BTreeSet::new();
    examples.retain(|example| !example.line.is_empty() && seen.insert(example.line.clone()));
    assert!(examples.len() > 60, "{}", examples.len());
    let mut wrong = Vec::new();
    for example in &examples {
        let is_without = missing.iter().any(|sign| example.line.contains(sign));
        if is_without || not_run(&example.line).is_some() {
            continue;
        }
        if let Err(why) = check(&lab, example) {
            wrong.push(format!("{}\n{why}", example.line));
        }
        if example.line.starts_with("ops sandbox fault") {
            lab.ops(["sandbox", "fault", "none"]).output().success();
        }
    }
    lab.ops(["forward", "--stop", "all"]).output().success();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_is_not_run_is_an_example_still() {
    let mut examples = examples_of_help();
    examples.extend(pages().iter().flat_map(|page| examples_of_page(page)));
    let contributing = examples_of_page(&root().join("CONTRIBUTING.md"));
    examples.extend(contributing);
    for (begin, _) in NOT_RUN {
        let is_one = examples
            .iter()
            .any(|example| example.line.starts_with(begin));
        assert!(is_one, "no example begins with `{begin}`");
    }
}

/// The words of `line` as the command line has them, without what stands for something else.
fn words_of(line: &str) -> Option<Vec<String>> {
    let line = line.split(" | ").next().unwrap_or_default();
    let line = line.replace(" …", "").replace(['…', '[', ']'], "");
    shell_words::split(&line).ok()
}

/// Why `line` is no command line of the program. Values are not looked at, since pages name them
/// `NAME` and the like, nor what is missing, nor the short options of ssh, which has its own.
fn refused(line: &str) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let words = words_of(line)?;
    let mut rest = words.iter().skip(1);
    let verb = loop {
        match rest.next()?.as_str() {
            "-p" | "--region" | "--profiles-dir" => drop(rest.next()),
            option if option.starts_with('-') => {}
            verb => break verb,
        }
    };
    let is_name = verb.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let is_known = verb == "help"
        || OF_PAGES.contains(&verb)
        || ops::entries().any(|entry| entry.name == verb || entry.aliases.contains(&verb));
    if is_name && !is_known {
        return Some(format!("no verb `{verb}`"));
    }
    let error = ops::command().try_get_matches_from(&words).err()?;
    let is_short = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(arg)) if !arg.starts_with("--")
    );
    let is_wrong = match error.kind() {
        ErrorKind::UnknownArgument => !(is_short && verb == "ssh"),
        ErrorKind::InvalidSubcommand => !OF_PAGES.contains(&verb),
        kind => kind == ErrorKind::ArgumentConflict,
    };
    is_wrong.then(|| {
        error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    })
}

/// The texts of `page` between single backticks, outside of blocks.
fn inline_code(text: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut is_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    let spans = prose.split('`').skip(1).step_by(2);
    spans.map(|span| span.replace('\n', " ")).collect()
}

#[test]
fn every_command_that_a_page_names_is_one() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let fences = text.lines().filter_map(|line| line.strip_prefix("```"));
        // Of two fences the second ends a block.
        for language in fences.step_by(2) {
            if !LANGUAGES.contains(&language) {
                wrong.push(format!("{}: a block of `{language}`", page.display()));
            }
        }
        let mut lines = inline_code(&text);
        for block in blocks(&text, &["sh needs-aws"]) {
            lines.extend(block.lines().map(|line| {
                line.split(" # ")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            }));
        }
        // The reference shows help pages as they are, with examples that are run elsewhere.
        let of_text = if page.ends_with("reference.md") {
            &["json", "yaml"][..]
        } else {
            &["text", "json", "yaml"]
        };
        for block in blocks(&text, of_text) {
            let hidden = block.lines().filter(|line| {
                line.trim_start()
                    .trim_start_matches("$ ")
                    .starts_with("ops ")
            });
            wrong.extend(
                hidden.map(|line| format!("{}: not in a block of sh: {line}", page.display())),
            );
        }
        for line in lines.iter().filter(|line| line.starts_with("ops ")) {
            if let Some(why) = refused(line) {
                wrong.push(format!("{}: `{line}`: {why}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_option_that_a_page_names_is_one_of_some_command() {
    let mut options = BTreeSet::new();
    let mut waiting = vec![ops::command()];
    while let Some(command) = waiting.pop() {
        options.extend(
            command
                .get_arguments()
                .filter_map(|arg| arg.get_long().map(str::to_owned)),
        );
        waiting.extend(command.get_subcommands().cloned());
    }
    options.extend(ops::entries().flat_map(|entry| {
        let command = (entry.clap)();
        command
            .get_arguments()
            .filter_map(|arg| arg.get_long().map(str::to_owned))
            .collect::<Vec<_>>()
    }));
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for span in inline_code(&text) {
            let Some(option) = span.strip_prefix("--").filter(|rest| rest.len() > 1) else {
                continue;
            };
            let name = option
                .split(['=', ' ', '[', '|'])
                .next()
                .unwrap_or_default();
            if !options.contains(name) && !OF_OTHERS.contains(&name) {
                wrong.push(format!("{}: `{span}`", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The parts of a page that a link may name, as GitHub calls them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            title
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut lost = Vec::new();
    let more = ["CONTRIBUTING.md", "CHANGELOG.md"].map(|page| root().join(page));
    for page in pages().into_iter().chain(more) {
        let text = fs::read_to_string(&page).expect("a page");
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let there = match path {
                "" => page.clone(),
                path => page.with_file_name(path),
            };
            let is_there = match (fs::read_to_string(&there), anchor) {
                (_, "") => there.exists(),
                (Ok(text), anchor) => anchors(&text).iter().any(|name| name == anchor),
                (Err(_), _) => false,
            };
            if !is_there {
                lost.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
