//! When the next call may go out: a token bucket with a queue before it. No clock and no file here:
//! both are the caller's.

use serde::{Deserialize, Serialize};

/// After a throttled call the time between two becomes so much longer.
const SLOWER: f64 = 1.4;
/// While nothing is throttled the time between two becomes so much shorter, once in
/// [`EASE_EVERY_MS`].
const FASTER: f64 = 0.9;
/// How often the bucket may become faster, in milliseconds.
const EASE_EVERY_MS: i64 = 5_000;
/// How much the last call counts in the share of throttled ones.
const NEWEST: f64 = 0.1;
/// Up to this share of throttled calls the bucket is as fast as the quota allows. Calls of a busy
/// machine, or over a slow network, overtake each other and arrive several at once: some are
/// throttled then though nobody else uses the quota, and each of those leaves the service a call
/// richer than the bucket knows. Going slower would give away what the quota allows.
const TOLERATED_SHARE: f64 = 0.25;
/// Several calls on their way at once are throttled together; they make it slower once.
const SLOW_EVERY_MS: i64 = 1_000;
/// The longest time between two calls, in milliseconds.
const SLOWEST_MS: f64 = 4_000.0;
/// A ticket that nobody has renewed for so long belongs to a process that has died or stands still,
/// in milliseconds.
const LEASE_MS: i64 = 3_000;
/// How often a waiting process looks at the least, so that its ticket stays, in milliseconds.
pub(super) const LOOK_MS: i64 = 500;
/// Bulk goes behind what comes up to so much later, in milliseconds. It is a head start and no
/// rank, so that bulk is never left out for good.
const HEAD_START_MS: i64 = 30_000;
/// Tickets beyond so many are not queued: the file stays small.
const QUEUE_BOUND: usize = 4_096;

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Urgency {
    /// Somebody waits for just this: a shell, an ssh, the first session of a small copy.
    #[default]
    Interactive,
    /// One of many: sessions side by side, copies with many servers.
    Bulk,
}

/// A place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ticket {
    /// Random, so that it is its owner's.
    pub(super) number: u64,
    /// Whose it is; a process that is not there any more waits for nothing.
    pub(super) pid: u32,
    pub(super) urgency: Urgency,
    /// When it came, in milliseconds since 1970.
    pub(super) came_ms: i64,
    /// When its owner last looked.
    pub(super) seen_ms: i64,
}

impl Ticket {
    /// Decides the order: first come, first served, with the head start.
    fn due_ms(&self) -> i64 {
        match self.urgency {
            Urgency::Interactive => self.came_ms,
            Urgency::Bulk => self.came_ms + HEAD_START_MS,
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallTurn {
    /// Call.
    Now,
    /// Ask again in so many milliseconds.
    Later(i64),
}

/// The bucket of one operation in one account and region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bucket {
    /// Time between two calls once the burst is used up, in milliseconds; 0 is no limit.
    interval_ms: f64,
    /// The interval that the quota allows: never faster than this. 0 until the service has
    /// throttled something.
    floor_ms: f64,
    /// Calls that may go out at once after a pause.
    burst: f64,
    /// The same while nothing is throttled. It is one less than a second's worth of the quota: a
    /// call that is on its way for a shorter time than the one before it must not find the
    /// service's bucket empty.
    full_burst: f64,
    /// When the bucket is full again, in milliseconds since 1970.
    full_ms: f64,
    /// When the interval last changed.
    changed_ms: i64,
    /// The share of throttled calls among the last ones, from 0 to 1.
    #[serde(default)]
    throttled_share: f64,
    queue: Vec<Ticket>,
}

impl Bucket {
    /// A full one for `per_second` calls a second of a quota of `quota`; 0 is no limit until the
    /// service throttles.
    pub(super) fn new(per_second: f64, quota: f64) -> Self {
        let interval_ms = if per_second > 0.0 {
            1000.0 / per_second
        } else {
            0.0
        };
        let full_burst = (per_second.max(quota) - 1.0).max(1.0);
        Self {
            interval_ms,
            floor_ms: interval_ms,
            burst: full_burst,
            full_burst,
            full_ms: 0.0,
            changed_ms: 0,
            throttled_share: 0.0,
            queue: Vec::new(),
        }
    }

    /// Whether the owner of `ticket` may call at `now_ms`; its ticket is queued, renewed, or with
    /// [`CallTurn::Now`] taken out. `is_there` tells whether a process still lives.
    pub(super) fn ask(
        &mut self,
        ticket: &Ticket,
        now_ms: i64,
        is_there: impl Fn(u32) -> bool,
    ) -> CallTurn {
        self.forget_the_impossible(now_ms);
        self.queue.retain(|other| {
            other.number == ticket.number
                || now_ms - other.seen_ms <= LEASE_MS && is_there(other.pid)
        });
        let is_full = self.queue.len() >= QUEUE_BOUND;
        match self
            .queue
            .iter_mut()
            .find(|other| other.number == ticket.number)
        {
            Some(own) => own.seen_ms = now_ms,
            None if is_full => return CallTurn::Later(LOOK_MS),
            None => self.queue.push(Ticket {
                seen_ms: now_ms,
                ..ticket.clone()
            }),
        }
        // The queue's own note of when the ticket came decides, for its owner as for all others:
        // two that each see the other ahead would wait for ever.
        let ahead = self.ahead_of(ticket.number);
        // One call's worth is there once the bucket has had the time to gain it.
        let ready_ms = self.full_ms - (self.burst - 1.0) * self.interval_ms;
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of this century are exact"
        )]
        let wait_ms = ready_ms + ahead as f64 * self.interval_ms - now_ms as f64;
        if ahead == 0 && wait_ms <= 0.0 {
            self.give_up(ticket.number);
            self.spend(now_ms);
            return CallTurn::Now;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the look")]
        let wait_ms = wait_ms.ceil().clamp(1.0, LOOK_MS as f64) as i64;
        CallTurn::Later(wait_ms)
    }

    /// How many wait before `number`.
    pub(super) fn ahead_of(&self, number: u64) -> usize {
        let own = self.queue.iter().find(|ticket| ticket.number == number);
        own.map_or(0, |own| {
            let before =
                |ticket: &&Ticket| (ticket.due_ms(), ticket.number) < (own.due_ms(), own.number);
            self.queue.iter().filter(before).count()
        })
    }

    /// Takes a ticket out: its owner wants nothing any more.
    pub(super) fn give_up(&mut self, number: u64) {
        self.queue.retain(|ticket| ticket.number != number);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this century are exact"
    )]
    fn spend(&mut self, now_ms: i64) {
        self.full_ms = self.full_ms.max(now_ms as f64) + self.interval_ms;
        self.throttled_share *= 1.0 - NEWEST;
        if self.interval_ms > self.floor_ms && now_ms - self.changed_ms >= EASE_EVERY_MS {
            self.interval_ms = (self.interval_ms * FASTER).max(self.floor_ms);
            self.changed_ms = now_ms;
        }
        if self.interval_ms <= self.floor_ms {
            self.burst = self.full_burst;
        }
    }

    /// The service has throttled a call, whose documented quota is `quota` a second.
    pub(super) fn throttled(&mut self, now_ms: i64, quota: f64) {
        self.throttled_share += NEWEST * (1.0 - self.throttled_share);
        if self.floor_ms == 0.0 {
            // Nothing was known of a limit: from now on the documented one holds.
            self.floor_ms = 1000.0 / quota;
            self.interval_ms = self.floor_ms;
            self.changed_ms = now_ms;
            self.use_up(now_ms);
        } else if self.throttled_share > TOLERATED_SHARE
            && now_ms - self.changed_ms >= SLOW_EVERY_MS
        {
            self.interval_ms = (self.interval_ms * SLOWER).min(SLOWEST_MS);
            self.changed_ms = now_ms;
            // Others use the same quota: nothing is saved up.
            self.burst = 1.0;
            self.use_up(now_ms);
        }
    }

    /// Leaves nothing in the bucket: the next call is due an interval from now at the soonest.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this century are exact"
    )]
    pub(super) fn use_up(&mut self, now_ms: i64) {
        let full_ms = now_ms as f64 + self.burst * self.interval_ms;
        self.full_ms = self.full_ms.max(full_ms);
    }

    /// A clock that was set back, or a machine that was started anew, must not make everybody wait
    /// for a time far away.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this century are exact"
    )]
    fn forget_the_impossible(&mut self, now_ms: i64) {
        let latest = now_ms as f64 + self.full_burst * self.interval_ms.max(SLOWEST_MS);
        if self.full_ms > latest {
            self.full_ms = now_ms as f64;
        }
        if self.changed_ms > now_ms {
            self.changed_ms = now_ms;
        }
        self.queue
            .retain(|ticket| ticket.seen_ms <= now_ms + LEASE_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The service's side: three a second, and up to three at once. Its clock is the test's.
    struct Service {
        tokens: f64,
        at_ms: i64,
        per_second: f64,
        throttled: usize,
    }

    impl Service {
        fn new(per_second: f64) -> Self {
            Self {
                tokens: per_second,
                at_ms: 0,
                per_second,
                throttled: 0,
            }
        }

        #[expect(clippy::cast_precision_loss, reason = "a few minutes in milliseconds")]
        fn call(&mut self, now_ms: i64) -> bool {
            let gained = (now_ms - self.at_ms) as f64 / 1000.0 * self.per_second;
            self.tokens = (self.tokens + gained).min(self.per_second);
            self.at_ms = now_ms;
            if self.tokens < 1.0 {
                self.throttled += 1;
                return false;
            }
            self.tokens -= 1.0;
            true
        }
    }

    fn ticket(number: u64, urgency: Urgency, came_ms: i64) -> Ticket {
        Ticket {
            number,
            pid: 1,
            urgency,
            came_ms,
            seen_ms: came_ms,
        }
    }

    /// Runs waiters, each with when it looks next, until all have been served; gives who was served
    /// when.
    fn run(
        bucket: &mut Bucket,
        service: &mut Service,
        tickets: Vec<Ticket>,
        delay_ms: impl Fn(u64) -> i64,
    ) -> Vec<(i64, Ticket)> {
        let mut waiting: Vec<(i64, Ticket)> = tickets
            .into_iter()
            .map(|ticket| (ticket.came_ms, ticket))
            .collect();
        let mut served = Vec::new();
        // Calls on their way: when they arrive, and whose they are.
        let mut sent: Vec<(i64, Ticket)> = Vec::new();
        while !waiting.is_empty() || !sent.is_empty() {
            let next_look = waiting.iter().map(|(at, _)| *at).min().unwrap_or(i64::MAX);
            let next_call = sent.iter().map(|(at, _)| *at).min().unwrap_or(i64::MAX);
            let now = next_look.min(next_call);
            assert!(now < 600_000, "nobody is served any more");
            if let Some(index) = sent.iter().position(|(at, _)| *at == now) {
                let (_, ticket) = sent.remove(index);
                if service.call(now) {
                    served.push((now, ticket));
                } else {
                    bucket.throttled(now, 3.0);
                    waiting.push((now, ticket));
                }
                continue;
            }
            let index = waiting
                .iter()
                .position(|(at, _)| *at == now)
                .expect("one looks");
            match bucket.ask(&waiting[index].1, now, |_| true) {
                CallTurn::Now => {
                    let (_, ticket) = waiting.remove(index);
                    sent.push((now + delay_ms(ticket.number), ticket));
                }
                CallTurn::Later(ms) => {
                    assert!((1..=LOOK_MS).contains(&ms), "{ms}");
                    waiting[index].0 = now + ms;
                }
            }
        }
        served
    }

    #[test]
    fn a_hundred_starts_take_what_the_quota_allows_and_none_is_throttled() {
        let (mut bucket, mut service) = (Bucket::new(3.0, 3.0), Service::new(3.0));
        let tickets = (0..100)
            .map(|n| ticket(n, Urgency::Interactive, 0))
            .collect();
        // Some arrive sooner than others.
        let served = run(&mut bucket, &mut service, tickets, |n| {
            20 + i64::try_from(n * 37 % 150).expect("small")
        });
        assert_eq!(service.throttled, 0);
        let last = served.iter().map(|(at, _)| *at).max().expect("a hundred");
        // (100 - 3) / 3 s, and a tenth.
        assert!(last <= 35_567, "{last} ms");
    }

    #[test]
    fn calls_that_arrive_out_of_order_are_throttled_at_times_and_cost_no_speed() {
        let (mut bucket, mut service) = (Bucket::new(3.0, 3.0), Service::new(3.0));
        let tickets = (0..100)
            .map(|n| ticket(n, Urgency::Interactive, 0))
            .collect();
        // A machine with too much to do: of each 25 calls five arrive together, the first of
        // them more than a second after its turn.
        let served = run(&mut bucket, &mut service, tickets, |n| {
            let held_up = 4_u64.saturating_sub(n % 25);
            20 + i64::try_from(held_up * 333).expect("small")
        });
        assert!(service.throttled > 0, "the case is none");
        let last = served.iter().map(|(at, _)| *at).max().expect("a hundred");
        // (100 - 3) / 3 s, and a tenth.
        assert!(last <= 35_567, "{last} ms, {} throttled", service.throttled);
    }

    #[test]
    fn with_others_at_the_same_quota_it_slows_down_and_all_are_served() {
        let (mut bucket, mut service) = (Bucket::new(3.0, 3.0), Service::new(1.0));
        let tickets = (0..60)
            .map(|n| ticket(n, Urgency::Interactive, 0))
            .collect();
        let served = run(&mut bucket, &mut service, tickets, |_| 30);
        assert_eq!(served.len(), 60);
        // It stays near the limit of the other side: no more than a third of the calls are in vain.
        assert!(service.throttled < 30, "{} throttled", service.throttled);
        let last = served.iter().map(|(at, _)| *at).max().expect("sixty");
        assert!(last < 100_000, "{last} ms for 60 at one a second");
    }

    #[test]
    fn it_becomes_faster_again_and_never_faster_than_the_quota() {
        let mut bucket = Bucket::new(3.0, 3.0);
        for second in 1..=10 {
            bucket.throttled(second * 1_000, 3.0);
        }
        assert!(bucket.interval_ms > 3_000.0);
        let mut now = 20_000;
        for number in 0..300 {
            while bucket.ask(&ticket(number, Urgency::Interactive, now), now, |_| true)
                != CallTurn::Now
            {
                now += 100;
            }
        }
        assert!(
            (bucket.interval_ms - 1000.0 / 3.0).abs() < 0.01,
            "{}",
            bucket.interval_ms
        );
        assert!((bucket.burst - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn first_come_first_served_and_what_somebody_waits_for_before_bulk() {
        let (mut bucket, mut service) = (Bucket::new(3.0, 3.0), Service::new(3.0));
        let mut tickets: Vec<Ticket> = (0..20).map(|n| ticket(n, Urgency::Bulk, 0)).collect();
        tickets.extend((20..24).map(|n| ticket(n, Urgency::Interactive, 1_000)));
        let served = run(&mut bucket, &mut service, tickets, |_| 10);
        let numbers: Vec<u64> = served.iter().map(|(_, ticket)| ticket.number).collect();
        let bulk: Vec<u64> = numbers.iter().copied().filter(|n| *n < 20).collect();
        assert!(bulk.is_sorted(), "{numbers:?}");
        let first = numbers.iter().position(|n| *n >= 20).expect("one of four");
        assert_eq!(numbers[first..first + 4], [20, 21, 22, 23], "{numbers:?}");
        assert!(first <= 5, "{numbers:?}");
    }

    #[test]
    fn bulk_is_not_left_out_for_good() {
        let mut bucket = Bucket::new(1.0, 3.0);
        let bulk = ticket(1, Urgency::Bulk, 0);
        let mut now = 0;
        let mut number = 10;
        // The burst is gone.
        while bucket.ask(&ticket(number, Urgency::Interactive, now), now, |_| true) == CallTurn::Now
        {
            number += 1;
        }
        // Somebody impatient is always there, and takes each turn.
        loop {
            if bucket.ask(&ticket(number, Urgency::Interactive, now), now, |_| true)
                == CallTurn::Now
            {
                number += 1;
            }
            if bucket.ask(&bulk, now, |_| true) == CallTurn::Now {
                break;
            }
            now += 100;
            assert!(now < 60_000, "bulk waits for ever");
        }
        assert!(now >= 29_000, "{now} ms");
    }

    #[test]
    fn who_has_died_or_stands_still_holds_nothing() {
        let mut bucket = Bucket::new(1.0, 3.0);
        let take = |bucket: &mut Bucket, number, now| {
            bucket.ask(&ticket(number, Urgency::Interactive, now), now, |_| true)
        };
        // The burst is gone.
        assert_eq!(take(&mut bucket, 1, 0), CallTurn::Now);
        assert_eq!(take(&mut bucket, 2, 0), CallTurn::Now);
        let dead = Ticket {
            pid: 7,
            ..ticket(3, Urgency::Interactive, 1)
        };
        assert!(matches!(bucket.ask(&dead, 1, |_| true), CallTurn::Later(_)));
        let own = ticket(4, Urgency::Interactive, 2);
        // One turn is there at 1,000 ms: it belongs to the first, who is gone.
        assert!(matches!(
            bucket.ask(&own, 1_000, |_| true),
            CallTurn::Later(_)
        ));
        assert_eq!(bucket.ask(&own, 1_001, |pid| pid != 7), CallTurn::Now);

        let still = ticket(5, Urgency::Interactive, 1_002);
        assert!(matches!(
            bucket.ask(&still, 1_002, |_| true),
            CallTurn::Later(_)
        ));
        let own = ticket(6, Urgency::Interactive, 1_003);
        assert!(matches!(
            bucket.ask(&own, 3_000, |_| true),
            CallTurn::Later(_)
        ));
        assert_eq!(bucket.ask(&own, 5_000, |_| true), CallTurn::Now);
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nobody() {
        let mut bucket = Bucket::new(3.0, 3.0);
        let day = 86_400_000;
        for number in 0..2 {
            assert_eq!(
                bucket.ask(&ticket(number, Urgency::Interactive, day), day, |_| true),
                CallTurn::Now
            );
        }
        let now = 1_000;
        let waits = bucket.ask(&ticket(9, Urgency::Interactive, now), now, |_| true);
        assert!(
            matches!(waits, CallTurn::Now | CallTurn::Later(..=500)),
            "{waits:?}"
        );
        assert_eq!(
            bucket.ask(&ticket(9, Urgency::Interactive, now), now + 1_000, |_| true),
            CallTurn::Now
        );
    }

    #[test]
    fn without_a_known_limit_nothing_waits_until_the_service_throttles() {
        let mut bucket = Bucket::new(0.0, 3.0);
        for number in 0..1_000 {
            assert_eq!(
                bucket.ask(&ticket(number, Urgency::Bulk, 0), 0, |_| true),
                CallTurn::Now
            );
        }
        bucket.throttled(0, 3.0);
        assert!(matches!(
            bucket.ask(&ticket(1, Urgency::Bulk, 0), 0, |_| true),
            CallTurn::Later(_)
        ));
        assert_eq!(
            bucket.ask(&ticket(1, Urgency::Bulk, 0), 334, |_| true),
            CallTurn::Now
        );
    }
}
