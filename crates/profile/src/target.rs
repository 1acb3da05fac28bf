//! What the user typed for a server.

use std::{fmt, str::FromStr};

/// A server as it was typed; `Context::resolve` finds out what it means.
///
/// `[user@]` then an id (`i-…`, `mi-…`), `tag:Key=Value`, or a word: a host alias of the profile, a Name (with `*` and `?` a glob), a private IP
/// address or a private DNS name, tried in this order; `web-1[2]` picks the second of several, oldest launch first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The user before `@`.
    pub user: Option<String>,
    /// What selects the server.
    pub selector: Selector,
    /// The `N` of `web-1[N]`, 1-based.
    pub index: Option<usize>,
    text: String,
}

/// What selects a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// An instance id, `i-…` or `mi-…`.
    Id(String),
    /// `tag:Key=Value`; the value may be a glob.
    Tag {
        /// The tag's key.
        key: String,
        /// The tag's value or glob.
        value: String,
    },
    /// A host alias, Name, IP address or DNS name without `*` and `?`.
    Word(String),
    /// A glob over Name.
    Glob(String),
}

impl Target {
    /// The text as it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can mean several servers by its form alone.
    pub fn is_plural(&self) -> bool {
        self.index.is_none() && matches!(self.selector, Selector::Glob(_) | Selector::Tag { .. })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(String);

/// Whether `text` is an instance id by its form: `i-` or `mi-` and 8 to 17 hexadecimal digits.
pub fn is_instance_id(text: &str) -> bool {
    let Some(digits) = text.strip_prefix("i-").or_else(|| text.strip_prefix("mi-")) else {
        return false;
    };
    matches!(digits.len(), 8..=17)
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (user, rest) = match text.split_once('@') {
            Some((user, rest)) if !text.starts_with("tag:") => (Some(user), rest),
            _ => (None, text),
        };
        if let Some(user) = user
            && (user.is_empty()
                || user.starts_with('-')
                || !user
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-\\$+".contains(&b)))
        {
            return Err(TargetError(format!(
                "`{}` is no user name",
                user.escape_debug()
            )));
        }
        let (rest, index) = match rest
            .strip_suffix(']')
            .and_then(|rest| rest.rsplit_once('['))
        {
            Some((head, number))
                if !head.is_empty()
                    && !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit()) =>
            {
                let index = number.parse().ok().filter(|&index: &usize| index > 0);
                (
                    head,
                    Some(index.ok_or_else(|| {
                        TargetError(format!("`[{number}]` picks nothing; the first is `[1]`"))
                    })?),
                )
            }
            _ => (rest, None),
        };
        if rest.is_empty() {
            return Err(TargetError("an empty target names no server".to_owned()));
        }
        let selector = if is_instance_id(rest) {
            Selector::Id(rest.to_owned())
        } else if let Some(tag) = rest.strip_prefix("tag:") {
            let (key, value) = tag
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| {
                    TargetError(format!(
                        "`{}` lacks a value; write tag:Key=Value",
                        rest.escape_debug()
                    ))
                })?;
            Selector::Tag {
                key: key.to_owned(),
                value: value.to_owned(),
            }
        } else if rest.contains(['*', '?']) {
            Selector::Glob(rest.to_owned())
        } else {
            Selector::Word(rest.to_owned())
        };
        Ok(Self {
            user: user.map(str::to_owned),
            selector,
            index,
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Target {
        text.parse().expect(text)
    }

    #[test]
    fn each_form_of_target_is_told_apart() {
        assert_eq!(
            parse("i-0a1b2c3d4e5f60718").selector,
            Selector::Id("i-0a1b2c3d4e5f60718".into())
        );
        assert_eq!(
            parse("mi-0a1b2c3d4e5f60718").selector,
            Selector::Id("mi-0a1b2c3d4e5f60718".into())
        );
        assert_eq!(parse("i-team").selector, Selector::Word("i-team".into()));
        assert_eq!(parse("web-*").selector, Selector::Glob("web-*".into()));
        assert_eq!(
            parse("tag:Role=db@home").selector,
            Selector::Tag {
                key: "Role".into(),
                value: "db@home".into()
            }
        );
        let target = parse("deploy@web-1[2]");
        assert_eq!(
            (target.user.as_deref(), target.index),
            (Some("deploy"), Some(2))
        );
        assert_eq!(target.selector, Selector::Word("web-1".into()));
    }

    #[test]
    fn what_cannot_be_a_target_is_refused_before_anything_is_asked() {
        for bad in [
            "",
            "@web-1",
            "-oProxyCommand=x@web-1",
            "tag:Role",
            "tag:=x",
            "web-1[0]",
            "root@",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
