//! Messages that pages quote are those of the program, and so are variables: whoever changes one
//! takes its page along.

use std::{collections::BTreeSet, fs, path::Path};

/// Pages with a table of messages, and the title of the column that quotes them.
const TABLES: [(&str, &str); 2] = [("troubleshooting.md", "Message"), ("ssh.md", "Line")];

/// Messages that are no literal here: another program's, or put together from parts.
const OTHERS: [(&str, &str); 3] = [
    ("Could not resolve hostname", "of OpenSSH"),
    ("`…` is stopped", "the state is a value: ssh/proxy.rs"),
    (
        "no connection for … by way of the proxy `…`",
        "the proxy is a part: it/aws.rs",
    ),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The literals of the program's sources, as far as quotation marks tell them from code; a literal
/// that goes on in the next line is one.
fn literals() -> Vec<String> {
    let mut folders = vec![root().join("crates")];
    let mut literals = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let is_test = ["tests", "tests.rs"]
                .iter()
                .any(|name| path.ends_with(name));
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test {
                let text = fs::read_to_string(&path).expect("a source");
                let mut whole = String::new();
                for line in text.replace("\\\"", "'").lines() {
                    match line.strip_suffix('\\') {
                        Some(begin) => whole += begin.trim_start(),
                        None => {
                            whole += line.trim_start();
                            whole.push('\n');
                        }
                    }
                }
                literals.extend(whole.split('"').map(str::to_owned));
            }
        }
    }
    literals
}

/// Whether `literal` has the words of `message` in this order; `…` stands for what is put in.
fn says(literal: &str, message: &str) -> bool {
    let mut rest = literal;
    message
        .split('…')
        .all(|words| match rest.split_once(words) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
}

/// The first column of the table of `page` that has this title.
fn quoted(page: &str, title: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {title} |")))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let cell = row.split(" | ").next().unwrap_or_default();
        let cell = cell.trim_start_matches("| ");
        // A message with backticks in it stands between two of them.
        let cell = cell
            .strip_prefix("`` ")
            .and_then(|cell| cell.strip_suffix(" ``"))
            .unwrap_or(cell);
        let is_code = |part: &str| part.starts_with('`') && part.ends_with('`');
        let parts = cell.split("; ").flat_map(|part| part.split("`, `"));
        parts
            .map(|part| match part.matches('`').count() {
                2 if is_code(part) => part.trim_matches('`').to_owned(),
                1 => part.trim_matches('`').to_owned(),
                _ => part.to_owned(),
            })
            .collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn every_message_that_a_page_explains_is_one_of_the_program() {
    let literals = literals();
    let mut count = 0;
    let mut unknown = Vec::new();
    for (page, title) in TABLES {
        for message in quoted(page, title) {
            count += 1;
            let is_ours = literals.iter().any(|literal| says(literal, &message));
            let is_other = OTHERS.iter().any(|(other, _)| *other == message);
            if !is_ours && !is_other {
                unknown.push(format!("{page}: {message}"));
            }
        }
    }
    assert!(count > 25, "{count}");
    assert!(
        unknown.is_empty(),
        "no such message:\n{}",
        unknown.join("\n")
    );
}

/// Variables that no page tells of, and why.
const UNTOLD: [(&str, &str); 11] = [
    ("OPS_COMMIT", "set for the compiler by the build script"),
    ("OPS_COMPILER", "set for the compiler by the build script"),
    ("OPS_TARGET", "set for the compiler by the build script"),
    ("OPS_COMPLETE_LINE", "between a shell's script and `ops`"),
    ("OPS_DEBUG_PANIC", "for tests"),
    ("OPS_DEBUG_SURPRISE", "for tests"),
    ("OPS_PROMPT", "inside of the sandbox's shells"),
    (
        "OPS_FEDERATION_ENDPOINT",
        "the sandbox sets it for its clients",
    ),
    ("OPS_SANDBOX_HOST_KEYS", "inside of the sandbox's shells"),
    ("OPS_SANDBOX_EMBEDDED", "between two processes of `ops`"),
    ("OPS_SANDBOX_STATE", "between two processes of `ops`"),
];

/// The names of variables in `text`.
fn variables(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("OPS_") && word.len() > 4 && !word.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

/// The pages of the user, without the reference, which is made from the program.
fn pages() -> String {
    let mut pages = vec![
        root().join("README.md"),
        root().join("profiles/README.md"),
        root().join("contrib/ansible/README.md"),
    ];
    let docs = fs::read_dir(root().join("docs")).expect("docs");
    pages.extend(docs.map(|entry| entry.expect("an entry").path()));
    pages.retain(|page| page.extension().is_some_and(|e| e == "md"));
    let texts = pages
        .iter()
        .map(|page| fs::read_to_string(page).expect("a page"));
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_variable_that_the_program_reads_is_on_a_page_and_no_other() {
    // A whole literal is a name; what is longer is a sentence about one.
    let is_name = |text: &&String| variables(text).len() == 1 && !text.contains(' ');
    let read: BTreeSet<String> = literals()
        .iter()
        .filter(is_name)
        .flat_map(|text| variables(text))
        .collect();
    let told = variables(&pages());
    // `OPS_` and the name of an option: the reference says so once for all of them.
    let of_options: BTreeSet<String> = ops::command()
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()))
        .collect();
    let untold: Vec<_> = read
        .iter()
        .filter(|name| !told.contains(*name) && !of_options.contains(*name))
        .filter(|name| UNTOLD.iter().all(|(untold, _)| untold != name))
        // Those that a forward's command is given have numbers and names in them.
        .filter(|name| !name.starts_with("OPS_FORWARD_"))
        .collect();
    assert!(untold.is_empty(), "on no page: {untold:?}");
    let sources = literals().join("\n");
    let unread: Vec<_> = told
        .iter()
        .filter(|name| !sources.contains(name.as_str()))
        // Those of the tests and of the build.
        .filter(|name| !["OPS_UPDATE", "OPS_BENCH_RECORD"].contains(&name.as_str()))
        .collect();
    assert!(unread.is_empty(), "read by nothing: {unread:?}");
}

#[test]
fn every_exit_status_and_code_of_an_error_is_in_the_table() {
    let page = fs::read_to_string(root().join("docs/output.md")).expect("a page");
    let (_, table) = page.split_once("## Exit codes").expect("the table");
    let literals = literals();
    let codes: BTreeSet<&str> = literals
        .iter()
        .map(String::as_str)
        .filter(|text| text.starts_with("OPS-E-") && !text.contains(' ') && text.len() > 6)
        .collect();
    assert!(codes.len() > 10, "{codes:?}");
    for code in &codes {
        assert!(table.contains(&format!("`{code}`")), "{code}");
    }
    for told in table.split('`').filter(|word| word.starts_with("OPS-E-")) {
        assert!(codes.contains(told), "no such code: {told}");
    }
    let source = fs::read_to_string(root().join("crates/ui/src/exit.rs")).expect("a source");
    let mut statuses: Vec<&str> = source
        .lines()
        .filter(|line| line.contains("pub const ") && line.contains(": Self = Self("))
        .filter_map(|line| line.split_once("Self(")?.1.split(')').next())
        .collect();
    let mut told: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|cell| cell.parse::<u8>().is_ok())
        .collect();
    statuses.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, statuses);
}
