//! `ops completion SHELL`

use ops_core::{Command, Context, Forms, Traits};
use ops_ui::{Exit, Result};

use crate::shells::{self, Shell};

/// Print a script that completes ops in your shell
///
/// Names, tags and ids come from a cache of the running instances (see `ops cache --help`): up to a
/// minute old it is taken as it is, up to ten minutes old it is shown at once and refreshed behind.
/// Without one the service is asked, for 1.5 s at most. No key ever asks a question, logs in or
/// prints an error.
#[derive(clap::Args, Debug)]
pub(crate) struct Completion {
    /// The shell to print it for
    ///
    /// One line installs it in
    ///
    /// bash: echo 'source <(ops completion bash)' >> ~/.bashrc
    ///
    /// zsh: echo 'source <(ops completion zsh)' >> ~/.zshrc
    ///
    /// fish: mkdir -p ~/.config/fish/completions; ops completion fish >
    /// ~/.config/fish/completions/ops.fish
    ///
    /// elvish: mkdir -p ~/.config/elvish; echo 'eval (ops completion elvish | slurp)' >>
    /// ~/.config/elvish/rc.elv
    ///
    /// nushell: let to = $nu.data-dir | path join vendor autoload; mkdir $to; ops completion
    /// nushell | save -f ($to | path join ops.nu)
    ///
    /// powershell: 'ops completion powershell | Out-String | Invoke-Expression' >> $PROFILE
    #[arg(value_enum)]
    shell: Shell,
}

impl Command for Completion {
    const NAME: &'static str = "completion";
    const TRAITS: Traits = Traits {
        always_allowed: true,
        forms: Forms::Nothing,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("source <(ops completion bash)", "in this bash"),
        (
            "echo 'source <(ops completion bash)' >> ~/.bashrc",
            "in every bash",
        ),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        cx.output().page(shells::completion_script(self.shell))?;
        Ok(Exit::SUCCESS)
    }
}
