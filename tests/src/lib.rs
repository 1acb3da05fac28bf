//! What end-to-end tests share: a clean environment for the built binary ([`lab`]), a sandbox of
//! one's own in the test's process ([`service`]), and a terminal whose screen is read and whose
//! keys are pressed ([`terminal`]), and ports that are nobody else's ([`ports`]).

pub mod lab;
pub mod ports;
pub mod service;
pub mod terminal;

pub use lab::{Done, Lab, Run};

/// Bytes that are not alike, the same every time.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}
