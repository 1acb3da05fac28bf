//! Every command that is built in, in the order of help. Adding a crate adds one line here.

use std::sync::LazyLock;

use ops_core::{Context, Entry};
use ops_profile::{Verb, Verbs};
use ops_ui::{Env, Globals};

use crate::builtin;

/// Commands that stand together in `ops --help`.
#[derive(Clone, Copy)]
pub struct Group {
    /// The heading.
    pub title: &'static str,
    /// What each crate brings.
    pub crates: &'static [&'static [Entry]],
}

/// The registry.
pub static GROUPS: &[Group] = &[
    Group {
        title: "Servers",
        crates: &[
            &cmd_ls::COMMANDS,
            &cmd_shell::COMMANDS,
            &cmd_exec::COMMANDS,
            &cmd_cp::COMMANDS,
            &cmd_forward::COMMANDS,
            &cmd_ssh::COMMANDS,
            &cmd_console::COMMANDS,
        ],
    },
    Group {
        title: "This program",
        crates: &[builtin::COMMANDS],
    },
];

/// All of them, in order.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    GROUPS.iter().flat_map(Group::entries)
}

/// The command that is called `name`, by its own name or another spelling of it.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.name == name || entry.aliases.contains(&name))
}

/// What profiles may rule: every command, and `help`, which the dispatcher does itself.
static VERBS: LazyLock<Vec<Verb>> = LazyLock::new(|| {
    let help = Verb {
        name: "help",
        aliases: &[],
        ruled_as: None,
        is_always_allowed: true,
    };
    entries().map(Entry::verb).chain([help]).collect()
});

/// The verbs that are built in. No plugin can take their names.
pub(crate) fn verbs() -> Verbs {
    Verbs::new(&VERBS)
}

/// A context for `globals` in `env`, in which these verbs are known.
pub(crate) fn context(globals: Globals, env: Env) -> Context {
    Context::new(globals, env, verbs())
}

impl Group {
    /// Its commands, in order.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> + use<> {
        self.crates.iter().copied().flatten()
    }
}
