//! `ops completion SHELL`

use clap::ValueEnum;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};
use ops_core::{Command, Context, Error, Exit, Result};

use crate::complete::VARIABLE;

/// Print a script that completes ops in your shell
///
/// One line installs it:
///
///   bash   echo 'source <(ops completion bash)' >> ~/.bashrc
///   zsh    echo 'source <(ops completion zsh)' >> ~/.zshrc
///   fish   ops completion fish > ~/.config/fish/completions/ops.fish
///   elvish eval (ops completion elvish | slurp)     in ~/.config/elvish/rc.elv
///   powershell   ops completion powershell | Out-String | Invoke-Expression     in $PROFILE
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completion {
    /// The shell to print it for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

impl Command for Completion {
    const NAME: &'static str = "completion";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "source <(ops completion bash)",
            "complete in this bash from now on",
        ),
        (
            "ops completion fish > ~/.config/fish/completions/ops.fish",
            "in every fish",
        ),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
            Shell::Elvish => &Elvish,
            Shell::Powershell => &Powershell,
        };
        let mut script = Vec::new();
        shell
            .write_registration(VARIABLE, "ops", "ops", "ops", &mut script)
            .map_err(|error| Error::unexpected("cannot write the script").caused_by(error))?;
        cx.output().write(&script)?;
        Ok(Exit::SUCCESS)
    }
}
