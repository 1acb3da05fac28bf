//! Single values of a profile that are more than text: each is checked where it is written and
//! comes out typed.

use std::{fmt, str::FromStr, time::Duration};

use ops_ui::globals::parse_duration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::target::Target;

/// What a text has to be; gives the type its serde and JSON Schema forms over
/// `FromStr` and `Display`.
macro_rules! written_as_text {
    ($type:ty, $what:literal, $schema:tt) => {
        written_as_text!($type, $what, $schema, no_number);
    };
    ($type:ty, $what:literal, $schema:tt, $number:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    written_as_text!(@$number $type);
                }
                written_as_text!(@call $number deserializer)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
    (@no_number $type:ty) => {};
    (@or_number $type:ty) => {
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
            number.to_string().parse().map_err(E::custom)
        }
    };
    // A type that wants text says so, and so the number is refused with the advice to quote it.
    (@call no_number $deserializer:ident) => { $deserializer.deserialize_str(Visitor) };
    (@call or_number $deserializer:ident) => { $deserializer.deserialize_any(Visitor) };
}

/// A pattern with `*` (any characters) and `?` (one character), as EC2's own filters have them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(String);

impl Glob {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no `*` and no `?`.
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether `text` matches as a whole.
    pub fn matches(&self, text: &str) -> bool {
        wildmatch::WildMatch::new(&self.0).matches(text)
    }

    /// As [`Self::matches`], whatever the case of letters.
    pub fn matches_any_case(&self, text: &str) -> bool {
        wildmatch::WildMatch::new_case_insensitive(&self.0).matches(text)
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty pattern matches nothing; write `*` for anything".to_owned());
        }
        if let Some(c) = text
            .chars()
            .find(|c| "[]{}\\".contains(*c) || c.is_control())
        {
            return Err(format!(
                "bad glob `{}`: `{}` has no meaning in one, only `*` and `?` have",
                text.escape_debug(),
                c.escape_debug()
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(Glob, "a pattern with `*` and `?`", {
    "type": "string", "minLength": 1, "pattern": "^[^\\[\\]{}\\\\]+$"
});

/// An AWS account: twelve digits, which YAML would take for a number (and an octal one, with a zero
/// in front) if they are not quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account(String);

impl Account {
    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if digits == 12 && text.len() == 12 {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{}` is no AWS account: an account has twelve digits",
                text.escape_debug()
            ))
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(Account, "an account of twelve digits in quotes", {
    "type": "string", "pattern": "^[0-9]{12}$"
});

/// A length of time, such as `30s`, `15m` or `1h`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1000) => write!(f, "{}s", millis / 1000),
            _ => write!(f, "{millis}ms"),
        }
    }
}

written_as_text!(Time, "a time such as 30s, 15m or 1h", {
    "type": ["string", "integer"], "pattern": "^([0-9]+(ms|s|m|h|d))+$|^[0-9]+$", "minimum": 0
}, or_number);

/// A number of bytes: `500MB` (powers of ten), `64MiB` (powers of two), or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let unit = match text[end..].trim() {
            "" => Some(1),
            unit => SIZE_UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, bytes)| *bytes),
        };
        text[..end]
            .parse::<u64>()
            .ok()
            .zip(unit)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| format!("`{}` is no size; write 500MB or 64MiB", text.escape_debug()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .iter()
            .find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) if *bytes > 1 => write!(f, "{}{name}", self.0 / bytes),
            _ => write!(f, "{}", self.0),
        }
    }
}

written_as_text!(Size, "a size such as 500MB or 64MiB", {
    "type": ["string", "integer"], "pattern": "^[0-9]+ *([KMGTkmgt]?[Ii]?[Bb])?$", "minimum": 0
}, or_number);

/// Where a forward leads: `PORT` of the server itself, or `HOST:PORT` as seen from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The host as the server resolves it; `None` is the server itself.
    pub host: Option<String>,
    /// The port, from 1; in a loaded profile never 0.
    pub port: u16,
}

impl Destination {
    /// Whether it was left out, which only a part of a profile may do.
    pub fn is_missing(&self) -> bool {
        self.port == 0
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is no destination; write PORT or HOST:PORT, ports from 1 to 65535",
                text.escape_debug()
            )
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, text),
        };
        let port = port_of(port).filter(|port| *port > 0).ok_or_else(bad)?;
        let host = match host {
            None => None,
            Some(host) => Some(host_of(host).ok_or_else(bad)?),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

written_as_text!(Destination, "PORT or HOST:PORT", {
    "type": ["string", "integer"], "minimum": 1, "maximum": 65535
}, or_number);

/// Where a forward listens: `PORT` on the loopback address, or `ADDRESS:PORT`; port 0 is any free
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// The address or name to bind; `None` is loopback.
    pub address: Option<String>,
    /// The port; 0 is any free one.
    pub port: u16,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is nothing to listen on; write PORT or ADDRESS:PORT, where port 0 is any free one",
                text.escape_debug()
            )
        };
        let (address, port) = match text.rsplit_once(':') {
            Some((address, port)) => (Some(address), port),
            None => (None, text),
        };
        let port = port_of(port).ok_or_else(bad)?;
        let address = match address {
            None => None,
            Some("*") => Some("*".to_owned()),
            Some(address) => Some(host_of(address).ok_or_else(bad)?),
        };
        Ok(Self { address, port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) if address.contains(':') => write!(f, "[{address}]:{}", self.port),
            Some(address) => write!(f, "{address}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

written_as_text!(Listen, "PORT or ADDRESS:PORT", {
    "type": ["string", "integer"], "minimum": 0, "maximum": 65535
}, or_number);

/// A `LocalForward` of ssh: `[ADDRESS:]PORT:HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalForward {
    /// Where ssh listens.
    pub listen: Listen,
    /// Where it leads; the host is always given.
    pub to: Destination,
}

impl FromStr for LocalForward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is no local forward; write PORT:HOST:PORT or ADDRESS:PORT:HOST:PORT",
                text.escape_debug()
            )
        };
        let (head, port) = text.rsplit_once(':').ok_or_else(bad)?;
        // An IPv6 host is in brackets, so the last colon outside of them parts the two sides.
        let cut = if head.ends_with(']') {
            head.rfind(":[").ok_or_else(bad)?
        } else {
            head.rfind(':').ok_or_else(bad)?
        };
        let listen = head[..cut].parse().map_err(|_| bad())?;
        let to: Destination = format!("{}:{port}", &head[cut + 1..])
            .parse()
            .map_err(|_| bad())?;
        Ok(Self { listen, to })
    }
}

impl fmt::Display for LocalForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.listen, self.to)
    }
}

written_as_text!(LocalForward, "[ADDRESS:]PORT:HOST:PORT", {
    "type": "string", "pattern": "^(.*:)?[0-9]+:.+:[0-9]+$"
});

fn port_of(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A host name or an address; IPv6 in brackets, which are taken off.
fn host_of(text: &str) -> Option<String> {
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner
            .parse::<std::net::Ipv6Addr>()
            .ok()
            .map(|ip| ip.to_string());
    }
    let fits = !text.is_empty()
        && text.len() <= 253
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    fits.then(|| text.to_owned())
}

/// A regular expression, compiled.
#[derive(Clone, Debug)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches somewhere in `text`; anchor it with `^` and `$` for the whole.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(text)
            .size_limit(1 << 20)
            .build()
            .map(Self)
            .map_err(|error| {
                let last = error.to_string();
                let reason = last
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                format!(
                    "`{}` is no regular expression: {reason}",
                    text.escape_debug()
                )
            })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

written_as_text!(Pattern, "a regular expression", { "type": "string", "format": "regex" });

/// What leads the escapes of a shell session, as `~` does in ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// This character, after Enter.
    Char(char),
    /// No escapes.
    Off,
}

impl Default for Escape {
    fn default() -> Self {
        Self::Char('~')
    }
}

impl FromStr for Escape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            _ if text == "none" => Ok(Self::Off),
            (Some(c), None) if c.is_ascii_graphic() => Ok(Self::Char(c)),
            _ => Err(format!(
                "`{}` is no escape character; write one visible character, or none",
                text.escape_debug()
            )),
        }
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(c) => write!(f, "{c}"),
            Self::Off => f.write_str("none"),
        }
    }
}

written_as_text!(Escape, "one character or `none`", {
    "type": "string", "pattern": "^([!-~]|none)$"
});

/// The words of an alias, split as sh would split them; nothing else of sh applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = shell_words::split(text)
            .map_err(|_| format!("a quote is not closed in `{}`", text.escape_debug()))?;
        match words.first() {
            None => Err("an alias without words does nothing".to_owned()),
            Some(word) if word == "ops" => {
                Err("leave `ops` out: an alias begins with a verb of ops".to_owned())
            }
            Some(_) => Ok(Self(words)),
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell_words::join(&self.0))
    }
}

written_as_text!(Words, "the words of an ops command line", { "type": "string", "minLength": 1 });

/// A server as a profile names it: the text of a [`Target`], checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetText(Target);

impl TargetText {
    /// The target.
    pub fn target(&self) -> &Target {
        &self.0
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for TargetText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error: crate::target::TargetError| error.to_string())
    }
}

impl fmt::Display for TargetText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

written_as_text!(TargetText, "a name, an id or a host alias", { "type": "string", "minLength": 1 });

/// A user name of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = !text.is_empty()
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-\\$+".contains(&b));
        fits.then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("`{}` is no user name", text.escape_debug()))
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(UserName, "a user name", { "type": "string", "pattern": "^[A-Za-z0-9._\\\\$+][A-Za-z0-9._\\\\$+-]*$" });

/// A region by its form, such as `eu-west-1`; whether it exists is for AWS to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region(String);

impl Region {
    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // It becomes part of a host name.
        let fits = text.len() >= 5
            && text.contains('-')
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.ends_with(|c: char| c.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            return Ok(Self(text.to_owned()));
        }
        let shown = text.escape_debug();
        let zone = text
            .strip_suffix(|c: char| c.is_ascii_lowercase())
            .filter(|region| region.parse::<Self>().is_ok());
        Err(match zone {
            Some(region) => format!("`{shown}` is an availability zone; its region is `{region}`"),
            None => format!("`{shown}` is no region; one looks like eu-west-1"),
        })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(Region, "a region such as eu-west-1", {
    "type": "string", "pattern": "^[a-z][a-z0-9-]*-[0-9]+$"
});

/// The address of a service's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl(url::Url);

impl EndpointUrl {
    /// The address.
    pub fn url(&self) -> &url::Url {
        &self.0
    }

    /// The address as text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl FromStr for EndpointUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        url::Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
            .filter(|url| url.username().is_empty() && url.password().is_none())
            .map(Self)
            .ok_or_else(|| {
                format!("`{}` is no endpoint; one looks like https://vpce-0123.ssm.eu-west-1.vpce.amazonaws.com", text.escape_debug())
            })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

written_as_text!(EndpointUrl, "an https address", { "type": "string", "pattern": "^https?://" });

/// Whether a key says nothing, so that it need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
