//! The script that reads logs on a server, as it is sent.

use std::fmt::Write as _;

use ops_core::guard::{WorkLine, words_line};
use ops_remote::script::compact;
use ops_ui::{Hint, Text, text::single_quoted};

use super::{
    journal_lines::JournalPosition,
    sources::{FilePlaces, LogSources},
};

/// Reads files.
const FILES: &str = include_str!("scripts/files.sh");
/// Reads the journal.
const JOURNAL: &str = include_str!("scripts/journal.sh");

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogRequest {
    pub(crate) sources: LogSources,
    /// What is written later is read too.
    pub(crate) follow: bool,
    /// Lines from before; `None`: all, since then.
    pub(crate) lines: Option<u32>,
    /// A time as journalctl takes it.
    pub(crate) since: Option<String>,
    /// An extended regular expression.
    pub(crate) pattern: Option<String>,
}

impl LogRequest {
    /// What is read, and by whom, for whoever has to confirm it.
    pub(super) fn work(&self, user: Option<&str>) -> Vec<WorkLine> {
        let listed = |label, words: &[String]| {
            let words = Hint::command(words.iter().map(String::as_str));
            (!words.is_empty()).then(|| words_line(label, &words))
        };
        let runs_as = user.map(|user| ("runs as:", Text::from(user.to_owned())));
        listed("files:", &self.sources.files)
            .into_iter()
            .chain(listed("units:", &self.sources.units))
            .chain(listed("matching:", self.pattern.as_slice()))
            .chain(runs_as)
            .collect()
    }

    /// Reads files from `places` on, of which `is_resumed` says whether there was an earlier run.
    pub(crate) fn files_script(&self, places: &FilePlaces, is_resumed: bool) -> String {
        let mut text = self.settings();
        assign(&mut text, "is_resumed", if is_resumed { "1" } else { "" });
        text.push_str("find_place() {\nplace=\ncase \"$1\" in\n");
        for (path, place) in places {
            // A quoted word is no pattern.
            let _ = writeln!(
                text,
                "{}) place={} ;;",
                single_quoted(path),
                single_quoted(place)
            );
        }
        text.push_str("esac\n}\nset --");
        for file in &self.sources.files {
            let _ = write!(text, " {}", single_quoted(file));
        }
        text.push('\n');
        text.push_str(&compact(FILES));
        text
    }

    /// Reads the journal from `position` on.
    pub(crate) fn journal_script(&self, position: &JournalPosition) -> String {
        let mut text = self.settings();
        assign(
            &mut text,
            "cursor",
            position.cursor.as_deref().unwrap_or_default(),
        );
        assign(&mut text, "given", &position.given.to_string());
        let since = position.since.as_ref().or(self.since.as_ref());
        assign(&mut text, "since", since.map_or("", String::as_str));
        text.push_str("set --");
        for unit in &self.sources.units {
            let _ = write!(text, " {}", single_quoted(&format!("--unit={unit}")));
        }
        text.push('\n');
        text.push_str(&compact(JOURNAL));
        text
    }

    fn settings(&self) -> String {
        let mut text = String::new();
        assign(&mut text, "follow", if self.follow { "1" } else { "" });
        let lines = self.lines.map(|lines| lines.to_string());
        assign(&mut text, "lines", &lines.unwrap_or_default());
        let has_pattern = if self.pattern.is_some() { "1" } else { "" };
        assign(&mut text, "has_pattern", has_pattern);
        assign(&mut text, "re", self.pattern.as_deref().unwrap_or_default());
        text
    }
}

fn assign(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name}={}", single_quoted(value));
}
