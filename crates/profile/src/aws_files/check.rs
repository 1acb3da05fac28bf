//! What of an AWS profile cannot work, told before anybody is asked for credentials: with the file
//! and the line where it stands.

use ops_ui::{Error, Hint, Result, hint, text::named};

use super::AwsFiles;
use crate::nearest;

impl AwsFiles {
    /// Checks profile `name` and all that it refers to: the profiles it takes its credentials from,
    /// its SSO session. Profiles that it does not need may have any mistake.
    ///
    /// # Errors
    /// A reference to what is not there or to itself, a setting that is missing, a byte that is no
    /// UTF-8. A profile that is not there itself is none: see [`Self::unknown`].
    pub fn check(&self, name: &str) -> Result<()> {
        let mut seen: Vec<&str> = Vec::new();
        let mut name = name;
        while let Some(group) = self.profiles.get(name) {
            self.check_bytes(name, group)?;
            self.check_sso(name)?;
            seen.push(name);
            let has_role = self.get(name, "role_arn").is_some()
                && self.get(name, "web_identity_token_file").is_none();
            if !has_role {
                return Ok(());
            }
            let at = |key: &str| {
                self.place(name, key)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            match (
                self.get(name, "source_profile"),
                self.get(name, "credential_source"),
            ) {
                (Some(_), Some(_)) => {
                    return Err(Error::usage(format!(
                        "AWS profile `{name}` has two sources of credentials"
                    ))
                    .caused_by(format!(
                        "`source_profile` stands in {}",
                        at("source_profile")
                    ))
                    .caused_by(format!(
                        "`credential_source` in {}",
                        at("credential_source")
                    ))
                    .hint("leave one of them"));
                }
                (None, None) => {
                    return Err(Error::usage(format!(
                        "AWS profile `{name}` has a role and nothing to assume it with"
                    ))
                    .caused_by(format!("`role_arn` stands in {}", at("role_arn")))
                    .hint("add `source_profile = NAME`, the profile whose credentials may assume the role"));
                }
                (None, Some(_)) => return Ok(()),
                // A profile that is its own source has keys beside the role.
                (Some(source), _) if source == name => return Ok(()),
                (Some(source), _) if seen.contains(&source) => {
                    return Err(Error::usage(format!(
                        "the AWS profile `{source}` has itself as its source, by way of `{name}`"
                    ))
                    .caused_by(format!(
                        "`source_profile` stands in {}",
                        at("source_profile")
                    ))
                    .hint("correct `source_profile` there"));
                }
                (Some(source), _) if !self.has(source) => {
                    let error = Error::usage(format!(
                        "AWS profile `{name}` takes its credentials from `{source}`, which is not there"
                    ))
                    .caused_by(format!(
                        "`source_profile` stands in {}",
                        at("source_profile")
                    ));
                    return Err(match nearest(source, self.names()) {
                        Some(near) => {
                            error.hint(hint!("did you mean source_profile = {} ?", named(near)))
                        }
                        None => error.hint(hint!(
                            "there are {}",
                            Hint::names(self.names().take(20), ", ")
                        )),
                    });
                }
                (Some(source), _) => name = source,
            }
        }
        Ok(())
    }

    fn check_bytes(&self, name: &str, group: &super::Group) -> Result<()> {
        let sso_session = self
            .get(name, "sso_session")
            .and_then(|session| self.sso_sessions.get(session));
        let Some((file, damage)) = group
            .damage
            .as_ref()
            .or_else(|| sso_session.and_then(|session| session.damage.as_ref()))
        else {
            return Ok(());
        };
        let path = file.as_path();
        let file = path.display();
        Err(Error::usage(format!("AWS profile `{name}` cannot be read"))
            .caused_by(format!(
                "{file}:{}:{}: the byte 0x{:02x} is no UTF-8",
                damage.line, damage.column, damage.byte
            ))
            .hint(hint!(
                "save the file as UTF-8; if it is in Latin-1: iconv -f latin1 -t utf-8 {} > {}.new",
                path,
                path
            )))
    }

    fn check_sso(&self, name: &str) -> Result<()> {
        let Some(session) = self.get(name, "sso_session") else {
            return Ok(());
        };
        let place = self.place(name, "sso_session");
        let at = place.map(ToString::to_string).unwrap_or_default();
        if !self.sso_sessions.contains_key(session) {
            let error = Error::usage(format!(
                "AWS profile `{name}` logs in to the sso-session `{session}`, which is not there"
            ))
            .caused_by(format!("`sso_session` stands in {at}"));
            let names = self.sso_sessions.keys().map(String::as_str);
            return Err(match nearest(session, names) {
                Some(near) => error.hint(hint!("did you mean {}?", named(near))),
                None => error.hint(
                    "add that section with sso_start_url and sso_region, or: aws configure sso-session",
                ),
            });
        }
        for key in ["sso_start_url", "sso_region"] {
            if self.sso_session(session, key).is_none() {
                let header = &self.sso_sessions[session].place;
                return Err(Error::usage(format!(
                    "the sso-session `{session}` of AWS profile `{name}` has no `{key}`"
                ))
                .caused_by(format!("the section begins in {header}"))
                .hint(hint!("add {} there", named(key))));
            }
        }
        Ok(())
    }

    /// The error of a profile `name` that is not there; `asked` says who asked for it.
    pub fn unknown(&self, name: &str, asked: &str) -> Error {
        let mut error = Error::usage(format!("there is no AWS profile `{name}`"))
            .caused_by(format!("it was asked for by {asked}"))
            .caused_by(format!("there are: {}", self.quoted_names()));
        for path in [&self.config, &self.credentials] {
            error = error.caused_by(self.told_of(path));
        }
        match nearest(name, self.names()) {
            Some(near) => error.hint(hint!(
                "did you mean {} ? see them all: ops config profiles",
                named(near)
            )),
            None => error.hint("see what there is: ops config profiles"),
        }
    }

    /// What became of a file.
    fn told_of(&self, path: &std::path::Path) -> String {
        let shown = path.display();
        if let Some((_, why)) = self.unreadable.iter().find(|(file, _)| file == path) {
            format!("{shown} cannot be read: {why}")
        } else if path.exists() {
            format!("{shown} was read")
        } else {
            format!("{shown} is not there")
        }
    }

    /// The names of the profiles as a message has them.
    pub fn quoted_names(&self) -> String {
        let names: Vec<String> = self.names().map(|name| format!("`{name}`")).collect();
        match names.len() {
            0 => "none".to_owned(),
            1..=20 => names.join(", "),
            more => format!("{} and {} more", names[..20].join(", "), more - 20),
        }
    }

    /// The profile that AWS profile `name` takes its credentials from in the end, by way of
    /// `source_profile`.
    pub fn source_of<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        let mut seen = vec![name];
        while self.get(name, "role_arn").is_some()
            && let Some(source) = self.get(name, "source_profile")
            && !seen.contains(&source)
            && self.has(source)
        {
            seen.push(source);
            name = source;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(config: &str, name: &str) -> Option<String> {
        let error = AwsFiles::of_config(config).check(name).err()?;
        Some(format!(
            "{} | {} | {}",
            error.what(),
            error.why().join("; "),
            error.hints().join("; ")
        ))
    }

    #[test]
    fn a_source_that_is_not_there_is_told_with_its_line() {
        let config = "[profile base]\n[profile a]\nrole_arn = r\nsource_profile = bsae\n[profile b]\nrole_arn = r\nsource_profile=a\n";
        insta::assert_snapshot!(mistake(config, "b").unwrap(), @"AWS profile `a` takes its credentials from `bsae`, which is not there | `source_profile` stands in /c:4 | did you mean source_profile = `base` ?");
        assert_eq!(mistake(config, "base"), None);
    }

    #[test]
    fn a_chain_that_comes_back_is_told() {
        let config = "[profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = a\n";
        insta::assert_snapshot!(mistake(config, "a").unwrap(), @"the AWS profile `a` has itself as its source, by way of `b` | `source_profile` stands in /c:6 | correct `source_profile` there");
    }

    #[test]
    fn a_slip_in_the_sso_session_is_told_and_one_elsewhere_is_not() {
        let config = "[sso-session team]\nsso_region = x\n[profile a]\nsso_session = taem\n[profile b]\nsso_session = team\n[profile c]\n# caf\u{e9}\n";
        insta::assert_snapshot!(mistake(config, "a").unwrap(), @"AWS profile `a` logs in to the sso-session `taem`, which is not there | `sso_session` stands in /c:4 | did you mean `team`?");
        insta::assert_snapshot!(mistake(config, "b").unwrap(), @"the sso-session `team` of AWS profile `b` has no `sso_start_url` | the section begins in /c:1 | add `sso_start_url` there");
        assert_eq!(mistake(config, "c"), None);
    }
}
