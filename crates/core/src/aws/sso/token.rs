//! The token of a login, as it lies in the cache that all AWS tools share.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_sdk_ssooidc::operation::create_token::CreateTokenOutput;
use ops_ui::{Error, ErrorKind, Result, paths::write_private};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    super::login::{CACHE, Login},
    Desk, Registration, incomplete, seconds,
};

/// A token as the AWS CLI writes it; times as `2026-01-31T12:00:00Z`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    start_url: &'a str,
    region: &'a str,
    access_token: &'a str,
    expires_at: String,
    client_id: &'a str,
    client_secret: &'a str,
    registration_expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
}

/// What of a token in the cache is needed to use it or to end it, whoever wrote it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct CachedToken {
    #[serde(deserialize_with = "secret")]
    pub(in crate::aws) access_token: Zeroizing<String>,
    expires_at: String,
    /// Where it was made, which others may leave out.
    region: Option<String>,
    start_url: Option<String>,
}

/// A token in the cache, whether or not the AWS configuration still knows its login.
pub(in crate::aws) struct KeptToken {
    pub(in crate::aws) file: PathBuf,
    pub(in crate::aws) token: CachedToken,
    /// The region of its login.
    pub(in crate::aws) region: String,
    /// What a person knows its login by.
    pub(in crate::aws) start_url: String,
}

fn secret<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(input).map(Zeroizing::new)
}

impl CachedToken {
    /// The token in `file`; `None` where there is none, or a file that is no token.
    pub(in crate::aws) fn read(file: &Path) -> Option<Self> {
        let bytes = read_token_file(file)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// When it ends; `None` for a time that cannot be read.
    pub(in crate::aws) fn end(&self) -> Option<jiff::Timestamp> {
        self.expires_at.parse().ok()
    }
}

impl KeptToken {
    /// All tokens in the cache that say where their login was made. What else lies there (the
    /// registrations of clients, files of other programs) is none.
    pub(in crate::aws) fn all(home: &Path) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(home.join(CACHE)) else {
            return Vec::new();
        };
        let files = entries.flatten().map(|entry| entry.path());
        let mut tokens: Vec<Self> = files.filter_map(Self::read).collect();
        tokens.sort_by(|a, b| a.file.cmp(&b.file));
        tokens
    }

    fn read(file: PathBuf) -> Option<Self> {
        let token = CachedToken::read(&file)?;
        // The region becomes a part of a host's name, to which the token is sent.
        let is_region = |text: &String| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let region = token.region.clone().filter(is_region)?;
        let start_url = token.start_url.clone()?;
        Some(Self {
            file,
            token,
            region,
            start_url,
        })
    }
}

/// The bytes of a plain file of a token's size; nothing else is opened, so that a pipe or a device
/// in its place holds nobody up.
fn read_token_file(file: &Path) -> Option<Zeroizing<Vec<u8>>> {
    const MOST_BYTES: u64 = 1 << 20;
    let metadata = std::fs::metadata(file).ok()?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return None;
    }
    std::fs::read(file).ok().map(Zeroizing::new)
}

/// Removes the token in `file`. False: there was none.
///
/// # Errors
/// It cannot be removed.
pub(in crate::aws) fn remove_token(file: &Path) -> Result<bool> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(
            Error::unexpected("the token of the SSO login cannot be removed")
                .caused_by(format!("{}: {error}", file.display()))
                .hint("make the folder writable, then log out again"),
        ),
    }
}

impl Desk<'_> {
    /// Keeps what was granted. Gives its end.
    pub(super) fn keep(
        &self,
        login: &Login,
        registration: &Registration,
        granted: CreateTokenOutput,
    ) -> Result<SystemTime> {
        let Some(access_token) = granted.access_token.map(Zeroizing::new) else {
            return Err(incomplete(login, "CreateToken"));
        };
        let refresh_token = granted.refresh_token.map(Zeroizing::new);
        let end = SystemTime::now() + seconds(granted.expires_in);
        let registration_seconds = u64::try_from(registration.ends_at).unwrap_or(0);
        let registration_end = SystemTime::UNIX_EPOCH + Duration::from_secs(registration_seconds);
        let token = Token {
            start_url: &login.start_url,
            region: &login.region,
            access_token: &access_token,
            expires_at: time(end),
            client_id: &registration.client_id,
            client_secret: &registration.client_secret,
            registration_expires_at: time(registration_end),
            refresh_token: refresh_token.as_deref().map(String::as_str),
        };
        let file = login.file(self.home);
        let bytes = serde_json::to_vec(&token).map_err(Error::unforeseen)?;
        write_private(&file, &Zeroizing::new(bytes)).map_err(|error| {
            Error::new(
                ErrorKind::NotLoggedIn,
                format!(
                    "the SSO login of AWS profile `{}` cannot be kept",
                    login.profile
                ),
            )
            .caused_by(format!("{}: {error}", file.display()))
            .hint("make the folder writable, then log in again")
        })?;
        Ok(end)
    }
}

fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_aws_cli_does() {
        assert_eq!(time(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_token_that_the_aws_cli_wrote_is_read() {
        let token: CachedToken = serde_json::from_str(
            r#"{"startUrl": "https://corp.awsapps.com/start", "region": "eu-west-1", "accessToken": "t", "expiresAt": "2026-01-31T12:00:00Z", "clientId": "c"}"#,
        )
        .expect("a token");
        assert_eq!(token.access_token.as_str(), "t");
        assert_eq!(token.end(), "2026-01-31T12:00:00Z".parse().ok());
    }
}
