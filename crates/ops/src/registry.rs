//! Every command that is built in, in the order of help. Adding a crate adds one line here.

use ops_core::Entry;

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
pub const GROUPS: &[Group] = &[
    Group {
        title: "Servers",
        crates: &[
            cmd_ls::COMMANDS,
            cmd_shell::COMMANDS,
            cmd_cp::COMMANDS,
            cmd_forward::COMMANDS,
            cmd_ssh::COMMANDS,
            cmd_console::COMMANDS,
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

/// Every name that cannot be taken by an alias or a plugin.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    entries()
        .flat_map(|entry| std::iter::once(entry.name).chain(entry.aliases.iter().copied()))
        .chain(["help"])
}

impl Group {
    /// Its commands, in order.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> + use<> {
        self.crates.iter().copied().flatten()
    }
}
