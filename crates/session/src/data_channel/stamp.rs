//! Dates and message ids, from inputs only.

use std::time::Duration;

use uuid::Uuid;

/// Makes the dates and ids of outgoing messages from the origin's date and a seed, so that a run
/// repeats byte for byte.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    origin_ms: u64,
    state: [u64; 2],
}

impl Stamp {
    /// `origin_ms` is the Unix date of time zero; zero would make invalid dates, so at least 1 is
    /// used.
    pub(super) fn new(origin_ms: u64, seed: u128) -> Self {
        Self {
            origin_ms: origin_ms.max(1),
            state: [seed as u64, (seed >> 64) as u64],
        }
    }

    pub(super) fn created_ms(&self, now: Duration) -> u64 {
        self.origin_ms
            .saturating_add(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    /// Ids only have to differ from one another; nothing secret depends on them.
    pub(super) fn message_id(&mut self) -> Uuid {
        let halves = self.state.each_mut().map(splitmix64);
        uuid::Builder::from_u128(u128::from(halves[0]) << 64 | u128::from(halves[1]))
            .with_variant(uuid::Variant::RFC4122)
            .with_version(uuid::Version::Random)
            .into_uuid()
    }
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
