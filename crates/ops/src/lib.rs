//! `ops`: finds the command that was asked for, in this order: built in, alias of the team profile,
//! external (`ops-NAME`), and runs it.
//!
//! Nothing here reaches AWS. Help, completion and wrong usage need no async runtime and make no
//! file.

mod alias;
mod builtin;
mod cli;
mod complete;
mod descriptors;
mod dispatch;
mod globals;
mod help;
mod hoist;
mod meaning;
mod panic;
mod pick;
mod plugin;
mod policy;
mod registry;
mod run;
#[cfg_attr(not(feature = "sandbox"), path = "sandbox/none.rs")]
mod sandbox;
mod shells;
mod signals;
mod trace;
mod usage;

pub use registry::{GROUPS, Group, entries};

/// The whole program: arguments and environment of this process, its exit status back.
pub fn main() -> std::process::ExitCode {
    main_with(&[])
}

/// The whole program with commands of one's own beside those that are built in: a binary that a
/// company builds for itself (`examples/` has one). They are in help, in completion and under the
/// rules of profiles as any other.
///
/// # Panics
/// Where a name of `own` is taken, by a command that is built in or is to come: that is a mistake
/// of whoever builds the binary, and shows at its first start.
pub fn main_with(own: &'static [Group]) -> std::process::ExitCode {
    if let Err(name) = registry::add(own) {
        panic!("the name of the command `{name}` is taken");
    }
    let _ = builtin::man::SOURCE.set(builtin::man::Source {
        root: cli::root_command,
        find: registry::find_entry,
    });
    panic::install();
    ops_ui::program::umask();
    let outcome = std::panic::catch_unwind(|| {
        // Before anything else: this is no command line of a user.
        if let Some(exit) = ops_ui::follower::answer() {
            return exit;
        }
        if complete::answer_completion() {
            return ops_ui::Exit::SUCCESS;
        }
        descriptors::raise_limit();
        dispatch::dispatch(
            std::env::args_os().skip(1).collect(),
            &ops_ui::Env::from_process(),
        )
    });
    outcome.unwrap_or(ops_ui::Exit::UNEXPECTED).into()
}

/// For `tests/fuzzing` alone.
#[doc(hidden)]
pub mod fuzzing {
    /// Takes a line apart as each shell does, and quotes it as one word for bash.
    pub fn quoting(text: &str) {
        crate::shells::check_quoting(text);
    }
}

/// The command line as clap sees it, for completion, man pages and tests.
pub fn command() -> clap::Command {
    cli::root_command()
}
