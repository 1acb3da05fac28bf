//! `-o jsonpath=` and `-o custom-columns=`: paths into the document of `-o json`, as kubectl has
//! them.
//!
//! Of kubectl's templates the part that lists need: `{.items[*].id}`, `{range
//! .items[*]}{.name}{"\n"}{end}`; in a path names, `['name']`, `[N]`, `[-1]` and `[*]`. Source:
//! "JSONPath Support" of the Kubernetes reference.

use serde_json::Value;

use crate::{
    error::{Error, Result},
    globals::Format,
    output::Output,
    table::{self, Cell, Column},
};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    /// From the end where it is negative.
    Index(i64),
    All,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Path(Vec<Step>),
    /// What stands between `{range PATH}` and `{end}`, once for each value.
    Range(Vec<Step>, Vec<Self>),
}

/// Checks the text of a format that has one.
///
/// # Errors
/// It is no template, or no columns.
pub fn check(format: Format) -> Result<()> {
    match format {
        Format::JsonPath(template) => parse_template(template.text()).map(drop),
        Format::CustomColumns(spec) => parse_columns(spec.text()).map(drop),
        _ => Ok(()),
    }
}

/// Writes what the template `text` makes of `document`, which is that of `-o json`.
///
/// # Errors
/// No template, or a closed pipe.
pub fn write_template(output: &Output, document: &Value, text: &str) -> Result<()> {
    let pieces = parse_template(text)?;
    let mut out = String::new();
    render(&pieces, document, &mut out);
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    output.page(&out)
}

/// Writes a table of `TITLE:PATH` columns, a row for each of `items`.
///
/// # Errors
/// No columns, or a closed pipe.
pub fn write_columns(output: &Output, items: &[Value], text: &str) -> Result<()> {
    let columns = parse_columns(text)?;
    let head: Vec<Column> = columns
        .iter()
        .map(|(title, _)| Column::new(title, Column::KEPT).shrinking())
        .collect();
    let rows = items.iter().map(|value| {
        columns
            .iter()
            .map(|(_, path)| {
                let found: Vec<String> = find(path, value).into_iter().map(shown).collect();
                // As kubectl says of what is not there.
                Cell::new(if found.is_empty() {
                    "<none>".to_owned()
                } else {
                    found.join(",")
                })
            })
            .collect()
    });
    table::write(output, &head, rows)
}

fn render(pieces: &[Piece], value: &Value, out: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Path(path) => {
                let found: Vec<String> = find(path, value).into_iter().map(shown).collect();
                out.push_str(&found.join(" "));
            }
            Piece::Range(path, below) => {
                for each in find(path, value) {
                    render(below, each, out);
                }
            }
        }
    }
}

/// A text as it is, nothing for null, anything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn find<'a>(path: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in path {
        found = found
            .into_iter()
            .flat_map(|value| match (step, value) {
                (Step::Name(name), Value::Object(map)) => map.get(name).into_iter().collect(),
                (Step::Index(index), Value::Array(all)) => {
                    let at = usize::try_from(*index).ok().or_else(|| {
                        usize::try_from(index.unsigned_abs())
                            .ok()
                            .and_then(|back| all.len().checked_sub(back))
                    });
                    at.and_then(|at| all.get(at)).into_iter().collect()
                }
                (Step::All, Value::Array(all)) => all.iter().collect(),
                (Step::All, Value::Object(map)) => map.values().collect(),
                _ => Vec::new(),
            })
            .filter(|value| !value.is_null())
            .collect();
    }
    found
}

fn parse_columns(text: &str) -> Result<Vec<(String, Vec<Step>)>> {
    text.split(',')
        .map(|column| {
            let (title, path) = column
                .split_once(':')
                .filter(|(title, path)| !title.is_empty() && !path.is_empty())
                .ok_or_else(|| {
                    Error::usage(format!("`{column}` is no column")).hint(
                        "write custom-columns=TITLE:PATH,…, such as NAME:.name,TEAM:.tags.Team",
                    )
                })?;
            Ok((title.to_owned(), parse_path(path)?))
        })
        .collect()
}

fn parse_template(text: &str) -> Result<Vec<Piece>> {
    // A path without braces is one.
    if !text.contains('{') {
        return Ok(vec![Piece::Path(parse_path(text)?)]);
    }
    let mut rest = text;
    // The pieces of each `{range}` that is open, outside first, with the path of the range.
    let mut open: Vec<(Vec<Step>, Vec<Piece>)> = vec![(Vec::new(), Vec::new())];
    let bad = |why: String| {
        Error::usage(format!("the template `{text}` cannot be read"))
            .caused_by(why)
            .hint("write it as: jsonpath='{.items[*].id}'")
    };
    while !rest.is_empty() {
        let begin = rest.find('{').unwrap_or(rest.len());
        let mut pieces = Vec::new();
        if begin > 0 {
            pieces.push(Piece::Text(rest[..begin].to_owned()));
            rest = &rest[begin..];
        } else {
            let end = rest
                .find('}')
                .ok_or_else(|| bad("a brace is not closed".to_owned()))?;
            let inside = rest[1..end].trim();
            rest = &rest[end + 1..];
            if let Some(path) = inside.strip_prefix("range ") {
                open.push((parse_path(path.trim())?, Vec::new()));
                continue;
            }
            if inside == "end" {
                let Some((path, below)) = open.pop().filter(|_| !open.is_empty()) else {
                    return Err(bad("{end} has no {range}".to_owned()));
                };
                pieces.push(Piece::Range(path, below));
            } else if inside.starts_with('"') {
                // A literal has JSON's escapes.
                let literal = serde_json::from_str(inside)
                    .map_err(|_| bad(format!("{inside} is no text in quotes")))?;
                pieces.push(Piece::Text(literal));
            } else {
                pieces.push(Piece::Path(parse_path(inside)?));
            }
        }
        if let Some((_, into)) = open.last_mut() {
            into.extend(pieces);
        }
    }
    match <[_; 1]>::try_from(open) {
        Ok([(_, pieces)]) => Ok(pieces),
        Err(_) => Err(bad("{range} has no {end}".to_owned())),
    }
}

fn parse_path(text: &str) -> Result<Vec<Step>> {
    let bad = || {
        Error::usage(format!("`{text}` is no path"))
            .hint("write .name, .tags.Team, .tags['a b'], .items[0] or .items[*]")
    };
    let mut steps = Vec::new();
    let mut rest = text.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = match inside.strip_prefix('\'') {
                Some(quoted) => 1 + quoted.find("']").ok_or_else(bad)? + 1,
                None => inside.find(']').ok_or_else(bad)?,
            };
            let index = &inside[..end];
            steps.push(match index {
                "*" => Step::All,
                _ => match index
                    .strip_prefix('\'')
                    .and_then(|name| name.strip_suffix('\''))
                {
                    Some(name) => Step::Name(name.to_owned()),
                    None => Step::Index(index.parse().map_err(|_| bad())?),
                },
            });
            rest = &inside[end + 1..];
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            match &name[..end] {
                // `.` alone is the whole document.
                "" if steps.is_empty() && name.is_empty() => {}
                "" => return Err(bad()),
                "*" => steps.push(Step::All),
                word => steps.push(Step::Name(word.to_owned())),
            }
            rest = &name[end..];
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> String {
        let value = serde_json::json!({"items": [
            {"name": "a", "tags": {"x y": "1"}, "n": 2},
            {"name": "b", "tags": {}, "n": null},
        ]});
        let mut out = String::new();
        render(&parse_template(template).expect(template), &value, &mut out);
        out
    }

    #[test]
    fn templates_are_read_as_kubectl_reads_them() {
        for (template, out) in [
            ("{.items[*].name}", "a b"),
            (".items[0].name", "a"),
            ("{.items[-1].name}", "b"),
            ("{.items[*].tags['x y']}", "1"),
            ("{range .items[*]}{.name}={.n}{\"\\n\"}{end}", "a=2\nb=\n"),
            ("{$.items[0].tags}", "{\"x y\":\"1\"}"),
            ("x{.nothing}y", "xy"),
        ] {
            assert_eq!(rendered(template), out, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in [
            "{.a",
            "{range .a}",
            "{end}",
            "{.a[}",
            "{..a}",
            "{\"x}",
            "{.a[x]}",
        ] {
            assert!(parse_template(bad).is_err(), "{bad}");
        }
        for bad in ["", "A", "A:", ":.a", "A:.a,B"] {
            assert!(parse_columns(bad).is_err(), "{bad}");
        }
    }
}
