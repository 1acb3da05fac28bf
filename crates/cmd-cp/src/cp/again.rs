//! What an interrupted copy leaves, and the command that goes on with it.

use std::{ffi::OsStr, path::Path};

use clap::ValueEnum as _;
use ops_core::Choice;
use ops_ui::{Error, Hint, hint, output::escape};

use super::Cp;
use crate::{
    item::{Item, Outcome},
    options::{Options, Overwrite},
    place::TypedPath,
    progress::human_bytes,
    session::fetch_archive::SMALL_BYTES,
};

/// `error`, an interruption, with what the copy has done so far and how it goes on.
pub(super) fn tell_what_is_kept(error: Error, options: &Options, resuming: Option<Hint>) -> Error {
    if options.dry_run {
        return error;
    }
    let items = options.report.items();
    let is_in_place =
        |item: &&Item| matches!(item.outcome, Some(Outcome::Done | Outcome::Skipped(_)));
    let in_place = items.iter().filter(is_in_place).count();
    let under_way = |item: &&Item| item.outcome.is_none() && item.moved > 0;
    let mut error = error;
    if !items.is_empty() {
        error = error.caused_by(format!("{in_place} of {} are in place", items.len()));
    }
    let mut parts = items.iter().filter(under_way).peekable();
    if parts.peek().is_some() {
        error = error.caused_by(if !options.resume {
            "what had arrived of the others is removed; with --resume it is kept".to_owned()
        } else {
            // Small ones travel together, and are not worth a part.
            match parts.find(|item| item.size > SMALL_BYTES) {
                Some(item) => format!(
                    "what has arrived of `{}` without a gap is kept ({} of {} were on their way)",
                    escape(&item.source.to_string()),
                    human_bytes(item.moved),
                    human_bytes(item.size)
                ),
                None => "of small files no parts are kept".to_owned(),
            }
        });
    }
    // Without `--resume` nothing is kept of what was under way, so that nobody is told to go on
    // with it. What is in place already is the same, and stays with `--resume`.
    error.hint(match resuming {
        None => Hint::from("copy it again: a stream cannot be gone on with"),
        Some(command) if options.resume => hint!("go on: {}", command),
        Some(command) if in_place > 0 => {
            hint!("copy the rest, and keep parts from now on: {}", command)
        }
        Some(command) => hint!("copy it again, and keep parts from now on: {}", command),
    })
}

impl Cp {
    /// The command that copies what this one has not, with `--resume`; `None` where it reads or
    /// writes a stream, or a name is no text.
    pub(super) fn to_resume(&self) -> Option<Hint> {
        let is_stream = |text: &OsStr| {
            matches!(TypedPath::parse(text), Ok(TypedPath::Standard))
                || Path::new(text).starts_with("/dev")
                || Path::new(text).starts_with("/proc/self/fd")
        };
        if self.places.iter().any(|text| is_stream(text)) {
            return None;
        }
        // The long form: `-p` before the verb is a profile.
        let mut words = vec!["ops".to_owned(), "cp".to_owned(), "--resume".to_owned()];
        for (is_set, flag) in [
            (self.recursive, "--recursive"),
            (self.preserve, "--preserve"),
            (self.dereference, "--dereference"),
            (self.no_dereference, "--no-dereference"),
            (self.checksum, "--checksum"),
            (self.no_compress, "--no-compress"),
            (self.sudo, "--sudo"),
            (self.instance_connect, "--instance-connect"),
        ] {
            words.extend(is_set.then(|| flag.to_owned()));
        }
        let name_of = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned())
        };
        let overwrite = (self.overwrite != Overwrite::default()).then_some(self.overwrite);
        for (flag, value) in [
            (
                "--links",
                self.links
                    .and_then(|links| name_of(links.to_possible_value())),
            ),
            (
                "--overwrite",
                overwrite.and_then(|when| name_of(when.to_possible_value())),
            ),
            (
                "--via",
                self.via.and_then(|via| name_of(via.to_possible_value())),
            ),
            (
                "--limit-rate",
                self.limit_rate.map(|rate| rate.0.to_string()),
            ),
            ("--sessions", self.sessions.map(|count| count.to_string())),
            (
                "--parallel",
                (self.parallel != super::PARALLEL).then(|| self.parallel.to_string()),
            ),
            ("--reason", self.session.reason.clone()),
            (
                "--identity",
                self.identity
                    .as_ref()
                    .and_then(|path| path.to_str())
                    .map(str::to_owned),
            ),
        ] {
            if let Some(value) = value {
                words.extend([flag.to_owned(), value]);
            }
        }
        for pattern in &self.exclude {
            words.extend(["--exclude".to_owned(), pattern.clone()]);
        }
        match self.session.choice() {
            Choice::First => words.push("--first".to_owned()),
            Choice::Newest => words.push("--newest".to_owned()),
            _ => {}
        }
        // What begins with a dash is no option.
        if self
            .places
            .iter()
            .any(|place| place.as_encoded_bytes().starts_with(b"-"))
        {
            words.push("--".to_owned());
        }
        for place in &self.places {
            words.push(place.to_str()?.to_owned());
        }
        Some(Hint::command(words.iter().map(String::as_str)))
    }
}
