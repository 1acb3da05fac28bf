//! The arguments of every command that opens a session on a target.

use super::Choice;

/// `--first` and `--newest`, to be flattened into a command's arguments.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct ChoiceArgs {
    /// Of several matches the first
    ///
    /// By name; of those with one name the one that was launched first.
    #[arg(long, conflicts_with = "newest", hide_short_help = true)]
    first: bool,
    /// Of several matches the one launched last
    #[arg(long, hide_short_help = true)]
    newest: bool,
}

impl ChoiceArgs {
    /// What they ask for.
    #[must_use]
    pub fn choice(self) -> Choice {
        match (self.first, self.newest) {
            (true, _) => Choice::First,
            (_, true) => Choice::Newest,
            _ => Choice::Ask,
        }
    }
}

/// `--reason`, `--first` and `--newest`, to be flattened into a command's arguments.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SessionArgs {
    /// Why, for the session's history
    #[arg(long, value_name = "TEXT", env = "OPS_REASON")]
    pub reason: Option<String>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

impl SessionArgs {
    /// What `--first` and `--newest` ask for.
    #[must_use]
    pub fn choice(&self) -> Choice {
        self.choice.choice()
    }
}
