//! `ops ssh`, `ops ssh-config` and `ops ssh-proxy` under the real OpenSSH client, and what speaks
//! through it.
//!
//! OpenSSH takes the home folder of the user database, not `$HOME`, so that each program is given
//! its configuration by `-F`.

mod client;
mod config;
mod first_login;
mod gone;
mod keys;
mod names;
mod proxy;
mod sshd;
mod takeover;
mod transfers;
mod use_it;
