//! `ops sessions`: which sessions are open, by whom, since when; ending them; their logs.

mod complete;
mod end;
mod list;
mod log;
mod record;
mod since;

use ops_core::{Command, Context, Entry, Forms, Traits, Values};
use ops_ui::{Error, Exit, Result};

use self::{
    end::EndArgs,
    list::{ListArgs, Status},
    log::LogArgs,
};

/// List sessions, end them, read their logs
///
/// Lists the open sessions of the account in the region, or with --history those that have ended in
/// the last 30 days: whose they are, on which server, since when. TARGET narrows the list to
/// servers, by id, name, glob, address or tag:Key=Value.
///
/// `ops sessions end` ends sessions, after showing which. `ops sessions log` writes the log of one,
/// where the account keeps logs of sessions in CloudWatch or S3.
#[derive(clap::Args, Debug)]
pub struct Sessions {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// End sessions
    ///
    /// Each WORD is the id of a session, or a server, all of whose sessions are meant. --mine and
    /// --older-than narrow them, or choose among all sessions where no WORD is given. What is to be
    /// ended is shown first, and has to be confirmed.
    End(EndArgs),
    /// Write the log of a session
    ///
    /// Reads it where the session preferences of the account have it kept: in a log group of
    /// CloudWatch, or in a bucket of S3. Tunnels and SSH sessions have no log at the service.
    Log(LogArgs),
}

impl Command for Sessions {
    const NAME: &'static str = "sessions";
    const TRAITS: Traits = Traits {
        forms: Forms::Rows,
        without_forms: &["log"],
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops sessions", "what is open, by whom, since when"),
        (
            "ops sessions end --mine --older-than 2h",
            "end what was forgotten",
        ),
        (
            "ops sessions web-1 --history --since 2d",
            "who was on web-1 in the last two days",
        ),
        (
            "ops sessions -o name --owner alice",
            "ids of sessions, for other commands",
        ),
    ];
    const COMPLETES: &'static [(&'static str, Values)] = &[
        ("targets", Values::Target),
        ("words", Values::Session),
        ("id", Values::Session),
        ("status", Values::Words(Status::NAMES)),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        match self.action {
            None => list::list_sessions(&cx, &self.list).await,
            Some(_) if self.list != ListArgs::default() => Err(Error::usage(
                "a list and what is done with sessions exclude each other",
            )
            .hint("put what belongs to it behind the word: ops sessions end --mine")),
            Some(Action::End(end)) => end::end_sessions(&cx, end).await,
            Some(Action::Log(log)) => log::print_log(&cx, &log.id).await,
        }
    }
}

pub use self::complete::keep_open_sessions;

/// What this crate brings.
pub static COMMANDS: [Entry; 1] = [Entry::of::<Sessions>()];
