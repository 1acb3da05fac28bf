//! The options that every verb takes.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use clap::ValueEnum;

/// The text of a format that has one. Typed once, and kept until the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template(&'static str);

impl Template {
    fn new(text: &str) -> Self {
        Self(Box::leak(text.to_owned().into_boxed_str()))
    }

    /// The text.
    pub fn text(self) -> &'static str {
        self.0
    }
}

/// Form of results on stdout.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    ValueEnum,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Aligned columns.
    Table,
    /// Aligned columns, more of them.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// One target per line, which every command accepts.
    Name,
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values, a header first.
    Csv,
    /// `jsonpath=TEMPLATE`: what paths into the document find.
    #[value(skip)]
    #[serde(skip)]
    JsonPath(Template),
    /// `custom-columns=TITLE:PATH,…`: a table of what paths find.
    #[value(skip)]
    #[serde(skip)]
    CustomColumns(Template),
}

impl Format {
    /// Whether every verb has it that has results at all.
    pub fn is_general(self) -> bool {
        matches!(
            self,
            Self::Table | Self::Wide | Self::Json | Self::Yaml | Self::Name
        )
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Name => "name",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::JsonPath(_) => "jsonpath",
            Self::CustomColumns(_) => "custom-columns",
        }
    }
}

/// Reads `-o`: the names of formats, and two that have a text of their own.
#[derive(Clone)]
struct FormatParser;

impl FormatParser {
    /// `error` with all forms, those with a text too.
    fn with_every_form(&self, mut error: clap::Error) -> clap::Error {
        use clap::{builder::TypedValueParser as _, error::ContextKind, error::ContextValue};
        let forms = self.possible_values().into_iter().flatten();
        let names = forms.map(|form| form.get_name().to_owned()).collect();
        error.insert(ContextKind::ValidValue, ContextValue::Strings(names));
        error
    }
}

impl clap::builder::TypedValueParser for FormatParser {
    type Value = Format;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Format, clap::Error> {
        let with_text = value.to_str().and_then(|text| text.split_once('='));
        match with_text {
            Some(("jsonpath", text)) if !text.is_empty() => {
                Ok(Format::JsonPath(Template::new(text)))
            }
            Some(("custom-columns", text)) if !text.is_empty() => {
                Ok(Format::CustomColumns(Template::new(text)))
            }
            _ => clap::builder::EnumValueParser::<Format>::new()
                .parse_ref(command, arg, value)
                .map_err(|error| self.with_every_form(error)),
        }
    }

    fn possible_values(
        &self,
    ) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        let with_text = ["jsonpath=", "custom-columns="].map(clap::builder::PossibleValue::new);
        let plain = Format::value_variants().iter();
        let plain = plain.filter_map(ValueEnum::to_possible_value);
        Some(Box::new(plain.chain(with_text)))
    }
}

/// When to colour.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    ValueEnum,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Form of errors on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ErrorFormat {
    /// `error:`, `why:` and `hint:` lines.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// The global options as typed or set by `OPS_*`; what a profile or a file adds is in
/// `ops_profile`.
///
/// clap fills each from its flag or its `OPS_*` variable; the settings there remember which.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Team profile, or AWS profile if no team profile has that name
    #[arg(short = 'p', long, env = "OPS_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Folders of team profiles, before the user's and the system's; a path list
    #[arg(long, env = "OPS_PROFILES_DIR", value_name = "DIRS")]
    pub profiles_dir: Option<OsString>,
    /// AWS profile of the shared configuration files
    #[arg(long, env = "OPS_AWS_PROFILE", value_name = "NAME")]
    pub aws_profile: Option<String>,
    /// AWS region; repeat it for lists over several
    #[arg(long, env = "OPS_REGION", value_name = "REGION", value_delimiter = ',')]
    pub region: Vec<String>,
    /// Use the embedded stand-in for AWS
    #[arg(long, env = "OPS_SANDBOX", value_parser = clap::builder::FalseyValueParser::new())]
    pub sandbox: bool,
    /// Take a name from the cache of completion, up to ten minutes old
    #[arg(long, env = "OPS_CACHED", value_parser = clap::builder::FalseyValueParser::new())]
    pub cached: bool,
    /// Form of the output: table, wide, json, yaml, name; for lists jsonl, csv, jsonpath=,
    /// custom-columns= too
    #[arg(
        short,
        long,
        env = "OPS_OUTPUT",
        value_name = "FORMAT",
        value_parser = FormatParser,
        hide_possible_values = true
    )]
    pub output: Option<Format>,
    /// Leave the header line out of tables
    #[arg(long, env = "OPS_NO_HEADERS", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_headers: bool,
    /// Show long results at once, without a pager
    #[arg(long, env = "OPS_NO_PAGER", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_pager: bool,
    /// Colour: auto, always, never
    #[arg(
        long,
        env = "OPS_COLOR",
        value_name = "WHEN",
        value_enum,
        hide_possible_values = true
    )]
    pub color: Option<ColorChoice>,
    /// Say more; twice for the protocol's own log
    #[arg(short, long, env = "OPS_VERBOSE", action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say less: errors only
    #[arg(short, long, env = "OPS_QUIET", value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
    /// Longest time until a session is ready, such as 30s or 2m
    #[arg(long, env = "OPS_TIMEOUT", value_name = "TIME", value_parser = parse_time_limit, allow_negative_numbers = true)]
    pub timeout: Option<Duration>,
    /// Answer yes to the questions of a guard
    #[arg(long, env = "OPS_YES", value_parser = clap::builder::FalseyValueParser::new())]
    pub yes: bool,
    /// Never ask; fail and name the flag that would answer
    #[arg(long, env = "OPS_NO_INPUT", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_input: bool,
    /// Form of errors: text, json
    #[arg(
        long,
        env = "OPS_ERROR_FORMAT",
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true
    )]
    pub error_format: Option<ErrorFormat>,
    /// Where each value came from, by the name of its field.
    #[arg(skip)]
    pub sources: BTreeMap<&'static str, Source>,
}

/// Where a global option got its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line; the flag as it is spelt.
    Flag(String),
    /// This variable of the environment.
    Variable(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "environment {name}"),
        }
    }
}

impl Globals {
    /// The form of output that the command line itself names. One that a variable names is meant
    /// for whatever has that form.
    pub fn typed_output(&self) -> Option<Format> {
        let is_typed = matches!(self.source("output"), Some(Source::Flag(_)));
        self.output.filter(|_| is_typed)
    }

    /// The global option `name` was set on the command line or by its `OPS_*` variable.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.get(name)
    }
}

/// As [`parse_duration`], for a time within which something has to be done or to have happened.
///
/// # Errors
/// As [`parse_duration`]; a time of nothing, within which nothing can be done.
pub fn parse_time_limit(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => {
            Err("no time at all is too little; write 30s, 2m, 1h or 500ms".to_owned())
        }
        limit => Ok(limit),
    }
}

/// Parses `30s`, `2m`, `1h`, `500ms`, `1m30s`, or a bare number of seconds.
///
/// # Errors
/// Says which text is no duration, and what one looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time; write 30s, 2m, 1h or 500ms");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let part = match &rest[digits..unit_end] {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            "d" => number.checked_mul(86_400).map(Duration::from_secs),
            _ => None,
        };
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_takes_units_and_their_sum() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "s", "1x", "1m3", "-1s", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
