//! The built binary as a user meets it, and the shape of the workspace. One program, so that it is
//! linked once.

mod aws;
mod circles;
mod config;
mod denied;
mod dependencies;
mod dispatch;
mod doctor;
mod documents;
mod encrypted;
mod endpoint;
mod examples;
mod help;
mod layering;
mod permissions;
mod picker;
mod plugins;
mod porting;
mod profiles;
mod quota;
mod quoted;
mod reference;
mod sandbox;
mod screens;
mod style;
mod targets;
