//! The command line as clap sees it.

use std::ffi::OsString;

use clap::{Command, value_parser};
use ops_core::Entry;

use crate::{globals, help, registry};

/// Root, verbs, and what is below them, each with the global options.
pub(crate) fn root_command() -> Command {
    let mut root = Command::new("ops")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Reach servers on AWS through Session Manager: no open ports, no bastion keys, no VPN",
        )
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(value_parser!(OsString))
        .args(
            globals::global_args()
                .into_iter()
                .map(|arg| arg.hide_env(true)),
        );
    root = help::for_root(root);
    root.subcommands(registry::entries().map(verb_command))
}

/// One verb.
pub(crate) fn verb_command(entry: &Entry) -> Command {
    let command = (entry.clap)()
        .disable_help_subcommand(true)
        .hide(entry.traits.hidden);
    let command = help::for_verb(without_values(command), entry);
    globals::add_globals(command, entry.traits.own_short_options)
}

/// Names of variables stand in help, their values do not: a reason or a path of the moment would
/// get into bug reports, and the page would differ from machine to machine.
fn without_values(command: Command) -> Command {
    let below: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| arg.hide_env_values(true));
    below.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, without_values)
    })
}
