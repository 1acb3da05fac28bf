//! Team profiles: one YAML file each, merged along `extends`, checked as a whole before anything is done with them.

mod check;
pub(crate) mod de;
pub mod guard;
mod lists;
mod load;
pub(crate) mod merge;
pub mod plain_http;
pub(crate) mod report;
pub mod schema;
pub mod ssh;
pub(crate) mod suggest;
pub mod values;

pub use check::VERBS;
pub use guard::{Commands, Confirm, Guard, MarkColor, ReasonRule, Refused, SessionRules};
pub use lists::OneOrMany;
pub use load::{Found, Loaded, SYSTEM_FOLDER, folders, is_name, list};
pub(crate) use load::{finish, refuse_exposed};
pub use schema::{
    Aws, Copy, CopyVia, Endpoints, Exec, ExecVia, Forward, Host, Names, OutputDefaults, Pick,
    Platform, Profile, Select, Shell,
};
pub use ssh::{Auth, HostKeys, HostSsh, Ssh, UserMatch, UserRule};
pub use suggest::nearest;

#[cfg(test)]
mod tests;
