//! The pages that are made from the arguments: the manual, and docs/reference.md.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use ops_test_needs::needs;
use ops_tests::Lab;

/// Every command that is shown, by the words that lead to it, in the order of help.
fn paths() -> Vec<Vec<String>> {
    fn below(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let mut path = path.to_vec();
            path.push(sub.get_name().to_owned());
            found.push(path.clone());
            below(sub, &path, found);
        }
    }
    let mut found = vec![Vec::new()];
    below(&ops::command(), &[], &mut found);
    found
}

/// The heading of the options that every command has.
const GLOBAL: &str = "Global options:\n";

fn reference() -> String {
    let lab = Lab::new().env("COLUMNS", "96");
    let mut text = String::from(
        "# Reference\n\nThe long help of every command, as `ops VERB --help` prints it; global \
         options are\ntold once, with `ops`. A test writes this page\n(`OPS_UPDATE=1 cargo test -p ops-tests --test it every_page`) and holds \
         it to the program.\n",
    );
    for path in paths() {
        let page = lab.ops(path.iter().map(String::as_str).chain(["--help"]));
        let page = page.output().success().stdout;
        // They are told once, with the program itself.
        let page = match page.split_once(GLOBAL) {
            Some((own, globals)) if !path.is_empty() => {
                let after = globals.split_once("\n\nExamples:\n");
                let examples =
                    after.map_or(String::new(), |(_, list)| format!("Examples:\n{list}"));
                own.to_owned() + &examples
            }
            _ => page,
        };
        let title = std::iter::once("ops").chain(path.iter().map(String::as_str));
        let title = title.collect::<Vec<_>>().join(" ");
        let level = "#".repeat(path.len().clamp(1, 2) + 1);
        let _ = write!(
            text,
            "\n{level} {title}\n\n```text\n{}\n```\n",
            page.trim_end()
        );
    }
    text
}

#[test]
fn every_page_of_the_reference_says_what_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    let is = reference();
    if std::env::var_os("OPS_UPDATE").is_some() {
        fs::write(&path, &is).expect("docs/reference.md");
    }
    let was = fs::read_to_string(&path).unwrap_or_default();
    let differs = was.lines().zip(is.lines()).find(|(was, is)| was != is);
    assert!(
        was == is,
        "docs/reference.md is not current, first at {differs:?}: \
         OPS_UPDATE=1 cargo test -p ops-tests --test it every_page"
    );
}

#[test]
fn man_shows_every_page_without_a_warning() {
    needs!("man");
    let lab = Lab::new();
    let folder = lab.folder("man1");
    lab.ops(["man", "--dir", &folder.to_string_lossy()])
        .output()
        .success();
    for path in paths() {
        let name = std::iter::once("ops").chain(path.iter().map(String::as_str));
        let file = folder.join(name.clone().collect::<Vec<_>>().join("-") + ".1");
        let shown = Command::new("man")
            .args(["--warnings", "--local-file"])
            .arg(&file)
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("man");
        let (page, warnings) = (
            String::from_utf8_lossy(&shown.stdout),
            String::from_utf8_lossy(&shown.stderr),
        );
        assert!(shown.status.success() && warnings.is_empty(), "{warnings}");
        let usage = name.clone().collect::<Vec<_>>().join(" ");
        assert!(page.contains("SYNOPSIS") && page.contains(&usage), "{page}");
    }
}

#[test]
fn a_page_has_the_options_that_the_short_help_leaves_out_and_the_examples() {
    let lab = Lab::new();
    let page = lab.ops(["man", "exec"]).output().success().stdout;
    let after = |word: &str| page.split_once(word).map(|(_, after)| after.to_owned());
    let cwd = after(r"\fB\-\-cwd\fR").expect("an option");
    let text = cwd.lines().nth(1).unwrap_or_default();
    assert!(!text.trim().is_empty(), "{cwd}");
    let entry = ops::entries()
        .find(|entry| entry.name == "exec")
        .expect("exec");
    let examples = after(".SH EXAMPLES").expect("examples");
    assert_eq!(examples.matches(".TP").count(), entry.examples.len());
    assert!(
        !page.contains(r"\-\-profiles\-dir"),
        "global options are on ops(1)"
    );
    let root = lab.ops(["man"]).output().success().stdout;
    assert!(root.contains(r"\-\-profiles\-dir"), "{root}");

    let unknown = lab.ops(["man", "nosuch"]).output().exits(2);
    assert!(
        unknown.stderr.contains("no command `nosuch`"),
        "{}",
        unknown.stderr
    );
}
