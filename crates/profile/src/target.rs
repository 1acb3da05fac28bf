//! What the user typed for a server.

use std::{fmt, str::FromStr};

/// A server as it was typed; `Context::resolve` finds out what it means.
///
/// `[user@]` then `-` for the server that was used last, an id (`i-…`, `mi-…`) or the ARN of an
/// instance, `tag:Key=Value`, or a word: a host alias of the profile, a Name (with `*` and `?` a
/// glob), a private IP address or a private DNS name, tried in this order; `web-1[2]` picks the
/// second of several, oldest launch first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The user before `@`.
    pub user: Option<String>,
    /// What selects the server.
    pub selector: Selector,
    /// The `N` of `web-1[N]`, 1-based.
    pub index: Option<usize>,
    /// The region that an ARN names.
    pub region: Option<String>,
    text: String,
    /// `text` as a Name, where it was taken apart: `bracket[1]` and `user@name` can be names too.
    whole: Option<Selector>,
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
    /// `-`: the server that was used last.
    Last,
}

impl Target {
    /// The server `id` in `region`, for `user`.
    pub fn of_id(user: Option<String>, id: String, region: String) -> Self {
        Self {
            user,
            text: id.clone(),
            selector: Selector::Id(id),
            index: None,
            region: Some(region),
            whole: None,
        }
    }

    /// The text as it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// All that was typed as the name of a server, where it has been taken apart into a user, a
    /// name and an index.
    pub fn whole(&self) -> Option<&Selector> {
        self.whole.as_ref()
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

/// The id that `text` stands for in any case of letters; blanks around it come with copying.
fn id_of(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    is_instance_id(&id).then_some(id)
}

/// Region and id of the ARN of an instance (`arn:aws:ec2:REGION:ACCOUNT:instance/ID`) or a managed
/// node, in any partition.
fn of_arn(text: &str) -> Option<(&str, String)> {
    let mut parts = text.trim().split(':');
    if parts.next()? != "arn" || !parts.next()?.starts_with("aws") {
        return None;
    }
    let (service, region, _account) = (parts.next()?, parts.next()?, parts.next()?);
    let id = match (service, parts.next()?.split_once('/')?) {
        ("ec2", ("instance", id)) | ("ssm", ("managed-instance", id)) => id_of(id)?,
        _ => return None,
    };
    (parts.next().is_none() && !region.is_empty()).then_some((region, id))
}

/// What a text without user and index selects.
fn selector(text: &str) -> Selector {
    if let Some(id) = id_of(text) {
        Selector::Id(id)
    } else if text.contains(['*', '?']) {
        Selector::Glob(text.to_owned())
    } else if text == "-" {
        Selector::Last
    } else {
        Selector::Word(text.to_owned())
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some((region, id)) = of_arn(text) {
            return Ok(Self {
                user: None,
                selector: Selector::Id(id),
                index: None,
                region: Some(region.to_owned()),
                text: text.to_owned(),
                whole: None,
            });
        }
        let (user, rest) = match text.split_once('@') {
            Some((user, rest)) if !text.starts_with("tag:") => (Some(user), rest),
            _ => (None, text),
        };
        // `@-` is `-` where a word must not begin with a dash.
        let user = user.filter(|user| !(user.is_empty() && rest == "-"));
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
        let selector = if let Some(tag) = rest.strip_prefix("tag:") {
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
        } else {
            selector(rest)
        };
        let is_apart = (user.is_some() || index.is_some())
            && !matches!(
                selector,
                Selector::Id(_) | Selector::Tag { .. } | Selector::Last
            );
        Ok(Self {
            whole: is_apart.then(|| self::selector(text)),
            user: user.map(str::to_owned),
            selector,
            index,
            region: None,
            text: text.trim_start_matches('@').to_owned(),
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
    fn an_id_is_known_in_capitals_with_blanks_and_in_an_arn() {
        let id = || Selector::Id("i-0a1b2c3d4e5f60718".into());
        for text in [
            "I-0A1B2C3D4E5F60718",
            " i-0a1b2c3d4e5f60718\n",
            "ec2-user@i-0A1B2C3D4E5F60718",
            "arn:aws:ec2:eu-west-2:111122223333:instance/i-0a1b2c3d4e5f60718",
            "arn:aws-cn:ec2:cn-north-1:111122223333:instance/i-0a1b2c3d4e5f60718 ",
        ] {
            assert_eq!(parse(text).selector, id(), "{text}");
        }
        let node =
            parse("arn:aws:ssm:eu-west-1:111122223333:managed-instance/mi-0a1b2c3d4e5f60718");
        assert_eq!(node.region.as_deref(), Some("eu-west-1"));
        assert_eq!(node.selector, Selector::Id("mi-0a1b2c3d4e5f60718".into()));
        for text in [
            "arn:aws:ec2:eu-west-1:111122223333:volume/vol-1",
            "I-TEAM",
            " i-team",
        ] {
            assert_eq!(parse(text).selector, Selector::Word(text.into()));
        }
    }

    #[test]
    fn what_is_taken_apart_can_be_a_name_as_a_whole() {
        let word = |text: &str| Some(Selector::Word(text.to_owned()));
        assert_eq!(parse("bracket[1]").whole, word("bracket[1]"));
        assert_eq!(parse("user@name").whole, word("user@name"));
        assert_eq!(parse("bracket[1][2]").whole, word("bracket[1][2]"));
        for plain in ["web-1", "tag:Name=a[1]", "me@i-0a1b2c3d4e5f60718"] {
            assert_eq!(parse(plain).whole, None, "{plain}");
        }
    }

    #[test]
    fn a_dash_is_the_server_that_was_used_last() {
        assert_eq!(parse("-").selector, Selector::Last);
        let target = parse("deploy@-");
        assert_eq!(target.selector, Selector::Last);
        assert_eq!(target.user.as_deref(), Some("deploy"));
        assert_eq!(target.whole, None);
        assert_eq!(
            (parse("@-").selector, parse("@-").user),
            (Selector::Last, None)
        );
        assert_eq!(parse("-x").selector, Selector::Word("-x".into()));
        assert_eq!(
            parse("tag:Name=-").selector,
            Selector::Tag {
                key: "Name".into(),
                value: "-".into()
            }
        );
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
