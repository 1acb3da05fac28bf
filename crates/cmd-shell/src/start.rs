//! Which document a shell is started with, and with what.

use ops_session::documents;
use ops_ui::{Error, Result, text::single_quoted};

use crate::parameters::Parameters;

/// The document that runs a command on a terminal; AWS owns it, so it is there in every account.
const INTERACTIVE_COMMAND: &str = documents::INTERACTIVE_COMMAND;

/// What is asked for, from the command line or from a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StartOptions {
    /// The document; none: the account's own settings.
    pub(crate) document: Option<String>,
    /// Its parameters.
    pub(crate) parameters: Parameters,
    /// The user to become.
    pub(crate) user: Option<String>,
    /// Whether it is to be a login shell.
    pub(crate) login: Option<bool>,
    /// The folder to start in.
    pub(crate) cwd: Option<String>,
}

impl StartOptions {
    /// What `shell` of a profile or of one of its hosts says.
    pub(crate) fn of(shell: &ops_profile::Shell) -> Self {
        Self {
            document: shell.document.clone(),
            parameters: shell
                .parameters
                .iter()
                .map(|(key, values)| (key.clone(), values.0.clone()))
                .collect(),
            user: shell.run_as.as_ref().map(ToString::to_string),
            login: shell.login,
            cwd: shell.cwd.clone(),
        }
    }

    /// These, and where they say nothing `profile`'s. Another document makes the profile's
    /// parameters meaningless.
    pub(crate) fn over(self, profile: Self) -> Self {
        let parameters = if self.document.is_some() && self.document != profile.document {
            self.parameters
        } else {
            let mut parameters = profile.parameters;
            parameters.extend(self.parameters);
            parameters
        };
        // A document typed by hand is wanted as it is.
        let shell = self.document.is_none();
        Self {
            document: self.document.or(profile.document),
            parameters,
            user: self.user.or(profile.user.filter(|_| shell)),
            login: self.login.or(profile.login.filter(|_| shell)),
            cwd: self.cwd.or(profile.cwd.filter(|_| shell)),
        }
    }
}

/// What StartSession is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) document: Option<String>,
    pub(crate) parameters: Parameters,
}

/// Turns wishes into a document and its parameters.
///
/// # Errors
/// A user, folder or login shell beside a document of one's own, or on Windows.
pub(crate) fn plan(wishes: StartOptions, windows: bool) -> Result<Start> {
    let StartOptions {
        document,
        mut parameters,
        user,
        login,
        cwd,
    } = wishes;
    if user.is_none() && cwd.is_none() && login != Some(true) {
        return Ok(Start {
            document,
            parameters,
        });
    }
    if let Some(document) = document {
        return Err(Error::usage(format!(
            "a user, folder or login shell cannot be asked for together with document `{document}`"
        ))
        .caused_by("the document itself decides whose shell it starts, and where")
        .hint("leave out --document (shell.document in a profile), or the user and shell.as, shell.login, shell.cwd"));
    }
    if !parameters.is_empty() {
        return Err(Error::usage(
            "a user, folder or login shell cannot be asked for together with --parameters",
        )
        .hint("name the document the parameters are for: --document NAME"));
    }
    if windows {
        return Err(
            Error::usage("a user, folder or login shell cannot be asked for on Windows")
                .caused_by("Session Manager runs PowerShell there as its own user"),
        );
    }
    let command = command(user.as_deref(), login, cwd.as_deref());
    parameters.insert("command".to_owned(), vec![command]);
    Ok(Start {
        document: Some(INTERACTIVE_COMMAND.to_owned()),
        parameters,
    })
}

/// The command, for `sh -c` on the instance.
fn command(user: Option<&str>, login: Option<bool>, cwd: Option<&str>) -> String {
    // As with `sudo -i`, a shell as somebody else is a login shell unless that is unwanted.
    let login = login.unwrap_or(user.is_some());
    let folder = match cwd {
        Some(cwd) => format!("cd -- {}; ", single_quoted(cwd)),
        None if login => "cd; ".to_owned(),
        None => String::new(),
    };
    let flag = if login { " -l" } else { "" };
    let shell = format!("{folder}exec \"${{SHELL:-/bin/sh}}\"{flag}");
    match user {
        None => shell,
        Some(user) => {
            let user = single_quoted(user);
            // Without sudo where the session's user is the one asked for already.
            format!(
                "if [ \"$(id -un)\" = {user} ]; then {shell}; else exec sudo -H -u {user} -- sh -c {}; fi",
                single_quoted(&shell)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(key: &str, value: &str) -> Parameters {
        [(key.to_owned(), vec![value.to_owned()])].into()
    }

    #[test]
    fn without_wishes_the_account_decides() {
        let start = plan(StartOptions::default(), false).expect("a plan");
        assert_eq!(start.document, None);
        assert!(start.parameters.is_empty());
    }

    #[test]
    fn what_is_typed_comes_before_what_the_profile_says() {
        let profile = StartOptions {
            document: Some("Team".into()),
            parameters: parameters("shell", "zsh"),
            cwd: Some("/srv".into()),
            ..StartOptions::default()
        };
        let same = StartOptions {
            document: Some("Team".into()),
            parameters: parameters("mode", "x"),
            ..StartOptions::default()
        };
        assert_eq!(same.over(profile.clone()).parameters.len(), 2);
        let other = StartOptions {
            document: Some("Other".into()),
            ..StartOptions::default()
        }
        .over(profile);
        assert_eq!(other.document.as_deref(), Some("Other"));
        assert_eq!((other.parameters.len(), other.cwd), (0, None));
    }

    #[test]
    fn a_user_and_a_folder_become_a_command() {
        let wishes = StartOptions {
            user: Some("deploy".into()),
            cwd: Some("/srv/it's".into()),
            ..StartOptions::default()
        };
        let start = plan(wishes, false).expect("a plan");
        assert_eq!(start.document.as_deref(), Some(INTERACTIVE_COMMAND));
        assert_eq!(
            start.parameters["command"],
            [concat!(
                r#"if [ "$(id -un)" = 'deploy' ]; then cd -- '/srv/it'\''s'; exec "${SHELL:-/bin/sh}" -l; "#,
                r#"else exec sudo -H -u 'deploy' -- sh -c 'cd -- '\''/srv/it'\''\'\'''\''s'\''; exec "${SHELL:-/bin/sh}" -l'; fi"#
            )]
        );
    }

    #[test]
    fn a_document_of_ones_own_decides_for_itself() {
        let wishes = StartOptions {
            document: Some("Team".into()),
            user: Some("deploy".into()),
            ..StartOptions::default()
        };
        assert!(plan(wishes, false).is_err());
        let wishes = StartOptions {
            user: Some("deploy".into()),
            ..StartOptions::default()
        };
        assert!(plan(wishes, true).is_err());
    }
}
