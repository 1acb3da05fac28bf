//! Every command that is built in, in the order of help. Adding a crate adds one line here; a
//! dispatcher of somebody's own hands its commands to [`crate::main_with`].

use std::sync::{LazyLock, OnceLock};

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
            &cmd_doctor::COMMANDS,
            &cmd_sessions::COMMANDS,
        ],
    },
    Group {
        title: "Credentials",
        crates: &[&cmd_login::COMMANDS],
    },
    Group {
        title: "This program",
        crates: &[builtin::COMMANDS],
    },
];

/// What an embedding dispatcher brings, set once before anything is looked up.
static OWN: OnceLock<&'static [Group]> = OnceLock::new();

/// Takes the commands of an embedding dispatcher.
///
/// # Errors
/// The name that is taken: by a command that is built in, by one that is to come
/// ([`ops_profile::RESERVED`]), or by another of `own`.
pub(crate) fn add(own: &'static [Group]) -> Result<(), &'static str> {
    let mut taken: Vec<&str> = ops_profile::RESERVED.to_vec();
    taken.push("help");
    taken.extend(GROUPS.iter().flat_map(Group::entries).flat_map(entry_names));
    for name in own.iter().flat_map(Group::entries).flat_map(entry_names) {
        if taken.contains(&name) {
            return Err(name);
        }
        taken.push(name);
    }
    // A second call in one process changes nothing: the first has been looked at already.
    let _ = OWN.set(own);
    Ok(())
}

fn entry_names(entry: &'static Entry) -> impl Iterator<Item = &'static str> {
    std::iter::once(entry.name).chain(entry.aliases.iter().copied())
}

/// The groups of help: those of an embedding dispatcher before what concerns the program itself.
pub(crate) fn groups() -> impl Iterator<Item = &'static Group> {
    let own = OWN.get().copied().unwrap_or_default();
    let (last, first) = GROUPS.split_last().unzip();
    first.unwrap_or_default().iter().chain(own).chain(last)
}

/// All of them, in order.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    groups().flat_map(Group::entries)
}

/// The command that is called `name`, by its own name or another spelling of it.
pub(crate) fn find_entry(name: &str) -> Option<&'static Entry> {
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
pub(crate) fn known_verbs() -> Verbs {
    Verbs::new(&VERBS)
}

/// A context for `globals` in `env`, in which these verbs are known.
pub(crate) fn new_context(globals: Globals, env: Env) -> Context {
    Context::new(globals, env, known_verbs())
}

impl Group {
    /// Its commands, in order.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> + use<> {
        self.crates.iter().copied().flatten()
    }
}
