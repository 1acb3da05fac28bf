//! What people wrote down: team profiles and `config.yaml` as YAML, merged, checked as a whole, and
//! the settings that follow from them.
//!
//! A team profile is one YAML file; it is merged along `extends` and checked before anything is
//! done with it. [`Settings`] puts options, environment, profile and the files of AWS's tools
//! together. [`Target`] and [`Instance`] are the words in which all of that speaks of machines. No
//! network, no AWS client.

#![warn(missing_docs)]

pub mod aws_files;
mod check;
mod de;
pub mod guard;
pub mod instance;
mod lists;
mod load;
mod merge;
mod mistakes;
pub mod plain_http;
mod report;
pub mod schema;
pub mod settings;
pub mod ssh;
mod suggest;
pub mod target;
pub mod values;
pub mod verbs;

pub use guard::{Commands, Confirm, Guard, ReasonRule, Refused, SessionRules};
pub use instance::{Instance, InstanceState, Kind, Ping};
pub use lists::OneOrMany;
pub(crate) use load::refuse_exposed;
pub use load::{Found, Loaded, folders, is_name, list};
pub use schema::{
    Aws, Copy, CopyLinks, CopyVia, Endpoints, Exec, ExecVia, Forward, Host, Names, OutputDefaults,
    Pick, Platform, Profile, Select, Shell,
};
pub use settings::{Origin, Setting, Settings};
pub use ssh::{Auth, HostKeys, HostSsh, Ssh, UserMatch, UserRule};
pub use suggest::nearest;
pub use target::{Selector, Target};
pub use verbs::{RESERVED, Verb, Verbs};

/// For `tests/fuzzing` alone.
#[doc(hidden)]
pub mod fuzzing {
    use std::sync::Arc;

    use ops_ui::yaml;

    use crate::{Profile, de, merge};

    /// Reads a profile, alone and laid over itself.
    pub fn profile(text: &str) {
        let source = Arc::new(yaml::Source {
            path: "fuzz.yaml".into(),
            text: text.to_owned(),
        });
        let Ok(node) = yaml::parse(&source) else {
            return;
        };
        if de::read::<Profile>(&node).is_ok() {
            let merged = merge::merge(node.clone(), node);
            assert!(
                de::read::<Profile>(&merged).is_ok(),
                "a profile laid over itself is one"
            );
        }
    }
}

#[cfg(test)]
mod tests;
