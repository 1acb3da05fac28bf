//! The command `env`.

use std::ffi::OsString;

use jiff::Timestamp;
use ops_core::{
    Command, Context,
    calls::login::{EffectiveCredentials, SourceKind},
};
use ops_ui::{
    Env, Error, ErrorKind, Exit, Format, Result, program,
    text::{cut, escape, single_quoted},
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::login::clock_time;

/// What would outrank the credentials in a program that reads the environment, or confuse it.
const IN_THE_WAY: [&str; 5] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    // Of other credentials, which had an end.
    "AWS_CREDENTIAL_EXPIRATION",
];

/// Whose words the lines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    /// Of the POSIX kind: sh, bash, zsh, ksh
    #[default]
    Sh,
    /// The friendly interactive shell
    Fish,
}

/// Of the name of a program in an error, in columns of a terminal.
const NAME_COLUMNS: usize = 40;

/// Give the credentials in use to another program
///
/// Prints lines for a shell that set the credentials in use, for programs that know nothing of the
/// profile: `eval "$(ops env -p prod)"`. Behind `--` stands a program that is run with them
/// instead, and nothing is printed. `-o json` is the form that `credential_process` of an AWS
/// profile takes.
///
/// The lines are secrets, of as much worth as what they allow.
#[derive(clap::Args, Debug)]
#[command(name = "env")]
pub struct EnvOfCredentials {
    /// Whose words the lines are: sh (bash and zsh too), fish
    #[arg(
        long,
        value_name = "SHELL",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    shell: Shell,
    /// A program to run with the credentials, and its arguments
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,
}

impl Command for EnvOfCredentials {
    const NAME: &'static str = "env";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops env -- terraform plan", "run it with them"),
        ("eval \"$(ops env)\"", "set them in this shell"),
        ("ops env --shell fish | source", "set them in fish"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        if let Some(format) = cx
            .globals()
            .typed_output()
            .filter(|_| !self.command.is_empty())
        {
            return Err(Error::usage(format!(
                "`ops env -- COMMAND` has no output format `{}`",
                format.name()
            ))
            .caused_by("standard output is the command's")
            .hint("leave --output out"));
        }
        let credentials = cx.effective_credentials().await?;
        check_end(&credentials, Timestamp::now())?;
        let region = cx.region().await.ok();
        let endpoint = sandbox_endpoint(&cx);
        let set = credential_variables(&credentials, region.as_deref(), endpoint);
        let output = cx.output();
        if let [program, arguments @ ..] = self.command.as_slice() {
            return run_with(&cx, program, arguments, &set);
        }
        match output.format() {
            Format::Table | Format::Wide => output.page(&export_lines(self.shell, &set)),
            Format::Json => output.json(&process_document(&credentials)),
            other => Err(Error::usage(format!(
                "`ops env` has no output format `{}`",
                other.name()
            ))
            .hint("use json, or none")),
        }?;
        if output.stdout_is_terminal() {
            output.note("these are secrets: set them in this shell with `eval \"$(ops env)\"`, or run a program with them: ops env -- COMMAND");
        }
        Ok(Exit::SUCCESS)
    }
}

/// Hands out nothing that is over: the program that gets it would be refused by AWS, with a reason
/// that names neither these credentials nor where they come from. The AWS CLI refuses them too.
///
/// # Errors
/// The credentials have ended.
fn check_end(credentials: &EffectiveCredentials, now: Timestamp) -> Result<()> {
    let Some(end) = credentials.expires.filter(|end| *end <= now) else {
        return Ok(());
    };
    let source = &credentials.source;
    let error = Error::new(
        ErrorKind::NotLoggedIn,
        "the credentials in use have expired",
    )
    .caused_by(format!("{}: they ended {}", source.words, clock_time(end)));
    Err(match source.kind {
        SourceKind::Environment => error
            .hint("take them out of this shell: unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_CREDENTIAL_EXPIRATION")
            .hint("or put new ones in their place, from where these came"),
        _ => error.hint("log in again: ops login"),
    })
}

/// A variable and its value.
type Variable = (&'static str, Zeroizing<String>);

/// In the sandbox the credentials are good nowhere but at its own address.
fn sandbox_endpoint(cx: &Context) -> Option<String> {
    let is_sandbox = cx.globals().sandbox;
    is_sandbox.then(|| cx.env().var("AWS_ENDPOINT_URL").map(str::to_owned))?
}

fn credential_variables(
    credentials: &EffectiveCredentials,
    region: Option<&str>,
    endpoint: Option<String>,
) -> Vec<Variable> {
    let text = |text: &str| Zeroizing::new(text.to_owned());
    let mut set = vec![
        ("AWS_ACCESS_KEY_ID", text(&credentials.access_key_id)),
        (
            "AWS_SECRET_ACCESS_KEY",
            credentials.secret_access_key.clone(),
        ),
    ];
    if let Some(token) = &credentials.session_token {
        set.push(("AWS_SESSION_TOKEN", token.clone()));
    }
    if let Some(expires) = credentials.expires {
        set.push((
            "AWS_CREDENTIAL_EXPIRATION",
            text(&expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ));
    }
    if let Some(region) = region {
        set.push(("AWS_REGION", text(region)));
        set.push(("AWS_DEFAULT_REGION", text(region)));
    }
    if let Some(endpoint) = endpoint {
        set.push(("AWS_ENDPOINT_URL", Zeroizing::new(endpoint)));
    }
    set
}

/// Lines that set the variables, and remove what is in their way.
fn export_lines(shell: Shell, set: &[Variable]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for name in IN_THE_WAY {
        if set.iter().all(|(set, _)| *set != name) {
            text.push_str(&match shell {
                Shell::Sh => format!("unset {name}\n"),
                Shell::Fish => format!("set -e {name}\n"),
            });
        }
    }
    for (name, value) in set {
        text.push_str(&match shell {
            Shell::Sh => format!("export {name}={}\n", single_quoted(value)),
            Shell::Fish => format!("set -gx {name} {}\n", *fish_quoted(value)),
        });
    }
    text
}

/// A word of fish, which reads a backslash in single quotes before another one and before a quote.
fn fish_quoted(value: &str) -> Zeroizing<String> {
    let escaped = Zeroizing::new(value.replace('\\', "\\\\"));
    Zeroizing::new(format!("'{}'", escaped.replace('\'', "\\'")))
}

/// The form that `credential_process` takes. Source: "Sourcing credentials with an external
/// process" in the AWS CLI's guide.
fn process_document(credentials: &EffectiveCredentials) -> serde_json::Value {
    let mut document = json!({
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key.as_str(),
    });
    if let Some(token) = &credentials.session_token {
        document["SessionToken"] = json!(token.as_str());
    }
    if let Some(expires) = credentials.expires {
        document["Expiration"] = json!(expires);
    }
    document
}

/// Becomes the program, with its environment.
fn run_with(
    cx: &Context,
    program: &OsString,
    arguments: &[OsString],
    set: &[Variable],
) -> Result<Exit> {
    let mut env: Env = cx.env().clone();
    for name in IN_THE_WAY {
        env.remove(name);
    }
    for (name, value) in set {
        env.set(*name, value.as_str());
    }
    let error = program::become_program(program, arguments, &env);
    // No program has a longer name; what somebody else has made one of does not fill the screen.
    let name = cut(&escape(&program.to_string_lossy()), NAME_COLUMNS);
    Err(Error::usage(format!("cannot run `{name}`"))
        .caused_by(error)
        .hint("name a program on PATH, or its path"))
}

#[cfg(test)]
mod tests {
    use ops_core::calls::login::CredentialsSource;

    use super::*;

    fn credentials(token: Option<&str>) -> EffectiveCredentials {
        EffectiveCredentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Zeroizing::new("se'cret".to_owned()),
            session_token: token.map(|token| Zeroizing::new(token.to_owned())),
            expires: Some(Timestamp::UNIX_EPOCH),
            source: CredentialsSource {
                kind: SourceKind::Keys,
                words: String::new(),
            },
            aws_profile: None,
        }
    }

    #[test]
    fn a_program_gets_all_that_belongs_together() {
        let set = credential_variables(&credentials(Some("t")), Some("eu-west-1"), None);
        let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "AWS_CREDENTIAL_EXPIRATION",
                "AWS_REGION",
                "AWS_DEFAULT_REGION"
            ]
        );
        let set = credential_variables(&credentials(None), None, None);
        assert!(set.iter().all(|(name, _)| *name != "AWS_SESSION_TOKEN"));
    }

    #[test]
    fn a_shell_gets_its_own_words() {
        let set = credential_variables(&credentials(None), None, None);
        let sh = export_lines(Shell::Sh, &set);
        assert!(sh.contains("unset AWS_PROFILE\n"), "{}", *sh);
        assert!(
            sh.contains(r"export AWS_SECRET_ACCESS_KEY='se'\''cret'"),
            "{}",
            *sh
        );
        let fish = export_lines(Shell::Fish, &set);
        assert!(fish.contains("set -e AWS_PROFILE\n"), "{}", *fish);
        assert!(
            fish.contains(r"set -gx AWS_SECRET_ACCESS_KEY 'se\'cret'"),
            "{}",
            *fish
        );
        assert!(!fish.contains("unset"), "{}", *fish);
        assert_eq!(*fish_quoted(r"a\b'c"), r"'a\\b\'c'");
    }

    #[test]
    fn the_document_is_that_of_a_credential_process() {
        assert_eq!(
            process_document(&credentials(None)),
            json!({"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "se'cret", "Expiration": "1970-01-01T00:00:00Z"})
        );
    }
}
