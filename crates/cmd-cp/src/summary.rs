//! What is said at the end: failures, a line for people, a document for programs.

use ops_core::Context;
use ops_ui::{Exit, Format, Output, Result, output::escape};
use serde::Serialize;

use crate::{
    item::{Item, Outcome, SharedPath},
    links::{ABSOLUTE, LEADS_OUT},
    progress::{human_bytes, human_rate},
    report::{Report, Totals},
};

/// Version of the fields below: within one, fields are only added.
const API_VERSION: &str = "ops/v1";
/// Failures that are shown one by one.
const SHOWN: usize = 50;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Line<'a>>,
    copied: usize,
    skipped: usize,
    failed: usize,
    bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(serialize_with = "as_text")]
    source: &'a SharedPath,
    /// `None` for what failed before it had one.
    destination: Option<String>,
    status: &'static str,
    bytes: u64,
    why: Option<String>,
}

fn as_text<S: serde::Serializer>(path: &&SharedPath, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(path)
}

/// Says it all; gives the exit status.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn tell_summary(cx: &Context, report: &Report, dry_run: bool) -> Result<Exit> {
    let items = report.items();
    let output = cx.output();
    let document = matches!(output.format(), Format::Json | Format::Yaml);
    let pending = |item: &&Item| item.outcome.is_none();
    if dry_run && !document {
        for item in items.iter().filter(pending) {
            output.line(format!(
                "{} -> {}",
                escape(&item.source.to_string()),
                escape(&item.destination.to_string())
            ))?;
        }
    }
    let mut totals = Totals::of(&items);
    let planned = items.iter().filter(pending).count();
    if dry_run {
        totals.failed -= planned;
    }
    let failures = items.iter().filter_map(|item| match &item.outcome {
        Some(Outcome::Failed(error)) => Some(error),
        _ => None,
    });
    for error in failures.clone().take(SHOWN) {
        output.error(error);
    }
    let more = failures.count().saturating_sub(SHOWN);
    if more > 0 {
        output.warn(format!(
            "{more} more failures are not shown; -o json tells them all"
        ));
    }
    tell_links(output, &items);
    let seconds = report.elapsed();
    if document {
        let document = Document {
            api_version: API_VERSION,
            kind: "CopyReport",
            items: items.iter().map(|item| item_line(item, dry_run)).collect(),
            copied: totals.copied,
            skipped: totals.skipped,
            failed: totals.failed,
            bytes: totals.bytes,
            seconds: (seconds.as_secs_f64() * 1000.0).round() / 1000.0,
        };
        if output.format() == Format::Json {
            output.json(&document)?;
        } else {
            output.yaml(&document)?;
        }
    }
    let mut parts = Vec::new();
    if dry_run {
        let size = items.iter().filter(pending).map(|item| item.size).sum();
        parts.push(format!("{planned} would be copied, {}", human_bytes(size)));
    } else {
        parts.push(format!(
            "{} copied, {} in {:.1} s ({})",
            totals.copied,
            human_bytes(totals.bytes),
            seconds.as_secs_f64(),
            human_rate(totals.bytes, seconds)
        ));
    }
    for (count, word) in [(totals.skipped, "left alone"), (totals.failed, "failed")] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    output.note(parts.join(", "));
    Ok(if totals.failed > 0 {
        Exit::PARTIAL
    } else {
        Exit::SUCCESS
    })
}

/// Says once which links were left out for where they lead.
fn tell_links(output: &Output, items: &[Item]) {
    let mut left_out = items.iter().filter(|item| {
        matches!(&item.outcome, Some(Outcome::Skipped(why)) if [ABSOLUTE, LEADS_OUT].contains(why))
    });
    let Some(first) = left_out.next() else { return };
    output.note(format!(
        "{} left out, since what is absolute or leads out of what is copied means something else \
         elsewhere; copy them as they are: --links all, or what they point to: --links follow",
        name_links(&escape(&first.source.to_string()), left_out.count())
    ));
}

/// The link `first` and the number of those behind it, with their verb.
fn name_links(first: &str, more: usize) -> String {
    match more {
        0 => format!("the link `{first}` is"),
        1 => format!("`{first}` and 1 more link are"),
        more => format!("`{first}` and {more} more links are"),
    }
}

fn item_line(item: &Item, dry_run: bool) -> Line<'_> {
    let (status, why) = match &item.outcome {
        Some(Outcome::Done) => ("copied", None),
        Some(Outcome::Skipped(why)) => ("skipped", Some((*why).to_owned())),
        Some(Outcome::Failed(error)) => ("failed", Some(error.to_string())),
        None if dry_run => ("planned", None),
        None => ("failed", None),
    };
    Line {
        source: &item.source,
        destination: Some(item.destination.to_string()).filter(|text| !text.is_empty()),
        status,
        bytes: item.moved,
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_in_the_number_that_they_have() {
        let words = [0, 1, 2].map(|more| name_links("a", more));
        assert_eq!(words[0], "the link `a` is");
        assert_eq!(words[1], "`a` and 1 more link are");
        assert_eq!(words[2], "`a` and 2 more links are");
    }
}
