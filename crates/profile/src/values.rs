//! Single values of a profile that are more than text: each is checked where it is written and
//! comes out typed.

mod amounts;
mod patterns;
mod ports;
mod written;

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use self::written::written_as_text;
pub use self::{
    amounts::{Size, Time, TimeLimit},
    patterns::{Glob, Pattern},
    ports::{Destination, Listen, LocalForward},
};
use crate::target::Target;

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
        let words: Vec<_> = self.0.iter().map(|word| written(word)).collect();
        f.write_str(&words.join(" "))
    }
}

/// A word of an alias as people write it: where an argument goes is `$1` there, without the quotes
/// that a shell would want. No shell reads it, and split it is the same word.
fn written(word: &str) -> Cow<'_, str> {
    let others = word.replace('$', "");
    let needs_quotes = others.is_empty() || shell_words::quote(&others) != others;
    if needs_quotes {
        shell_words::quote(word)
    } else {
        Cow::Borrowed(word)
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
