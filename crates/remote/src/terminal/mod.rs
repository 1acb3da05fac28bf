//! A session between the user's terminal and a program on the server: raw mode, sizes, escapes,
//! and what there is to say while it lasts.
//!
//! `ops shell` and `ops exec -t` are this around different documents.

mod carry;
mod departure;
mod escape;
mod full_screen;
mod modes;
mod notes;

pub use self::{
    carry::{CarryEnd, OutputFilter, carry},
    escape::EscapeChar,
};
