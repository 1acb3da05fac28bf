//! Credentials: `ops login` and `ops logout` make and end the login that they depend on, `ops
//! whoami` tells whose they are, `ops env` gives them to other programs.

mod env;
mod login;
mod logout;
mod whoami;

use ops_core::Entry;

pub use env::EnvOfCredentials;
pub use login::Login;
pub use logout::Logout;
pub use whoami::Whoami;

/// What this crate brings.
pub static COMMANDS: [Entry; 4] = [
    Entry::of::<Login>(),
    Entry::of::<Logout>(),
    Entry::of::<Whoami>(),
    Entry::of::<EnvOfCredentials>(),
];
