//! The SSO login that an AWS profile depends on, and whether it was made.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ops_profile::aws_files::AwsFiles;
use ops_ui::{Error, Hint, hint};
use serde::Deserialize;
use zeroize::Zeroizing;

/// What a token without other scopes is for, as the AWS CLI has it.
const DEFAULT_SCOPE: &str = "sso:account:access";
/// Where all AWS tools keep the tokens of logins, below the home of the user.
pub(super) const CACHE: &str = ".aws/sso/cache";
/// Between looks for a login that was made elsewhere.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The SSO login that an AWS profile depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// The AWS profile that names it.
    pub(super) profile: String,
    /// `sso_session`; profiles of the old form have none.
    pub(super) session: Option<String>,
    pub(super) start_url: String,
    pub(super) region: String,
    pub(super) scopes: Vec<String>,
}

impl Login {
    /// The login behind AWS profile `name`, by way of its `source_profile` too.
    pub(super) fn of(files: &AwsFiles, name: &str) -> Option<Self> {
        // A profile with a role has the login of the profile that it takes its credentials from.
        let name = files.source_of(name);
        let get = |key| files.get(name, key).map(str::to_owned);
        let Some(session) = get("sso_session") else {
            return Some(Self {
                profile: name.to_owned(),
                session: None,
                start_url: get("sso_start_url")?,
                region: get("sso_region")?,
                scopes: Vec::new(),
            });
        };
        let of_session = |key| files.sso_session(&session, key);
        let scopes = of_session("sso_registration_scopes").unwrap_or(DEFAULT_SCOPE);
        Some(Self {
            profile: name.to_owned(),
            start_url: of_session("sso_start_url")?.to_owned(),
            region: of_session("sso_region")?.to_owned(),
            scopes: scopes_in(scopes),
            session: Some(session),
        })
    }

    /// The login of the `[sso-session NAME]` of that name.
    pub(super) fn of_session(files: &AwsFiles, session: &str) -> Option<Self> {
        let of_session = |key| files.sso_session(session, key);
        let scopes = of_session("sso_registration_scopes").unwrap_or(DEFAULT_SCOPE);
        Some(Self {
            profile: Self::profiles_of(files, session).next()?.to_owned(),
            start_url: of_session("sso_start_url")?.to_owned(),
            region: of_session("sso_region")?.to_owned(),
            scopes: scopes_in(scopes),
            session: Some(session.to_owned()),
        })
    }

    /// The AWS profiles that name the session `session` themselves.
    fn profiles_of<'a>(
        files: &'a AwsFiles,
        session: &'a str,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        files
            .names()
            .filter(move |name| files.get(name, "sso_session") == Some(session))
    }

    /// The AWS profiles that this login is good for, by name.
    pub(super) fn profiles(&self, files: &AwsFiles) -> Vec<String> {
        let mut names: Vec<String> = match &self.session {
            Some(session) => Self::profiles_of(files, session)
                .map(str::to_owned)
                .collect(),
            // The token of the old form belongs to the start URL.
            None => files
                .names()
                .filter(|name| {
                    files.get(name, "sso_session").is_none()
                        && files.get(name, "sso_start_url") == Some(&self.start_url)
                })
                .map(str::to_owned)
                .collect(),
        };
        names.sort();
        names
    }

    /// Where its token is kept.
    pub(super) fn file(&self, home: &Path) -> PathBuf {
        // As the AWS CLI names the file: by the session's name, in the old form by the start URL.
        let identifier = self.session.as_ref().unwrap_or(&self.start_url);
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            identifier.as_bytes(),
        );
        home.join(CACHE)
            .join(format!("{}.json", ops_ui::text::hex(digest.as_ref())))
    }

    /// Whether anybody has logged in here before.
    pub(super) fn was_made(&self, home: &Path) -> bool {
        self.file(home).exists()
    }

    /// Ends once another program has logged in.
    pub(super) async fn made_elsewhere(&self, home: &Path) {
        let file = self.file(home);
        let look = || std::fs::read(&file).ok().map(Zeroizing::new);
        // The whole file is compared, and not its time: a login within the same second counts.
        // Polling is enough, since a person is what is waited for.
        let before = look();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = look();
            if now != before && now.as_deref().is_some_and(|bytes| lasts(bytes)) {
                return;
            }
        }
    }
}

/// The scopes of `sso_registration_scopes`.
fn scopes_in(text: &str) -> Vec<String> {
    text.split([',', ' '])
        .filter(|scope| !scope.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether a token in the cache is whole and has not reached its end.
pub(super) fn lasts(bytes: &[u8]) -> bool {
    /// Of what others write, nothing else is sure to be there.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TokenExpiry {
        expires_at: String,
    }
    serde_json::from_slice::<TokenExpiry>(bytes)
        .ok()
        .and_then(|end| end.expires_at.parse::<jiff::Timestamp>().ok())
        .is_some_and(|end| end > jiff::Timestamp::now())
}

/// How somebody logs in anew to an AWS profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LoginWay {
    /// `sso_session` or `sso_start_url`: by `aws sso login`.
    Sso,
    /// `login_session`: by `aws login`, with the credentials of the console.
    Console,
    /// Nothing says so.
    #[default]
    Unknown,
}

/// The way of the AWS profile `name`, or of the one that it takes its credentials from.
pub(super) fn way_of(files: &AwsFiles, name: &str) -> LoginWay {
    let source = files.source_of(name);
    let has = |key| files.get(source, key).is_some();
    if has("login_session") {
        LoginWay::Console
    } else if has("sso_session") || has("sso_start_url") {
        LoginWay::Sso
    } else {
        LoginWay::Unknown
    }
}

/// ` --profile NAME`; nothing for the default profile.
pub(super) fn profile_option(name: &str) -> Hint {
    match name {
        "default" => Hint::from(""),
        name => hint!(" --profile {}", name),
    }
}

/// Adds how to log in by `way`. `asked` is the AWS profile in use, `source` the one that it takes
/// its credentials from, which is the one to log in to.
pub(super) fn login_hints(error: Error, asked: Option<&str>, way: LoginWay, source: &str) -> Error {
    let option = profile_option(source);
    match way {
        LoginWay::Console => error.hint(hint!("log in again: aws login{}", option)),
        LoginWay::Sso => {
            let asked = match asked.unwrap_or("default") {
                "default" => Hint::from(""),
                name => hint!(" --aws-profile {}", name),
            };
            error
                .hint(hint!(
                    "log in: ops{} login (or: aws sso login{})",
                    asked,
                    option
                ))
                .hint("or open the access portal of your SSO in a browser, choose the account, \"Access keys\", and paste its `export AWS_…` lines into this shell")
        }
        LoginWay::Unknown => error
            .hint(hint!(
                "log in: aws sso login{} (or `aws configure{}` for access keys)",
                option,
                option
            ))
            .hint("without the AWS CLI: export AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in this shell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_until_its_end_whoever_wrote_it() {
        let token = |end: &str| format!("{{\"expiresAt\": \"{end}\", \"accessToken\": \"t\"}}");
        assert!(lasts(token("2999-01-01T00:00:00Z").as_bytes()));
        assert!(!lasts(token("2020-01-01T00:00:00Z").as_bytes()));
        assert!(!lasts(b"{"));
    }
}
