//! What a benchmark has to tell: on stdout while it runs, and as its section of `RESULTS.md`.
//!
//! With `OPS_BENCH_RECORD=1` a finished benchmark replaces its section of that file, between two
//! comments that name it. A development build records nothing: its figures mean nothing.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use crate::table;

/// Set, and not empty, where the results are to be kept.
const RECORD: &str = "OPS_BENCH_RECORD";

/// The widest line of a page, in characters; `tests/it/style.rs` holds them to it.
const COLUMNS: usize = 100;

/// One benchmark's results.
pub struct Report {
    program: &'static str,
    /// The section so far, in Markdown.
    markdown: String,
}

impl Report {
    /// Nothing yet; `program` is the name of the binary, and of its section.
    pub fn of(program: &'static str) -> Self {
        Self {
            program,
            markdown: String::new(),
        }
    }

    /// A line of its own.
    pub fn line(&mut self, line: &str) {
        println!("{line}");
        let _ = write!(self.markdown, "{}\n\n", wrapped(line));
    }

    /// A table, after an empty line.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        table::print(head, rows);
        println!();
        self.markdown.push_str(&table::markdown(head, rows));
        self.markdown.push('\n');
    }

    /// Keeps the results, if that is wanted.
    ///
    /// # Errors
    /// A development build; a file that cannot be written, or that has no section for this program.
    pub fn finish(self) -> io::Result<()> {
        if std::env::var_os(RECORD).is_none_or(|wanted| wanted.is_empty()) {
            return Ok(());
        }
        if cfg!(debug_assertions) {
            return Err(io::Error::other(
                "the figures of a development build are not kept: use cargo run --release",
            ));
        }
        let file = results();
        let text = fs::read_to_string(&file)?;
        let text = replaced(&text, self.program, &self.section()).ok_or_else(|| {
            io::Error::other(format!(
                "{} has no section between `<!-- {1} -->` and `<!-- end of {1} -->`",
                file.display(),
                self.program
            ))
        })?;
        fs::write(&file, text)?;
        eprintln!("written to {}", file.display());
        Ok(())
    }

    fn section(&self) -> String {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let mut command = format!("cargo run --release -p ops-bench --bin {}", self.program);
        if !arguments.is_empty() {
            let _ = write!(command, " -- {}", arguments.join(" "));
        }
        let today = jiff::Timestamp::now().strftime("%Y-%m-%d");
        let head = wrapped(&format!("`{command}`, {today}, {}:", machine()));
        format!("{head}\n\n{}", self.markdown.trim_end())
    }
}

/// The words of `arguments` that name one of `tables`, and the rest, which are numbers.
///
/// # Errors
/// A word that is neither.
pub fn split_tables<'a>(
    tables: &[&'a str],
    arguments: &'a [String],
) -> io::Result<(Vec<&'a str>, Vec<&'a str>)> {
    let (mut chosen, mut numbers) = (Vec::new(), Vec::new());
    for word in arguments {
        match tables.iter().find(|table| *table == word) {
            Some(table) => chosen.push(*table),
            None if word.parse::<u64>().is_ok() => numbers.push(word.as_str()),
            None => {
                return Err(io::Error::other(format!(
                    "`{word}` is no table: there are {}",
                    tables.join(", ")
                )));
            }
        }
    }
    Ok((chosen, numbers))
}

/// `text` in lines that fit the pages of this project.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut columns = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if columns > 0 && columns + 1 + width > COLUMNS {
            lines.push('\n');
            columns = 0;
        } else if columns > 0 {
            lines.push(' ');
            columns += 1;
        }
        lines.push_str(word);
        columns += width;
    }
    lines
}

/// The file that keeps the figures.
fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")
}

/// `text` with what stands between the two comments of `program` replaced; `None` where they are
/// not there.
fn replaced(text: &str, program: &str, section: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {program} -->"),
        format!("<!-- end of {program} -->"),
    );
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{section}\n\n{end}{after}"))
}

/// What the figures were measured on, as far as the system tells.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(format!(" ({})", line.split_once(": ")?.1))
    });
    format!(
        "{processors} processors{}, {architecture} {system}",
        model.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let text = "# Head\n\n<!-- a -->\n\nold\n\n<!-- end of a -->\n\n<!-- ab -->\n<!-- end of ab -->\ntail\n";
        assert_eq!(
            replaced(text, "a", "new").as_deref(),
            Some(
                "# Head\n\n<!-- a -->\n\nnew\n\n<!-- end of a -->\n\n<!-- ab -->\n<!-- end of ab -->\ntail\n"
            )
        );
        assert_eq!(replaced(text, "b", "new"), None);
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        let text = "word ".repeat(30);
        let wrapped = wrapped(&text);
        assert!(wrapped.lines().all(|line| line.chars().count() <= COLUMNS));
        assert_eq!(wrapped.split_whitespace().count(), 30);
        assert_eq!(wrapped.lines().count(), 2);
    }

    #[test]
    fn every_benchmark_has_its_section() {
        let text = fs::read_to_string(results()).expect("the results");
        let manifest = include_str!("../Cargo.toml");
        let programs: Vec<&str> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("name = \"bench-")?.strip_suffix('"'))
            .collect();
        assert!(programs.len() > 4, "{programs:?}");
        for program in programs {
            let program = format!("bench-{program}");
            assert!(replaced(&text, &program, "").is_some(), "{program}");
        }
    }
}
