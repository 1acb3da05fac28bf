//! YAML in and out: the one module that names the YAML library.
//!
//! A file becomes a [`Node`] tree that remembers where each key and value was written, so that a
//! later error, after merging several files, still points at the right line. What YAML would
//! silently turn into something else stays visible: a plain `no` is a
//! [`Value::Bool`] whose [`SourceSpan::text`] is `no`.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use crate::{
    error::{Error, Result},
    hint,
    text::{Hint, Text, is_unprintable},
};

/// Files above this are refused before they are parsed, in bytes.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// A file that was read, kept for excerpts.
pub struct Source {
    /// Where it was found.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

/// Where something stands in a file.
#[derive(Clone, Debug)]
pub struct SourceSpan {
    /// The file.
    pub source: Arc<Source>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Offset of its first byte.
    start: usize,
    /// Its length in bytes; 0 where the parser does not tell.
    len: usize,
}

impl SourceSpan {
    /// The start of a file.
    pub(crate) fn start_of(source: &Arc<Source>) -> Self {
        Self {
            source: source.clone(),
            line: 1,
            column: 1,
            start: 0,
            len: 0,
        }
    }

    /// Whether it is the same text of the same file. A map begins where its first key does, and
    /// differs from it in its length.
    fn is_same(&self, other: &Self) -> bool {
        (self.start, self.len, self.line, self.column)
            == (other.start, other.len, other.line, other.column)
            && self.source.path == other.source.path
    }

    /// The text as it was written, quotes included.
    pub fn text(&self) -> &str {
        self.source
            .text
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
            .trim_end()
    }

    /// The line it stands on.
    pub fn line_text(&self) -> &str {
        self.source
            .text
            .lines()
            .nth(self.line.saturating_sub(1))
            .unwrap_or_default()
    }

    /// How many characters of its line it covers, at least one.
    pub fn width(&self) -> usize {
        self.text()
            .lines()
            .next()
            .map_or(1, |line| line.chars().count())
            .max(1)
    }

    fn new(source: &Arc<Source>, location: serde_saphyr::Location) -> Self {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let span = location.span();
        Self {
            source: source.clone(),
            line: number(location.line()).max(1),
            column: number(location.column()).max(1),
            start: span.byte_offset().map_or(0, number),
            len: span.byte_len().map_or(0, number),
        }
    }
}

impl fmt::Display for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            self.source.path.display(),
            self.line,
            self.column
        )
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written; what an alias (`*name`) means stands at its anchor.
    pub place: SourceSpan,
}

/// A key and where it was written.
#[derive(Clone, Debug)]
pub struct Key {
    /// What it says.
    pub text: String,
    /// Where it was written.
    pub place: SourceSpan,
}

/// What YAML took a value for.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true`, `no`, `on` and the like, unquoted.
    Bool(bool),
    /// A whole number, unquoted.
    Int(i128),
    /// Any other number, unquoted.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order it was written.
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// The value under `key`, if this is a map and has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(name, _)| name.text == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The key `key` as it was written, if this is a map and has it.
    pub fn key(&self, key: &str) -> Option<&Key> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .map(|(name, _)| name)
                .find(|name| name.text == key),
            _ => None,
        }
    }

    /// Takes the entry or the item that was written at `place` out of it, and gives its path: keys,
    /// and the numbers of items. `None` where there is none.
    pub fn remove(&mut self, place: &SourceSpan) -> Option<Vec<String>> {
        let deeper = |name: String, node: &mut Self| {
            let mut path = node.remove(place)?;
            path.insert(0, name);
            Some(path)
        };
        match &mut self.value {
            Value::Map(entries) => {
                let found = entries
                    .iter()
                    .position(|(key, node)| key.place.is_same(place) || node.place.is_same(place));
                match found {
                    Some(at) => Some(vec![entries.remove(at).0.text]),
                    None => entries
                        .iter_mut()
                        .find_map(|(key, node)| deeper(key.text.clone(), node)),
                }
            }
            Value::List(items) => match items.iter().position(|item| item.place.is_same(place)) {
                Some(at) => {
                    items.remove(at);
                    Some(vec![at.to_string()])
                }
                None => items
                    .iter_mut()
                    .enumerate()
                    .find_map(|(at, item)| deeper(at.to_string(), item)),
            },
            _ => None,
        }
    }

    /// The value under a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Where, if it is known.
    pub place: Option<SourceSpan>,
    /// What, in words that need no place.
    pub message: Text,
    /// What to write instead.
    pub hint: Option<Hint>,
}

impl Problem {
    /// A problem at `place`.
    pub fn at(place: &SourceSpan, message: impl Into<Text>) -> Self {
        Self {
            place: Some(place.clone()),
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Reads one file: at most [`MAX_BYTES`], UTF-8.
///
/// # Errors
/// The file cannot be read, is too large, or is not text.
pub fn read(path: &Path) -> Result<Arc<Source>> {
    use std::io::Read as _;
    let failed =
        |why: String| Error::usage(format!("cannot read `{}`", path.display())).caused_by(why);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        // One byte more than allowed tells "too large" without reading a device to its end.
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed("it is larger than 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        failed(format!(
            "it is not UTF-8 from byte {} on",
            error.utf8_error().valid_up_to()
        ))
    })?;
    Ok(Arc::new(Source {
        path: path.to_owned(),
        text,
    }))
}

/// Parses a file of one document. An empty file is an empty map.
///
/// # Errors
/// No YAML, a key twice in one map, several documents, too deep, or aliases that expand to too
/// much.
pub fn parse(source: &Arc<Source>) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_aliases: 200,
            max_anchors: 100,
            max_nodes: 50_000,
            max_events: 100_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        with_snippet: false,
        reject_unsupported_tags: true,
    };
    let blank = source
        .text
        .lines()
        .all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'));
    if blank {
        return Ok(Node {
            value: Value::Map(Vec::new()),
            place: SourceSpan::start_of(source),
        });
    }
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(&source.text, options)
        .map_err(|error| explain(source, &error))
        .and_then(|raw| node(source, raw))
}

/// Writes `value` as one document, every character of it printable.
///
/// # Errors
/// The value cannot be written as YAML, such as a map with maps for keys.
pub fn to_string(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_saphyr::to_string(value).map_err(Error::unforeseen)?;
    if !text.contains(is_left) {
        return Ok(text);
    }
    // The library writes some of these characters as they are, in forms of text that know no
    // escapes. Texts that hold one are put between double quotes, which do, and then nothing else
    // of the document can hold one.
    let value = serde_json::to_value(value).map_err(Error::unforeseen)?;
    let text = serde_saphyr::to_string(&Quoted(&value)).map_err(Error::unforeseen)?;
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match u32::from(c) {
            _ if !is_left(c) => out.push(c),
            code @ 0..=0xffff => {
                let _ = write!(out, "\\u{code:04X}");
            }
            code => {
                let _ = write!(out, "\\U{code:08X}");
            }
        }
    }
    Ok(out)
}

/// A character that must not stand in a document as it is.
fn is_left(c: char) -> bool {
    c != '\n' && is_unprintable(c)
}

/// A value whose texts are between double quotes where they hold a character that [`is_left`].
struct Quoted<'a>(&'a serde_json::Value);

impl serde::Serialize for Quoted<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            serde_json::Value::String(text) => QuotedText(text).serialize(serializer),
            serde_json::Value::Array(values) => serializer.collect_seq(values.iter().map(Quoted)),
            serde_json::Value::Object(entries) => serializer.collect_map(
                entries
                    .iter()
                    .map(|(key, value)| (QuotedText(key), Quoted(value))),
            ),
            other => other.serialize(serializer),
        }
    }
}

/// A text of a [`Quoted`] value.
struct QuotedText<'a>(&'a str);

impl serde::Serialize for QuotedText<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.contains(is_left) {
            serde_saphyr::DoubleQuoted(self.0).serialize(serializer)
        } else {
            serializer.serialize_str(self.0)
        }
    }
}

/// What the library says of a value when it is asked for no type in particular.
enum Raw {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn node(source: &Arc<Source>, raw: Spanned<Raw>) -> Result<Node, Problem> {
    let mut place = SourceSpan::new(source, raw.defined);
    let value = match raw.value {
        Raw::Null => Value::Null,
        // One letter is a truth value in the oldest schema only, and a likely name.
        Raw::Bool(_) if place.text().len() == 1 => Value::Text(place.text().to_owned()),
        Raw::Bool(value) => Value::Bool(value),
        Raw::Int(value) => Value::Int(value),
        Raw::Float(value) => Value::Float(value),
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| node(source, item))
                .collect::<Result<_, _>>()?,
        ),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let key = node(source, key)?;
                    let text = match key.value {
                        Value::Text(text) => text,
                        other => return Err(no_text(&key.place, &other, "a key")),
                    };
                    let place = key.place;
                    Ok((Key { text, place }, node(source, value)?))
                })
                .collect::<Result<_, _>>()?,
        ),
    };
    if matches!(value, Value::List(_) | Value::Map(_)) {
        // The excerpt of a whole block is its first line.
        place.len = place.len.min(place.line_text().len());
    }
    Ok(Node { value, place })
}

/// A value stands where `wanted` (such as "text") should: what it is, and how to make it text.
pub fn no_text(place: &SourceSpan, value: &Value, wanted: &str) -> Problem {
    let raw = place.text();
    let quote = |kind: &str| {
        Problem::at(place, format!("expected {wanted}, found {kind} `{raw}`"))
            .hint(hint!("put it in quotes: \"{}\"", Hint::document(raw)))
    };
    match value {
        Value::Bool(_) => quote("the truth value"),
        Value::Int(_) | Value::Float(_) => quote("the number"),
        other => Problem::at(place, format!("expected {wanted}, found {}", other.kind())),
    }
}

impl Value {
    /// What it is, with an article.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// The library's error in our words where it is one that people meet, else in its own.
fn explain(source: &Arc<Source>, error: &serde_saphyr::Error) -> Problem {
    use serde_saphyr::Error as E;
    let error = error.without_snippet();
    let place = error.location().map_or_else(
        || SourceSpan::start_of(source),
        |at| SourceSpan::new(source, at),
    );
    match error {
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_else(|| place.text());
            Problem::at(&place, format!("the key `{key}` is here a second time"))
                .hint("keep one of the two; YAML alone would drop one without a word")
        }
        E::MultipleDocuments { .. } => Problem::at(&place, "a second document begins here")
            .hint("one file is one document: remove the `---` or make it another file"),
        E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasReplayCounterOverflow { .. } => {
            Problem::at(&place, "aliases (`*name`) expand to too much")
        }
        E::Budget { breach, .. } => {
            Problem::at(&place, format!("too much for one file: {breach:?}"))
        }
        E::AliasError { error, .. } => explain(source, error),
        other => {
            let text = other.to_string();
            // The place is said by us, once.
            let text = text
                .split(" at line ")
                .next()
                .unwrap_or(&text)
                .trim_end_matches([',', ' ']);
            Problem::at(&place, text.to_owned())
        }
    }
}
