//! `ops ssh`, `ops ssh-config` and `ops ssh-proxy`: OpenSSH, and all that speaks it, over Session
//! Manager; `ops api`: the same connection for other programs.

mod api;
mod config_text;
mod include;
mod log;
mod meaning;
mod nameless;
mod names;
mod openssh;
mod options;
mod refused;
mod settings;
mod ssh;
mod ssh_config;
mod ssh_proxy;
mod words;

use ops_core::Entry;

pub use api::Api;
pub use ssh::Ssh;
pub use ssh_config::SshConfig;
pub use ssh_proxy::SshProxy;

/// What this crate brings.
pub static COMMANDS: [Entry; 4] = [
    Entry::of::<Ssh>(),
    Entry::of::<SshConfig>(),
    Entry::of::<SshProxy>(),
    Entry::of::<Api>(),
];
