//! What end-to-end tests share: a clean environment for the built binary ([`lab`]), a sandbox of
//! one's own in the test's process ([`service`]), and a terminal whose screen is read and whose
//! keys are pressed ([`terminal`]), and ports that are nobody else's ([`ports`]).

pub mod lab;
pub mod ports;
pub mod service;
pub mod terminal;

pub use lab::{Done, Lab, Run};
pub use ops_test_needs::noise;
