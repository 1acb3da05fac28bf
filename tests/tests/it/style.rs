//! What a reader meets before the code: files of one idea, comments and pages that fit a window.

use std::path::{Path, PathBuf};

/// The widest line of a comment or of a page, in characters: rustfmt's own `max_width`.
const COLUMNS: usize = 100;

/// The most lines of a source file. One that grows beyond has a second idea, which gets a file with
/// a name of its own.
const LINES: usize = 700;

/// Takes from a line what is read as prose.
type Prose = fn(&str) -> Option<&str>;

/// All files below `dir` that end in one of `endings`, without what git or cargo make.
fn files(dir: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git" | "node_modules") {
                files(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

/// The numbers of prose lines in `text` that are too wide. Code in fences, rows of tables and
/// what cannot be broken (one long word, such as an address) are no prose.
fn wide_lines(text: &str, prose: Prose) -> Vec<usize> {
    let mut fenced = false;
    let mut wide = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(words) = prose(line).map(str::trim) else {
            fenced = false;
            continue;
        };
        if words.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let breakable = words.split_whitespace().nth(2).is_some();
        if !fenced && breakable && !words.starts_with('|') && line.chars().count() > COLUMNS {
            wide.push(number + 1);
        }
    }
    wide
}

/// The words of a comment that has a line of its own.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ["///", "//!", "//"]
        .iter()
        .find_map(|marker| line.strip_prefix(marker))
}

/// Every line of a page.
fn page(line: &str) -> Option<&str> {
    Some(line)
}

/// The files of the workspace that end in one of `endings`: each one's path below the workspace,
/// and its text.
fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let mut found = Vec::new();
    files(root, endings, &mut found);
    assert!(
        found.len() > 5,
        "the files are looked for in the wrong place"
    );
    found
        .into_iter()
        .map(|path| {
            let shown = path.strip_prefix(root).expect("below the workspace");
            let text = std::fs::read_to_string(&path).expect("a text");
            (shown.display().to_string(), text)
        })
        .collect()
}

fn complaints(endings: &[&str], prose: Prose) -> Vec<String> {
    let mut complaints = Vec::new();
    for (shown, text) in texts(endings) {
        for number in wide_lines(&text, prose) {
            complaints.push(format!("{shown}:{number}"));
        }
    }
    complaints
}

#[test]
fn no_source_file_is_longer_than_seven_hundred_lines() {
    let long: Vec<String> = texts(&[".rs"])
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LINES)
        .map(|(shown, text)| format!("{shown}: {}", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn comments_fit_a_hundred_columns() {
    let wide = complaints(&[".rs"], comment);
    assert!(wide.is_empty(), "too wide:\n{}", wide.join("\n"));
}

/// The words of a comment of a script or a manifest that has a line of its own; a table in it has
/// columns, and a directive has to be one line.
fn script_comment(line: &str) -> Option<&str> {
    let words = line.trim_start().strip_prefix("# ")?;
    let is_prose = !words.trim().contains("  ") && !words.starts_with("shellcheck ");
    is_prose.then_some(words)
}

#[test]
fn comments_of_scripts_and_manifests_fit_a_hundred_columns() {
    let wide = complaints(&[".sh", ".toml", ".py"], script_comment);
    assert!(wide.is_empty(), "too wide:\n{}", wide.join("\n"));
}

#[test]
fn pages_fit_a_hundred_columns() {
    let wide = complaints(&[".md"], page);
    assert!(wide.is_empty(), "too wide:\n{}", wide.join("\n"));
}

#[test]
fn what_is_too_wide_is_found() {
    let long = format!("/// {}\nlet x = 1;\n", "word ".repeat(20));
    assert_eq!(wide_lines(&long, comment), [1]);
    let table = format!("/// | {} |\n", "word ".repeat(20));
    assert!(wide_lines(&table, comment).is_empty());
    let code = format!(
        "```\n{}\n```\n{}\n",
        "a b c ".repeat(20),
        "a b c ".repeat(20)
    );
    assert_eq!(wide_lines(&code, page), [4]);
}
