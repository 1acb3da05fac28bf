//! `ops owner`: which team a server belongs to, by a tag that this company puts on its servers.

use ops_core::{Command, Context, Entry, Values, resolve::ChoiceArgs};
use ops_profile::Target;
use ops_ui::{Error, ErrorKind, Exit, Format, Result, hint};
use serde::Serialize;

/// The tag that names the team.
const TEAM: &str = "Team";

/// Say which team a server belongs to
///
/// Reads the tag Team. A server without it is an error, so that a script can tell.
#[derive(clap::Args, Debug)]
pub struct Owner {
    /// Name, id, private address or tag:Key=Value
    target: Target,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    team: &'a str,
}

impl Command for Owner {
    const NAME: &'static str = "owner";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops owner web-1", "the team of web-1"),
        ("ops owner i-0a1b2c3d4e5f60718 -o json", "for a program"),
    ];
    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    async fn run(self, cx: Context) -> Result<Exit> {
        let instance = cx.resolve_whole(&self.target, self.choice.choice()).await?;
        let Some(team) = instance.tags.get(TEAM) else {
            let what = format!("{} has no tag {TEAM}", instance.id);
            return Err(Error::new(ErrorKind::NotFound, what)
                .hint(hint!("all its tags: ops describe {}", instance.id)));
        };
        let output = cx.output();
        let answer = Answer {
            id: &instance.id,
            team,
        };
        match output.format() {
            Format::Json => output.json(&answer)?,
            Format::Yaml => output.yaml(&answer)?,
            _ => output.line(team)?,
        }
        Ok(Exit::SUCCESS)
    }
}

/// What this crate brings.
pub static COMMANDS: &[Entry] = &[Entry::of::<Owner>()];
