//! Credentials that could not be had: why, and how to log in.

use std::path::Path;

use aws_credential_types::provider::error::CredentialsError;
use ops_profile::aws_files::AwsFiles;
use ops_ui::{Error, ErrorKind, hint};

use super::{
    error_chain::{chain, innermost},
    failure::excerpt,
    login::{Login, LoginWay, login_hints, profile_option, way_of},
    options::AwsOptions,
};

/// Whether it takes a new SSO login: its token is not there, has expired, or is refused.
///
/// The SDK tells by its texts alone; `is_sso`: the profile takes its credentials from there.
pub(super) fn is_sso_over(error: &CredentialsError, is_sso: bool) -> bool {
    let text = chain(error).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    text.contains("sso") && has(&["expired", "cached", "unauthorized", "invalid"])
        || is_sso && has(&["token", "unauthorized"])
        // Of a profile of the old form the SDK names no more than the file that is missing.
        || has(&["sso/cache", "sso\\cache"])
}

/// Translates the failure to find credentials.
pub(super) fn credentials_failed(
    error: &CredentialsError,
    options: &AwsOptions,
    files: &AwsFiles,
    home: &Path,
) -> Error {
    let text = chain(error);
    let lower = text.to_lowercase();
    let name = options.profile_name();
    let login = Login::of(files, name);
    let is_of_console = way_of(files, name) == LoginWay::Console;
    if is_sso_over(error, login.is_some()) && !is_of_console {
        // The one to log in with: a profile with a role names another by `source_profile`.
        let source = login.as_ref().map_or(name, |login| &login.profile);
        let failure = match &login {
            Some(login) if !login.was_made(home) => Error::new(
                ErrorKind::NotLoggedIn,
                format!("nobody has logged in to the SSO of AWS profile `{source}` here yet"),
            ),
            _ => Error::new(
                ErrorKind::NotLoggedIn,
                format!("the SSO login of AWS profile `{source}` has expired"),
            )
            .caused_by(innermost(error)),
        };
        let failure = failure.named("login-expired");
        return login_hints(failure, options.profile.as_deref(), LoginWay::Sso, source);
    }
    // The provider of a console login fails where the login has ended or was never made; every
    // other provider that speaks of a login is the SDK's own, in those words.
    let is_console_over =
        is_of_console && !matches!(error, CredentialsError::CredentialsNotLoaded(_));
    if is_console_over
        || lower.contains("login") && (lower.contains("expired") || lower.contains("cached"))
    {
        let option = profile_option(files.source_of(name));
        let (state, hint) = if lower.contains("expired") {
            ("has expired", hint!("log in again: aws login{}", option))
        } else {
            ("is not there", hint!("log in: aws login{}", option))
        };
        return Error::new(
            ErrorKind::NotLoggedIn,
            format!("the console login of AWS profile `{name}` {state}"),
        )
        .caused_by(innermost(error))
        .hint(hint)
        .named("login-expired");
    }
    let source = files.source_of(name);
    if lower.contains("external process") {
        return process_failed(&text, source, files);
    }
    // Containers, and clouds of other makers, often refuse what the chain asks for last: that is no
    // reason of its own where nothing else gives credentials.
    let are_metadata_refused =
        lower.contains("imds") && files.get(source, "credential_source").is_none();
    if are_metadata_refused || matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        let failure = Error::new(ErrorKind::NotLoggedIn, "no AWS credentials found").caused_by(format!(
            "looked in the environment, AWS profile `{name}`, web identity, container and instance metadata"
        ))
        .named("no-credentials");
        let failure = if are_metadata_refused {
            failure.caused_by(format!(
                "the instance metadata give none: {}",
                innermost(error)
            ))
        } else {
            failure
        };
        let failure = if files.has(name) {
            failure
        } else {
            failure.caused_by(format!(
                "the AWS profiles on this machine: {}",
                files.quoted_names()
            ))
        };
        return with_login_hints(failure, options, files);
    }
    let failure = Error::new(
        ErrorKind::NotLoggedIn,
        format!("the credentials of AWS profile `{name}` could not be had"),
    )
    .caused_by(excerpt(&text, 600))
    .named("no-credentials");
    // Keys of a file and roles are nothing that a login renews.
    if login.is_some() || files.get(source, "login_session").is_some() {
        with_login_hints(failure, options, files)
    } else {
        failure
    }
}

/// Tells what the `credential_process` of AWS profile `name` said, in its own words. `text` is the
/// SDK's, which holds them.
fn process_failed(text: &str, name: &str, files: &AwsFiles) -> Error {
    let place = files
        .place(name, "credential_process")
        .map_or_else(String::new, |place| format!(" in {place}"));
    let (status, said) = text.split_once(". Stderr: ").unwrap_or((text, ""));
    let said = said.trim();
    let program = files
        .get(name, "credential_process")
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or_default();
    // What the shell exits with where the command is not there, or is not to be executed.
    let missing = ["exit status: 127", "exit status: 126"]
        .iter()
        .any(|status_of_shell| status.contains(status_of_shell));
    let error = Error::new(
        ErrorKind::NotLoggedIn,
        if missing {
            format!(
                "the program that gives the credentials of AWS profile `{name}` cannot be started: `{program}`"
            )
        } else {
            format!("the program that gives the credentials of AWS profile `{name}` failed")
        },
    );
    let error = if said.is_empty() {
        error.caused_by(excerpt(text, 600))
    } else {
        error.caused_by(excerpt(said, 600))
    };
    let status = status
        .split_once("exit status: ")
        .map(|(_, code)| format!("exit status {code}; "))
        .unwrap_or_default();
    error.caused_by(format!("{status}`credential_process` stands{place}"))
}

/// Adds how to log in, where a login is what is missing.
pub(super) fn with_login_hints(error: Error, options: &AwsOptions, files: &AwsFiles) -> Error {
    let name = options.profile_name();
    let error = login_hints(
        error,
        options.profile.as_deref(),
        way_of(files, name),
        files.source_of(name),
    );
    if options.sandbox {
        error
    } else {
        error.hint("or try it without an account: ops --sandbox ls")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{call_place::CallPlace, failure::Call},
        *,
    };

    #[test]
    fn each_profile_is_renewed_by_its_own_command() {
        let files = AwsFiles::of_config(
            "[profile console]\nlogin_session = arn:aws:iam::111122223333:user/me\n\
             [profile role]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = console\n\
             [profile sso]\nsso_session = corp\n[profile loop]\nsource_profile = loop\n[profile keys]\n",
        );
        let way = |name| way_of(&files, name);
        assert_eq!(way("console"), LoginWay::Console);
        assert_eq!(way("role"), LoginWay::Console);
        assert_eq!(way("sso"), LoginWay::Sso);
        for name in ["loop", "keys", "missing"] {
            assert_eq!(way(name), LoginWay::Unknown, "{name}");
        }
        let call = Call {
            action: "ec2:DescribeInstances",
            resource: None,
            place: CallPlace {
                aws_profile: Some("console".to_owned()),
                login: way("console"),
                ..CallPlace::default()
            },
        };
        let error = call.service("cannot list".to_owned(), "ExpiredToken", "");
        assert_eq!(error.hints(), ["log in again: aws login --profile console"]);
        let options = AwsOptions {
            profile: Some("console".to_owned()),
            ..AwsOptions::default()
        };
        let error =
            CredentialsError::provider_error("the token has expired; log in to the sso again");
        let error = credentials_failed(&error, &options, &files, Path::new("/nonexistent"));
        assert_eq!(error.hints(), ["log in again: aws login --profile console"]);
    }
}
