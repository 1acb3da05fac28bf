//! Where a new connection goes, and when a further session is opened: decisions without sessions or
//! clocks.

/// Connections that wait for each session that is on its way. So many start together where each may
/// carry much: `pg_dump -j`, the parts of a download, a browser's six to a host. In a crowd that is
/// larger, most are short, and the time of a session's start would be most of theirs.
const MOST_WAITING_FOR_EACH: usize = 4;

/// The sessions of a pool as a new connection finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PoolView {
    /// The session that carries least, of those that can be used.
    pub(super) best: Option<LightestSession>,
    /// Sessions on their way that may still come in time: each start takes about as long as the one
    /// before.
    pub(super) coming: usize,
    /// Connections that wait for those.
    pub(super) waiting: usize,
}

/// The session that a new connection would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LightestSession {
    /// Connections on it.
    pub(super) streams: usize,
    /// It moves as much as an agent gives.
    pub(super) busy: bool,
}

impl PoolView {
    /// Whether the connection takes the best session now, in place of waiting for one that is on
    /// its way. Each session that comes gets an equal part of those that wait, so that connections
    /// which start together are spread evenly, and no more of them wait than are needed for that,
    /// nor more than [`MOST_WAITING_FOR_EACH`].
    pub(super) fn takes_best(&self) -> bool {
        let Some(best) = self.best else { return false };
        if self.coming == 0 || best.streams == 0 {
            return true;
        }
        let waiting_for_each = self.waiting / self.coming;
        !best.busy
            && (best.streams <= waiting_for_each || waiting_for_each >= MOST_WAITING_FOR_EACH)
    }
}

/// The sessions of a pool, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SessionCount {
    /// Open, with connections on them.
    pub(super) used: usize,
    /// Open, without.
    pub(super) unused: usize,
    /// On their way.
    pub(super) coming: usize,
    /// Connections that wait for one.
    pub(super) waiting: usize,
}

impl SessionCount {
    /// How many sessions are to be opened, so that whoever waits gets one and, with `spare`, the
    /// next connection finds one that nobody uses. Never more than `most` in all.
    pub(super) fn missing(self, spare: bool, most: usize) -> usize {
        let Self {
            used,
            unused,
            coming,
            waiting,
        } = self;
        if used == 0 && waiting == 0 {
            return 0;
        }
        let wanted = waiting + usize::from(spare);
        let room = most.saturating_sub(used + unused + coming);
        wanted.saturating_sub(unused + coming).min(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool in which sessions take a while to start.
    #[derive(Default)]
    struct Pool {
        /// Connections on each open session.
        streams: Vec<usize>,
        coming: usize,
        waiting: usize,
        most: usize,
    }

    impl Pool {
        fn with_one_session(most: usize) -> Self {
            Self {
                streams: vec![0],
                most,
                ..Self::default()
            }
        }

        fn try_place(&mut self) -> bool {
            let Some(at) = (0..self.streams.len()).min_by_key(|&at| self.streams[at]) else {
                return false;
            };
            let scene = PoolView {
                best: Some(LightestSession {
                    streams: self.streams[at],
                    busy: false,
                }),
                coming: self.coming,
                waiting: self.waiting,
            };
            if scene.takes_best() {
                self.streams[at] += 1;
            }
            scene.takes_best()
        }

        fn open_missing(&mut self) {
            let unused = self.streams.iter().filter(|&&count| count == 0).count();
            let used = self.streams.len() - unused;
            let count = SessionCount {
                used,
                unused,
                coming: self.coming,
                waiting: self.waiting,
            };
            self.coming += count.missing(true, self.most);
        }

        fn connect(&mut self) {
            if !self.try_place() {
                self.waiting += 1;
            }
            self.open_missing();
        }

        /// A session that was on its way is there, and those who wait look again.
        fn arrive(&mut self) {
            self.coming -= 1;
            self.streams.push(0);
            for _ in 0..self.waiting {
                self.waiting -= 1;
                if !self.try_place() {
                    self.waiting += 1;
                }
            }
            self.open_missing();
        }

        fn settle(&mut self) -> Vec<usize> {
            while self.coming > 0 {
                self.arrive();
            }
            assert_eq!(self.waiting, 0);
            self.streams.clone()
        }
    }

    #[test]
    fn connections_that_start_together_get_a_session_each() {
        let mut pool = Pool::with_one_session(4);
        for _ in 0..4 {
            pool.connect();
        }
        assert_eq!((pool.coming, pool.waiting), (3, 3));
        assert_eq!(pool.settle(), [1, 1, 1, 1]);
    }

    #[test]
    fn what_starts_together_is_spread_evenly_and_a_part_of_it_waits_for_nothing() {
        let mut pool = Pool::with_one_session(4);
        for _ in 0..16 {
            pool.connect();
        }
        assert!(pool.streams[0] >= 3, "{:?}", pool.streams);
        let streams = pool.settle();
        assert!(
            streams.iter().all(|count| (3..=5).contains(count)),
            "{streams:?}"
        );
    }

    #[test]
    fn of_a_crowd_only_a_few_wait() {
        let mut pool = Pool::with_one_session(4);
        for _ in 0..100 {
            pool.connect();
        }
        assert_eq!(pool.waiting, 3 * MOST_WAITING_FOR_EACH);
        let streams = pool.settle();
        assert_eq!(streams.iter().sum::<usize>(), 100);
        assert!(streams[1..].iter().all(|count| *count >= 1), "{streams:?}");
    }

    #[test]
    fn while_one_session_is_used_another_is_open_or_on_its_way() {
        let mut pool = Pool::with_one_session(4);
        pool.open_missing();
        assert_eq!(pool.coming, 0, "nobody uses it");
        pool.connect();
        assert_eq!((pool.coming, pool.waiting), (1, 0));
        assert_eq!(pool.settle(), [1, 0]);
        pool.connect();
        assert_eq!((pool.settle(), pool.coming), (vec![1, 1, 0], 0));
    }

    #[test]
    fn the_bound_holds_and_then_nobody_waits() {
        let mut pool = Pool::with_one_session(2);
        for _ in 0..3 {
            pool.connect();
        }
        assert_eq!(pool.coming, 1);
        pool.settle();
        for _ in 0..3 {
            pool.connect();
            assert_eq!((pool.coming, pool.waiting), (0, 0));
        }
        assert_eq!(pool.streams.iter().sum::<usize>(), 6);
        let mut alone = Pool::with_one_session(1);
        alone.connect();
        alone.connect();
        assert_eq!((alone.streams, alone.coming), (vec![2], 0));
    }

    #[test]
    fn without_spares_a_session_is_opened_for_those_who_wait_only() {
        let mut count = SessionCount {
            used: 1,
            ..SessionCount::default()
        };
        assert_eq!(count.missing(false, 4), 0);
        assert_eq!(count.missing(true, 4), 1);
        count.waiting = 2;
        assert_eq!(count.missing(false, 4), 2);
        count.coming = 1;
        assert_eq!(count.missing(false, 4), 1);
    }

    #[test]
    fn a_busy_session_is_left_alone_while_another_comes() {
        let mut scene = PoolView {
            best: Some(LightestSession {
                streams: 1,
                busy: true,
            }),
            coming: 1,
            waiting: 5,
        };
        assert!(!scene.takes_best());
        // It does not come in time.
        scene.coming = 0;
        assert!(scene.takes_best());
    }
}
