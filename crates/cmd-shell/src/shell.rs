//! The command.

use ops_core::{
    Command, Context, Document, Forms, OpenOptions, Traits, Values, resolve::SessionArgs,
};
use ops_profile::{Selector, Target};
use ops_remote::terminal::{self, CarryEnd, EscapeChar, Manner};
use ops_ui::{Error, Exit, Result, Text};

use crate::{
    parameters,
    start::{self, StartOptions},
};

/// Open a shell on a server
///
/// Opens an interactive shell through Session Manager: no open port, no SSH server, no key. The
/// terminal is put into raw mode, so that every key reaches the far side and full-screen programs
/// work. With input from a pipe, all of it is sent, then the end of transmission (Ctrl-D), and what
/// the shell prints is printed, prompt and echo included.
///
/// A lost connection is taken up again by itself; what is typed meanwhile is delivered. `Enter ~ .`
/// ends a session that hangs, `Enter ~ ?` shows the other escapes.
#[derive(clap::Args, Debug)]
pub struct Shell {
    /// Id, Name, glob, tag:Key=Value, IP or DNS name, behind USER@
    ///
    /// USER@ is who the shell runs as, where that is not the account's default.
    #[arg(value_name = "TARGET", required_unless_present = "parameters")]
    target: Option<Target>,
    /// Session document, in place of the account's own
    #[arg(long, value_name = "NAME")]
    document: Option<String>,
    /// Parameters of the document, or one JSON object
    #[arg(long, value_name = "K=V", num_args = 1..)]
    parameters: Vec<String>,
    #[command(flatten)]
    session: SessionArgs,
    /// Begins an escape, or none
    ///
    /// A character; it counts at the beginning of a line. `^X` is a control character.
    #[arg(long, value_name = "CHAR", env = "OPS_ESCAPE")]
    escape: Option<EscapeChar>,
}

impl Command for Shell {
    const NAME: &'static str = "shell";
    const ALIASES: &'static [&'static str] = &["sh"];
    const TRAITS: Traits = Traits {
        forms: Forms::Nothing,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops shell web-1", "a shell on the server of that name"),
        (
            "echo uptime | ops shell web-1",
            "type what is piped in, then Ctrl-D",
        ),
        (
            "ops shell deploy@tag:Role=web --newest --reason INC-4711",
            "as user deploy on the web server launched last",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    async fn run(mut self, cx: Context) -> Result<Exit> {
        let target = self.take_target()?;
        let wishes = StartOptions {
            document: self.document.take(),
            parameters: parameters::parse(&self.parameters).map_err(Error::usage)?,
            user: target.user.clone(),
            ..StartOptions::default()
        };
        let profile = cx.profile()?;
        let mut defaults = StartOptions::of(&profile.shell);
        let mut notices = profile.shell.notices;
        if let Selector::Word(word) = &target.selector
            && let Some(host) = profile.hosts.get(word)
        {
            defaults = StartOptions::of(&host.shell).over(defaults);
            notices = host.shell.notices.or(notices);
        }
        let wishes = wishes.over(defaults);
        let manner = Manner {
            escape: self
                .escape
                .unwrap_or_else(|| profile.session.escape().into()),
            notices: notices.unwrap_or_default(),
        };
        let instance = cx.resolve(&target, self.session.choice()).await?;
        let windows = instance
            .platform
            .as_deref()
            .is_some_and(|platform| platform.to_lowercase().contains("windows"));
        let start = start::plan(wishes, windows)?;
        let reason = self.session.reason.take();
        cx.guard(
            Self::NAME,
            std::slice::from_ref(&instance),
            reason.as_deref(),
        )
        .await?;

        let output = cx.output();
        let document = Document::Shell {
            name: start.document,
            parameters: start.parameters,
        };
        let spinner = output.spinner(format!("starting a session on {}", instance.label()));
        let opened = cx
            .open(&instance, document, OpenOptions::reason(reason))
            .await;
        drop(spinner);
        let connection = opened?;
        output.detail(format!("session {} is open", connection.id));
        if !connection.ready.customer_message.is_empty() {
            output.note(Text::foreign_lines(&connection.ready.customer_message));
        }
        let (mut session, ending) = connection.into_parts();
        let ended = terminal::carry(
            &cx,
            &session.sender,
            &mut session.events,
            &ending,
            instance.label(),
            manner,
            None,
        )
        .await;
        match ended {
            Ok(CarryEnd::FarSide(exit) | CarryEnd::Surprise(exit)) => {
                ending.ended();
                Ok(exit)
            }
            Ok(CarryEnd::Escape) => {
                // Behind what the far side wrote last, mostly a prompt.
                output.note(
                    Text::from("\n").then(format!("ending the session on {}", instance.label())),
                );
                ending.terminate().await;
                Ok(Exit::SUCCESS)
            }
            Err(error) => {
                ending.terminate().await;
                Err(error)
            }
        }
    }
}

impl Shell {
    /// The target; `--parameters A=1 web-1` has swallowed it.
    fn take_target(&mut self) -> Result<Target> {
        if let Some(target) = self.target.take() {
            return Ok(target);
        }
        match self.parameters.pop() {
            Some(word) if !word.contains('=') && !word.starts_with('{') => word
                .parse()
                .map_err(|error| Error::usage(format!("{error}"))),
            _ => Err(Error::usage("no target was given").hint("ops shell TARGET")),
        }
    }
}
