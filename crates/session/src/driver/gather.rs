//! When to let messages gather before they are read.
//!
//! An agent sends the output of a port session as one message of a kilobyte every millisecond. Read
//! as they come, each costs a wake-up, a read, a write to whoever takes the output and a write of
//! its acknowledgement; most of a download's processor time goes there. Where messages have come
//! like that for a while, a pause between two reads lets a few gather, which then share all that.

use std::time::Duration;

use tokio::time::Instant;

use super::Stats;

/// The pause between two reads of a steady stream. Far below every timer of an agent, whose
/// shortest is 100 ms, and of a person.
const PAUSE: Duration = Duration::from_millis(3);
/// Reads further apart than this belong to no steady stream. Above the pause and the millisecond
/// that a timer may be late.
const STEADY_WITHIN: Duration = Duration::from_millis(10);
/// So many reads make a stream steady.
const STEADY_READS: u32 = 16;
/// Messages whose payloads are smaller than this on average are answers, or keys that are echoed:
/// somebody waits for each.
const BULK_BYTES: u64 = 512;
/// A read of more messages than this has enough of them.
const ENOUGH: usize = 8;

/// Watches the reads of one connection.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    steady_reads: u32,
    last_read: Option<Instant>,
    bytes_in: u64,
    bytes_out: u64,
    until: Option<Instant>,
}

impl Gathering {
    /// Takes what the channel counts after a turn in which `messages` were read at `now`.
    pub(super) fn take_read(&mut self, now: Instant, messages: usize, stats: &Stats) {
        let last = self.last_read.replace(now);
        let received = stats.bytes_in - std::mem::replace(&mut self.bytes_in, stats.bytes_in);
        let is_answer = stats.bytes_out != std::mem::replace(&mut self.bytes_out, stats.bytes_out);
        let is_bulk = received >= BULK_BYTES * messages as u64;
        let is_close = last.is_some_and(|last| now - last < STEADY_WITHIN);
        // Whatever was sent meanwhile may be what this answers, and then the next thing that is
        // sent may wait for it.
        self.steady_reads = if is_bulk && is_close && !is_answer {
            self.steady_reads.saturating_add(1)
        } else {
            0
        };
        let gathers = self.steady_reads >= STEADY_READS && messages <= ENOUGH;
        self.until = gathers.then_some(now + PAUSE);
    }

    /// Until when nothing is to be read; `None` at once.
    pub(super) fn pauses_until(&mut self, now: Instant) -> Option<Instant> {
        self.until = self.until.filter(|until| *until > now);
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of one message each, `apart` from each other, of `bytes` bytes; the last one's pause.
    fn pause_after(
        reads: u32,
        apart: Duration,
        bytes: u64,
        sends: impl Fn(u32) -> bool,
    ) -> Option<Duration> {
        let mut gathering = Gathering::default();
        let mut stats = Stats::default();
        let mut now = Instant::now();
        for read in 0..reads {
            now += apart;
            stats.bytes_in += bytes;
            stats.bytes_out += u64::from(sends(read));
            gathering.take_read(now, 1, &stats);
        }
        gathering.pauses_until(now).map(|until| until - now)
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_stream_is_read_in_batches_and_its_beginning_at_once() {
        assert_eq!(pause_after(16, MILLISECOND, 1024, |_| false), None);
        assert_eq!(pause_after(17, MILLISECOND, 1024, |_| false), Some(PAUSE));
        // Its own pauses do not end it.
        let slower = PAUSE + MILLISECOND;
        assert_eq!(pause_after(100, slower, 1024, |_| false), Some(PAUSE));
    }

    #[test]
    fn what_somebody_may_wait_for_is_read_at_once() {
        let small = pause_after(100, MILLISECOND, 40, |_| false);
        assert_eq!(small, None, "small messages");
        let slow = pause_after(100, STEADY_WITHIN, 1024, |_| false);
        assert_eq!(slow, None, "now and then one");
        let asked = pause_after(100, MILLISECOND, 1024, |read| read % 10 == 0);
        assert_eq!(asked, None, "answers to what is sent");
    }

    #[test]
    fn a_stream_that_brings_many_at_once_is_not_held_back() {
        let mut gathering = Gathering::default();
        let mut stats = Stats::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            now += MILLISECOND;
            stats.bytes_in += 9 * 1024;
            gathering.take_read(now, 9, &stats);
        }
        assert_eq!(gathering.pauses_until(now), None);
    }

    #[test]
    fn a_pause_ends_by_itself() {
        let mut gathering = Gathering::default();
        let now = Instant::now();
        gathering.until = Some(now + PAUSE);
        assert_eq!(gathering.pauses_until(now + PAUSE), None);
        assert_eq!(gathering.pauses_until(now), None);
    }
}
