//! What a command is started with and how it speaks: environment, global options, folders,
//! terminal, output, errors.
//!
//! Nothing here knows of AWS, of profiles or of sessions.

#![warn(missing_docs)]

mod bottom;
pub mod browser;
pub mod confirm;
pub mod drawing;
pub mod env;
pub mod error;
pub mod exit;
pub mod fill;
pub mod follower;
pub mod globals;
pub mod interrupt;
pub mod invocation;
pub mod json_paths;
pub mod list;
pub mod output;
mod pager;
pub mod paths;
pub mod permissions;
mod phrase;
pub mod program;
mod spinner;
pub mod stdio;
pub mod style;
pub mod table;
pub mod temporary;
pub mod terminal;
pub mod text;
pub mod unwritable;
pub mod voice;
pub mod yaml;

pub use env::Env;
pub use error::{Error, ErrorKind, Result};
pub use exit::Exit;
pub use globals::{ColorChoice, Format, Globals, Source};
pub use interrupt::Interrupt;
pub use invocation::Invocation;
pub use list::List;
pub use output::Output;
pub use paths::Paths;
pub use text::{Hint, Text};
