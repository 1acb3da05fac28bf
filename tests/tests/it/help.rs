//! Help pages, each pinned, so that a changed flag shows in review.

use std::collections::HashSet;

use ops_tests::Lab;

#[test]
fn names_in_the_registry_are_unique_and_clap_finds_no_fault_in_them() {
    let mut seen = HashSet::new();
    for entry in ops::entries() {
        for name in std::iter::once(&entry.name).chain(entry.aliases) {
            assert!(seen.insert(*name), "{name} twice");
        }
    }
    ops::command().debug_assert();
}

#[test]
fn every_verb_says_what_it_does_and_shows_examples_first() {
    let lab = Lab::new();
    for entry in ops::entries().filter(|entry| !entry.traits.hidden) {
        assert!(!entry.examples.is_empty(), "{} has no example", entry.name);
        let done = lab.ops([entry.name, "-h"]).output().success();
        assert!(
            done.stdout.starts_with("Examples:\n  "),
            "{}: {}",
            entry.name,
            done.stdout
        );
        assert_eq!(done.stderr, "", "{}", entry.name);
        let first = done.stdout.split("\n\n").next().unwrap_or_default();
        let shown = entry
            .examples
            .iter()
            .filter(|(line, _)| first.contains(line))
            .count();
        assert_eq!(shown, entry.examples.len().min(2), "{first}");
    }
}

/// A terminal has 24 lines of 80 columns unless somebody has made it larger, and the prompt below
/// takes one of them.
#[test]
fn every_short_page_fits_a_screen() {
    let lab = Lab::new().env("COLUMNS", "80");
    let mut commands = vec![(Vec::new(), ops::command())];
    let mut too_long = Vec::new();
    while let Some((path, command)) = commands.pop() {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let mut path: Vec<String> = path.clone();
            path.push(sub.get_name().to_owned());
            let page = lab.ops(path.iter().chain(&["-h".to_owned()])).output();
            let page = page.success().stdout;
            let lines = page.lines().count();
            let widest = page.lines().map(|line| line.chars().count()).max();
            if lines > 23 || widest > Some(80) {
                too_long.push(format!("{lines} lines, {widest:?} columns:\n{page}"));
            }
            commands.push((path, sub.clone()));
        }
    }
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
}

#[test]
fn every_page_is_as_it_was() {
    let lab = Lab::new();
    let mut pages = vec![(
        "ops".to_owned(),
        lab.ops(["--help"]).output().success().stdout,
    )];
    let mut commands = vec![(Vec::new(), ops::command())];
    while let Some((path, command)) = commands.pop() {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let mut path: Vec<String> = path.clone();
            path.push(sub.get_name().to_owned());
            let mut words = path.clone();
            words.push("--help".to_owned());
            let page = lab.ops(&words).output().success().stdout;
            pages.push((format!("ops-{}", path.join("-")), page));
            commands.push((path, sub.clone()));
        }
    }
    assert!(pages.len() > 10);
    for (name, page) in pages {
        // The global options are the same everywhere: pinned once, on the root's page.
        let page = match (name.as_str(), page.split_once("Global options:\n")) {
            ("ops", _) | (_, None) => page,
            (_, Some((own, rest))) => format!(
                "{own}{}",
                rest.split_once("Examples:")
                    .map_or("", |(_, examples)| examples)
            ),
        };
        insta::assert_snapshot!(name, page);
    }
}

#[test]
fn help_goes_to_stdout_in_each_of_its_spellings() {
    let lab = Lab::new();
    let page = lab.ops(["version", "--help"]).output().success().stdout;
    assert_eq!(lab.ops(["help", "version"]).output().success().stdout, page);
    assert_eq!(
        lab.ops(["--color=never", "help", "version"])
            .output()
            .success()
            .stdout,
        page
    );
    let short = lab.ops(["-h"]).output().success();
    assert_eq!(lab.ops([""; 0]).output().success().stdout, short.stdout);
    assert!(short.stdout.contains("\n  ls, list "), "{short}");
    assert_eq!(
        lab.ops(["--version"]).output().success().stdout,
        format!("ops {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn help_and_version_make_no_file() {
    let lab = Lab::new();
    for words in [
        ["--help"].as_slice(),
        &["-h"],
        &["--version"],
        &["shell", "--help"],
        &["nosuch"],
    ] {
        lab.ops(words).output();
        let files: Vec<_> = std::fs::read_dir(lab.home()).expect("home").collect();
        assert!(files.is_empty(), "{words:?} made {files:?}");
    }
}
