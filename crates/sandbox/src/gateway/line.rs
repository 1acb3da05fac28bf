//! One direction of a session's link, with its faults: no clock, no socket, randomness from a seed.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::frame;
use crate::faults::Faults;

/// How much later a reordered message or a second copy arrives, at most.
const REORDER_DELAY_MS: u64 = 30;
/// The router's queue when a rate is given and no queue.
const DEFAULT_QUEUE_BYTES: u64 = 64 * 1024;
/// More than this waits in no line with faults: its source is not read meanwhile.
const HELD_BOUND_BYTES: usize = 64 << 20;
/// The same for a line without, where nothing waits but for a slow reader.
const CLEAN_BOUND_BYTES: usize = 256 << 10;

/// Messages on their way, ordered by when they arrive.
#[derive(Debug)]
pub(super) struct DelayLine {
    faults: Arc<Faults>,
    random: fastrand::Rng,
    towards_client: bool,
    waiting: BinaryHeap<Reverse<DelayedFrame>>,
    held_bytes: usize,
    counter: u64,
    /// When the last byte that was taken has left the limited hop.
    departed: Option<Instant>,
    last_due: Option<Instant>,
}

#[derive(Debug)]
struct DelayedFrame {
    due: Instant,
    order: u64,
    frame: Bytes,
}

impl PartialEq for DelayedFrame {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for DelayedFrame {}

impl PartialOrd for DelayedFrame {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DelayedFrame {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl DelayLine {
    pub(super) fn new(faults: Arc<Faults>, session_seed: u64, towards_client: bool) -> Self {
        let seed = faults
            .seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(session_seed << 1 | u64::from(towards_client));
        Self {
            faults,
            random: fastrand::Rng::with_seed(seed),
            towards_client,
            waiting: BinaryHeap::new(),
            held_bytes: 0,
            counter: 0,
            departed: None,
            last_due: None,
        }
    }

    /// From now on other faults; what is on its way stays on its way.
    pub(super) fn change(&mut self, faults: Arc<Faults>) {
        self.faults = faults;
    }

    /// Takes a message of one side at `now`.
    pub(super) fn push(&mut self, now: Instant, frame: Bytes) {
        if self.faults.leave_messages_alone() {
            // What was pushed while there were faults may still be on its way, and stays in front.
            // What was pushed while there were faults may still be on its way, and stays in front.
            self.hold(self.last_due.map_or(now, |due| due.max(now)), frame);
            return;
        }
        let faults = Arc::clone(&self.faults);
        if self.hits(faults.drop) || (frame::is_acknowledge(&frame) && self.hits(faults.drop_acks))
        {
            return;
        }
        let payload_bytes = frame.len().saturating_sub(frame::PAYLOAD_OFFSET);
        if !self.towards_client
            && faults
                .max_input
                .is_some_and(|most| payload_bytes as u64 > most)
        {
            return;
        }
        let Some(departs) = self.departure(now, frame.len()) else {
            return;
        };
        let mut due = departs + faults.delay + self.up_to(faults.jitter);
        if self.hits(faults.reorder) {
            due += Duration::from_millis(self.random.u64(1..=REORDER_DELAY_MS));
        } else if faults.jitter.is_zero() {
            // Without jitter a line keeps its order, whatever the rate does.
            due = due.max(self.last_due.unwrap_or(due));
            self.last_due = Some(due);
        }
        if self.towards_client && self.hits(faults.garbage) {
            let garbage = self.garbage(&frame);
            self.hold(due, garbage);
        }
        if self.hits(faults.duplicate) {
            let later = due + Duration::from_millis(self.random.u64(0..=REORDER_DELAY_MS));
            self.hold(later, frame.clone());
        }
        self.hold(due, frame);
    }

    /// Takes a message of the gateway itself: it is never lost, and comes after all that was taken
    /// before.
    pub(super) fn push_control(&mut self, now: Instant, frame: Bytes) {
        let due = self
            .waiting
            .iter()
            .map(|Reverse(waiting)| waiting.due)
            .max()
            .unwrap_or(now)
            .max(now);
        self.hold(due, frame);
    }

    /// A message that has arrived by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        if self.waiting.peek()?.0.due > now {
            return None;
        }
        let Reverse(waiting) = self.waiting.pop()?;
        self.held_bytes -= waiting.frame.len();
        // Without faults nothing is later than now, and the last delay must not hold up the next
        // message.
        // Without faults nothing is later than now, and the last delay must not hold up the next
        // message.
        if self.waiting.is_empty() && self.faults.leave_messages_alone() {
            self.last_due = None;
        }
        Some(waiting.frame)
    }

    /// When the next message arrives.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.due)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Loses all that is on its way.
    pub(super) fn clear(&mut self) {
        self.truncate(0);
    }

    /// Loses all but the first `kept` to arrive.
    pub(super) fn truncate(&mut self, kept: usize) {
        let all = std::mem::take(&mut self.waiting).into_sorted_vec();
        // `Reverse` sorts the last first.
        self.waiting = all.into_iter().rev().take(kept).collect();
        self.held_bytes = self
            .waiting
            .iter()
            .map(|Reverse(waiting)| waiting.frame.len())
            .sum();
        if self.waiting.is_empty() {
            self.last_due = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nothing more should be read for now.
    pub(super) fn is_full(&self) -> bool {
        let bound = if self.faults.leave_messages_alone() {
            CLEAN_BOUND_BYTES
        } else {
            HELD_BOUND_BYTES
        };
        self.held_bytes > bound
    }

    /// When a message of this length leaves the limited hop; `None` if its queue has no room.
    fn departure(&mut self, now: Instant, len_bytes: usize) -> Option<Instant> {
        let Some(rate) = self.faults.rate else {
            return Some(now);
        };
        let queue = self.faults.queue_bytes.unwrap_or(DEFAULT_QUEUE_BYTES);
        // A router with one queue: a message starts when the one before it has left, and is dropped
        // if what waits before it fills the queue. One that finds the queue empty passes at any
        // length.
        // A router with one queue: a message starts when the one before it has left, and is dropped
        // if what waits before it fills the queue. One that finds the queue empty passes at any
        // length.
        let start = self.departed.map_or(now, |departed| departed.max(now));
        #[expect(
            clippy::cast_precision_loss,
            reason = "rates and lengths are far below 2^52"
        )]
        let (queued_bytes, takes) = (
            (start - now).as_secs_f64() * rate as f64,
            Duration::from_secs_f64(len_bytes as f64 / rate as f64),
        );
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        if queued_bytes + len_bytes as f64 > queue as f64 && start > now {
            return None;
        }
        self.departed = Some(start + takes);
        self.departed
    }

    fn hold(&mut self, due: Instant, frame: Bytes) {
        self.held_bytes += frame.len();
        self.counter += 1;
        self.waiting.push(Reverse(DelayedFrame {
            due,
            order: self.counter,
            frame,
        }));
    }

    fn hits(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.f64() < share
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return Duration::ZERO;
        }
        most.mul_f64(self.random.f64())
    }

    /// Something that a client must survive: too short, a wrong length, random bytes, an unknown
    /// type, a message of the service with nothing but its type, a spoiled copy of what comes next.
    fn garbage(&mut self, next: &[u8]) -> Bytes {
        match self.random.u8(0..7) {
            0 => Bytes::from_static(&[0; 7]),
            1 => frame::start_publication().slice(..119),
            2 => {
                let mut frame = frame::start_publication().to_vec();
                frame[..4].copy_from_slice(&u32::MAX.to_be_bytes());
                frame.into()
            }
            3 => {
                let len = self.random.usize(0..400);
                std::iter::repeat_with(|| self.random.u8(..))
                    .take(len)
                    .collect()
            }
            4 => frame::bare_start_publication(),
            5 if next.len() > frame::PAYLOAD_OFFSET => {
                let mut spoiled = next.to_vec();
                let at = self.random.usize(frame::PAYLOAD_OFFSET..spoiled.len());
                spoiled[at] ^= 0x20;
                spoiled.into()
            }
            _ => frame::unknown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(faults: &str) -> DelayLine {
        DelayLine::new(Arc::new(faults.parse().unwrap()), 1, true)
    }

    fn frame(number: u32) -> Bytes {
        let mut frame = vec![0; 1000];
        frame[..4].copy_from_slice(&number.to_be_bytes());
        frame.into()
    }

    fn number(frame: &Bytes) -> u32 {
        u32::from_be_bytes(frame[..4].try_into().unwrap())
    }

    fn run(line: &mut DelayLine, count: u32, gap: Duration) -> Vec<(Duration, u32)> {
        let start = Instant::now();
        let mut arrived = Vec::new();
        let take = |line: &mut DelayLine, now: Instant, arrived: &mut Vec<_>| {
            while let Some(frame) = line.pop(now) {
                arrived.push((now - start, number(&frame)));
            }
        };
        let mut now = start;
        for index in 0..count {
            line.push(now, frame(index));
            now += gap;
            take(line, now, &mut arrived);
        }
        while let Some(due) = line.next_due() {
            now = now.max(due);
            take(line, now, &mut arrived);
        }
        arrived
    }

    #[test]
    fn a_clean_line_keeps_order_and_adds_nothing() {
        let arrived = run(&mut line(""), 100, Duration::ZERO);
        let numbers: Vec<u32> = arrived.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert!(arrived.iter().all(|(at, _)| at.is_zero()));
    }

    #[test]
    fn the_same_seed_loses_the_same_messages() {
        let lost = |seed: u32| {
            let mut line = line(&format!("seed={seed},drop=10%"));
            run(&mut line, 1000, Duration::from_millis(1))
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
        assert!((850..950).contains(&lost(1).len()));
    }

    #[test]
    fn only_large_input_is_lost_where_large_input_is_not_taken() {
        let faults: Arc<Faults> = Arc::new("max-input=1000".parse().unwrap());
        for (towards_client, len, passes) in [
            (false, 1120, true),
            (false, 1121, false),
            (true, 1121, true),
        ] {
            let mut line = DelayLine::new(Arc::clone(&faults), 1, towards_client);
            line.push(Instant::now(), vec![0; len].into());
            assert_eq!(line.pop(Instant::now()).is_some(), passes, "{len}");
        }
    }

    #[test]
    fn duplicates_and_reordering_lose_nothing() {
        let mut line = line("duplicate=20%,reorder=20%");
        let arrived = run(&mut line, 1000, Duration::from_millis(1));
        let mut numbers: Vec<u32> = arrived.iter().map(|(_, number)| *number).collect();
        assert!(!numbers.is_sorted());
        assert!(numbers.len() > 1100);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1000);
    }

    #[test]
    fn a_limited_line_gives_its_rate_and_drops_what_its_queue_cannot_hold() {
        let mut line = line("rate=100KB,queue=10KB");
        // 200 KB/s offered for 10 s.
        let arrived = run(&mut line, 2000, Duration::from_millis(5));
        assert!((990..=1012).contains(&arrived.len()), "{}", arrived.len());
        assert!(arrived.is_sorted_by_key(|(_, number)| *number));
    }

    #[test]
    fn a_message_of_the_gateway_is_never_lost_and_comes_last() {
        let mut line = line("drop=50%,delay=20ms");
        let now = Instant::now();
        for index in 0..50 {
            line.push(now, frame(index));
        }
        line.push_control(now, frame(99));
        let mut last = None;
        while let Some(due) = line.next_due() {
            last = line.pop(due);
        }
        assert_eq!(number(&last.unwrap()), 99);
    }
}
