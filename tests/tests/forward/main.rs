//! `ops forward` with real clients and servers.

mod agents;
mod background;
mod clients;
mod command;
mod end;
mod families;
mod far;
mod faults;
mod listen;
mod login;
mod names;
mod screen;
mod share;
mod survive;
mod transfers;
mod traps;
mod tunnel;
