//! AssumeRole, with MFA where the role asks for it, and the cache of what it returned.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sdk_sts as sts;
use aws_types::region::Region;
use ops_ui::{Error, ErrorKind, Result, hint, paths::write_private, text::named};
use serde::{Deserialize, Serialize};

use super::{
    failure::Call,
    options::Role,
    recipe::{Asking, Recipe},
};

/// Codes asked for before giving up.
const MFA_ATTEMPTS: u32 = 3;
/// The global endpoint's region, for a role when no region is known.
const FALLBACK_REGION: &str = "us-east-1";

/// Temporary credentials as they lie in the cache, mode 0600.
#[derive(Serialize, Deserialize)]
struct Cached {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: jiff::Timestamp,
}

/// Names what a role gives when assumed by `source` at `endpoint`; holds nothing secret.
pub(super) fn cache_key(role: &Role, source: &str, endpoint: Option<&str>) -> String {
    let text = format!(
        "{}\n{}\n{}\n{}\n{}\n{}",
        role.arn,
        role.external_id.as_deref().unwrap_or_default(),
        role.mfa_serial.as_deref().unwrap_or_default(),
        role.session_name.as_deref().unwrap_or_default(),
        source,
        endpoint.unwrap_or_default(),
    );
    super::hex_digest(text.as_bytes())
}

fn cache_file(cache: &Path, key: &str) -> PathBuf {
    cache.join("credentials").join(format!("{key}.json"))
}

/// What is cached and lasts `margin` longer; a file that cannot be read counts as none.
pub(super) fn cached(cache: &Path, key: &str, margin: Duration) -> Option<Credentials> {
    let bytes = zeroize::Zeroizing::new(std::fs::read(cache_file(cache, key)).ok()?);
    let cached: Cached = serde_json::from_slice(&bytes).ok()?;
    let end = SystemTime::try_from(cached.expiration).ok()?;
    (end > SystemTime::now() + margin).then(|| {
        Credentials::new(
            cached.access_key_id,
            cached.secret_access_key,
            Some(cached.session_token),
            Some(end),
            "ops-cache",
        )
    })
}

/// Keeps credentials for the next invocation. A cache that cannot be written costs another
/// question, not the command.
pub(super) fn keep(cache: &Path, key: &str, credentials: &Credentials) {
    let (Some(token), Some(end)) = (credentials.session_token(), credentials.expiry()) else {
        return;
    };
    let Ok(expiration) = jiff::Timestamp::try_from(end) else {
        return;
    };
    let cached = Cached {
        access_key_id: credentials.access_key_id().to_owned(),
        secret_access_key: credentials.secret_access_key().to_owned(),
        session_token: token.to_owned(),
        expiration,
    };
    let Ok(bytes) = serde_json::to_vec(&cached) else {
        return;
    };
    if let Err(error) = write_private(&cache_file(cache, key), &bytes) {
        tracing::warn!(%error, "temporary credentials could not be cached");
    }
}

/// Removes every role's credentials from the cache. Gives how many there were.
///
/// # Errors
/// They cannot be removed.
pub(crate) fn remove_kept_roles(cache: &Path) -> Result<usize> {
    let folder = cache.join("credentials");
    let failed = |error: std::io::Error| {
        Error::unexpected("the credentials of roles cannot be removed from the cache")
            .caused_by(format!("{}: {error}", folder.display()))
    };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let mut count = 0;
    for entry in entries {
        std::fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        count += 1;
    }
    Ok(count)
}

/// Assumes `role` with `source`. The MFA code comes from `OPS_MFA_CODE` or `AWS_MFA_CODE`, else
/// from the terminal if that may be asked.
pub(super) async fn assume(
    recipe: &Recipe,
    role: &Role,
    source: Credentials,
    asking: Asking,
) -> Result<Credentials> {
    let region = recipe
        .region
        .clone()
        .unwrap_or_else(|| FALLBACK_REGION.to_owned());
    let mut config = sts::Config::builder()
        .behavior_version(sts::config::BehaviorVersion::latest())
        .region(Region::new(region.clone()))
        .http_client(recipe.http.clone())
        .retry_config(super::retry_config())
        .timeout_config(super::timeout_config(recipe.options.timeout))
        .credentials_provider(source);
    config.set_endpoint_url(recipe.sts_endpoint.clone());
    let client = sts::Client::from_conf(config.build());
    let session_name = role
        .session_name
        .clone()
        .unwrap_or_else(|| session_name(&recipe.env));

    let mut attempt = 1;
    loop {
        let code = match &role.mfa_serial {
            Some(serial) => Some(mfa_code(recipe, role, serial, asking, attempt).await?),
            None => None,
        };
        let mut request = client
            .assume_role()
            .role_arn(&role.arn)
            .role_session_name(&session_name)
            .set_external_id(role.external_id.clone())
            .set_serial_number(role.mfa_serial.clone());
        if let Some(code) = &code {
            request = request.token_code(code.text.as_str());
        }
        if let Some(duration) = role.duration {
            request =
                request.duration_seconds(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
        }
        let error = match request.send().await {
            Ok(answer) => {
                let Some(given) = answer.credentials else {
                    return Err(Error::unexpected(format!(
                        "AssumeRole for `{}` returned no credentials",
                        role.arn
                    )));
                };
                return Ok(Credentials::new(
                    given.access_key_id,
                    given.secret_access_key,
                    Some(given.session_token),
                    SystemTime::try_from(given.expiration).ok(),
                    "assume-role",
                ));
            }
            Err(error) => error,
        };
        let wrong_code = code.is_some() && is_mfa_error(&error);
        // A code of the environment is good once: whoever renews credentials an hour later has to
        // ask.
        let may_ask = asking.is_allowed() || code.as_ref().is_some_and(|code| code.typed);
        if wrong_code && may_ask && attempt < MFA_ATTEMPTS {
            attempt += 1;
            continue;
        }
        let call = Call {
            action: "sts:AssumeRole",
            resource: Some(role.arn.clone()),
            place: recipe.options.place(Some(&region)),
        };
        let error = call.failed(format!("cannot assume the role `{}`", role.arn), &error);
        return Err(if wrong_code {
            error.hint("a code works once and for 30 seconds: wait for the next one and try again")
        } else if role.mfa_serial.is_none() {
            error.hint("if the role wants MFA, name the device: `aws.mfa_serial` in the profile")
        } else {
            error
        });
    }
}

fn is_mfa_error<E>(error: &sts::error::SdkError<E>) -> bool
where
    E: sts::error::ProvideErrorMetadata,
{
    use sts::error::ProvideErrorMetadata as _;
    error
        .message()
        .is_some_and(|message| message.contains("MultiFactorAuthentication"))
}

struct MfaCode {
    text: zeroize::Zeroizing<String>,
    typed: bool,
}

async fn mfa_code(
    recipe: &Recipe,
    role: &Role,
    serial: &str,
    asking: Asking,
    attempt: u32,
) -> Result<MfaCode> {
    if attempt == 1
        && let Some(code) = recipe
            .env
            .var("OPS_MFA_CODE")
            .or_else(|| recipe.env.var("AWS_MFA_CODE"))
    {
        return Ok(MfaCode {
            text: code.trim().to_owned().into(),
            typed: false,
        });
    }
    let fail = |why: &str| {
        Error::new(
            ErrorKind::NotLoggedIn,
            format!("the role `{}` wants an MFA code", role.arn),
        )
        .caused_by(why)
    };
    match asking {
        Asking::Allowed | Asking::Anew => {}
        Asking::Never => {
            return Err(
                fail("there is no terminal to ask on, or asking is forbidden").hint(hint!(
                    "run it on a terminal, or give the code of {}: OPS_MFA_CODE=123456 ops …",
                    named(serial)
                )),
            );
        }
        Asking::Over => {
            return Err(fail("nobody can be asked here now").hint(
                "give the code to any ops command of the same profile in another terminal, such as: ops ls",
            ));
        }
    }
    let again = if attempt > 1 {
        "That code was refused. "
    } else {
        ""
    };
    let question = format!("{again}MFA code of {}: ", ops_ui::output::escape(serial));
    let answer = match asking {
        Asking::Anew => recipe.output.ask_anew(question).await?,
        _ => recipe.output.ask(question).await?,
    };
    let text = answer.ok_or_else(|| fail("no code was given"))?;
    let text = zeroize::Zeroizing::new(text.trim().to_owned());
    if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fail("a code has six digits"));
    }
    Ok(MfaCode { text, typed: true })
}

/// A name for the role's session that says whose it is: letters, digits and `=,.@-_`, 2 to 64 of
/// them.
fn session_name(env: &ops_ui::Env) -> String {
    let user = env.user_name().unwrap_or_else(|| "user".to_owned());
    let clean: String = user
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "=,.@-_".contains(*c))
        .take(48)
        .collect();
    format!("ops-{clean}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(end: SystemTime) -> Credentials {
        Credentials::new(
            "ASIA",
            "secret",
            Some("token".to_owned()),
            Some(end),
            "test",
        )
    }

    #[test]
    fn cached_credentials_come_back_until_they_end_and_are_ours_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let role = Role {
            arn: "arn:aws:iam::111122223333:role/x".to_owned(),
            ..Role::default()
        };
        let key = cache_key(&role, "default", None);
        let end = SystemTime::now() + Duration::from_secs(600);
        keep(dir.path(), &key, &credentials(end));
        let back = cached(dir.path(), &key, Duration::from_secs(60)).expect("cached");
        assert_eq!(back.secret_access_key(), "secret");
        assert!(cached(dir.path(), &key, Duration::from_secs(601)).is_none());
        assert!(cached(dir.path(), &cache_key(&role, "other", None), Duration::ZERO).is_none());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(cache_file(dir.path(), &key))
                .expect("a file")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(cache_file(dir.path(), &key), b"{").expect("written");
        assert!(cached(dir.path(), &key, Duration::ZERO).is_none());
    }
}
