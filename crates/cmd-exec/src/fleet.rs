//! A command on many servers side by side: who is started when, and what is heard of them.

use std::{future::Future, sync::Arc, time::Instant};

use bytes::Bytes;
use jiff::Timestamp;
use ops_ui::{Result, Text};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    capture::Stream,
    outcome::{Ending, Outcome},
    rollout::RolloutPlan,
};

/// Pieces of output that may wait to be shown, of all servers together: who shows them slowly holds
/// back the commands.
const WAITING: usize = 64;

/// What is heard of one server.
#[derive(Clone, Debug)]
pub(crate) enum HostEvent {
    /// A session to it is being opened.
    Starting,
    /// The command runs.
    Running,
    Piece(Stream, Bytes),
    Note(Text),
    Ended(Ending),
}

/// Tells what happens on one server.
#[derive(Clone)]
pub(crate) struct Teller {
    host: usize,
    sender: mpsc::Sender<(usize, HostEvent)>,
}

impl Teller {
    /// Waits while others are ahead. Nobody may listen any more: then the task is about to be
    /// dropped.
    pub(crate) async fn tell(&self, heard: HostEvent) {
        let _ = self.sender.send((self.host, heard)).await;
    }
}

/// Runs the command on one server, known by its number.
pub(crate) trait Runner: Send + Sync + 'static {
    /// To its end. Dropped, the command there is ended.
    fn run(&self, host: usize, teller: Teller) -> impl Future<Output = Outcome> + Send;
}

/// Whoever looks on.
pub(crate) trait Audience {
    /// Shows it.
    ///
    /// # Errors
    /// The output cannot be written any more.
    fn hear(&mut self, host: usize, heard: HostEvent) -> Result<()>;

    /// Whether the batch with this number may start.
    ///
    /// # Errors
    /// Nobody can be asked.
    fn may_start(&mut self, batch: usize) -> impl Future<Output = Result<bool>> + Send;
}

/// Runs the command on so many `servers` in the order of `plan`, on at most `parallel` at a time;
/// nothing more is started once `stop` has ended. Gives how each ended.
///
/// # Errors
/// Those of the audience: whatever runs is ended then.
pub(crate) async fn run<R: Runner>(
    runner: Arc<R>,
    servers: usize,
    plan: &RolloutPlan,
    parallel: usize,
    stop: impl Future<Output = ()>,
    audience: &mut impl Audience,
) -> Result<Vec<Ending>> {
    let (sender, mut told) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    let mut endings: Vec<Option<Ending>> = vec![None; servers];
    let mut failures = 0;
    let mut stopped: Option<String> = None;
    let mut stop = std::pin::pin!(stop);
    for (number, batch) in plan.batches.iter().enumerate() {
        if number > 0 && stopped.is_none() && !audience.may_start(number).await? {
            stopped = Some(format!("{} was not confirmed", plan.name_of(number)));
        }
        let mut waiting = batch.clone();
        let mut running = 0;
        loop {
            while stopped.is_none()
                && running < parallel
                && let Some(host) = waiting.next()
            {
                let teller = Teller {
                    host,
                    sender: sender.clone(),
                };
                tasks.spawn(run_one(runner.clone(), teller));
                running += 1;
            }
            if running == 0 {
                break;
            }
            let (host, heard) = tokio::select! {
                // A request to stop comes before what would start the next one.
                biased;
                () = &mut stop, if stopped.is_none() => {
                    stopped = Some("interrupted".to_owned());
                    continue;
                }
                // The channel cannot end: this function holds a sender.
                Some(told) = told.recv() => told,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended
                        && let Ok(panic) = error.try_into_panic()
                    {
                        std::panic::resume_unwind(panic);
                    }
                    continue;
                }
            };
            if let HostEvent::Ended(ending) = &heard {
                running -= 1;
                failures += usize::from(!ending.outcome.is_success());
                endings[host] = Some(ending.clone());
                if stopped.is_none() {
                    stopped = plan.stopped_by(failures, number);
                }
            }
            audience.hear(host, heard)?;
        }
    }
    let why = stopped.unwrap_or_default();
    let mut all = Vec::with_capacity(servers);
    for (host, ending) in endings.into_iter().enumerate() {
        let ending = match ending {
            Some(ending) => ending,
            None => {
                let ending = Ending::not_started(&why);
                audience.hear(host, HostEvent::Ended(ending.clone()))?;
                ending
            }
        };
        all.push(ending);
    }
    Ok(all)
}

async fn run_one<R: Runner>(runner: Arc<R>, teller: Teller) {
    let (started, clock) = (Timestamp::now(), Instant::now());
    teller.tell(HostEvent::Starting).await;
    let outcome = runner.run(teller.host, teller.clone()).await;
    let is_started = !matches!(outcome, Outcome::NotStarted(_));
    let ending = Ending {
        outcome,
        started: is_started.then_some(started),
        took: clock.elapsed(),
    };
    teller.tell(HostEvent::Ended(ending)).await;
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use ops_remote::exec::Status;
    use ops_ui::{Error, ErrorKind};
    use tokio::sync::Barrier;

    use super::*;
    use crate::rollout::RolloutOptions;

    /// Servers that end as they are told to.
    struct Servers {
        codes: Vec<u8>,
        order: Mutex<Vec<usize>>,
        at_once: AtomicUsize,
        most: AtomicUsize,
        /// As many as are said to run together wait for each other.
        together: Option<Barrier>,
    }

    impl Servers {
        fn new(codes: &[u8]) -> Self {
            Self {
                codes: codes.to_vec(),
                order: Mutex::default(),
                at_once: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
                together: None,
            }
        }

        fn order(&self) -> Vec<usize> {
            self.order.lock().expect("the order").clone()
        }
    }

    impl Runner for Servers {
        async fn run(&self, host: usize, teller: Teller) -> Outcome {
            self.order.lock().expect("the order").push(host);
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            teller.tell(HostEvent::Running).await;
            teller
                .tell(HostEvent::Piece(Stream::Stdout, Bytes::from_static(b"x\n")))
                .await;
            if let Some(together) = &self.together {
                together.wait().await;
            }
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            Outcome::Ended(Status::Code(self.codes[host]))
        }
    }

    #[derive(Default)]
    struct RecordedAudience {
        heard: Vec<(usize, &'static str)>,
        refuses: Option<usize>,
        breaks: bool,
    }

    impl Audience for RecordedAudience {
        fn hear(&mut self, host: usize, heard: HostEvent) -> Result<()> {
            if self.breaks && matches!(heard, HostEvent::Piece(..)) {
                return Err(Error::new(ErrorKind::BrokenPipe, "closed"));
            }
            self.heard.push((
                host,
                match heard {
                    HostEvent::Starting => "starting",
                    HostEvent::Running => "running",
                    HostEvent::Piece(..) => "piece",
                    HostEvent::Note(_) => "note",
                    HostEvent::Ended(ending) => ending.outcome.state(),
                },
            ));
            Ok(())
        }

        async fn may_start(&mut self, batch: usize) -> Result<bool> {
            Ok(self.refuses != Some(batch))
        }
    }

    async fn go(
        servers: &Arc<Servers>,
        wishes: RolloutOptions,
        parallel: usize,
        hall: &mut RecordedAudience,
    ) -> Result<Vec<&'static str>> {
        let count = servers.codes.len();
        let plan = RolloutPlan::new(count, wishes);
        let stop = std::future::pending();
        let endings = run(servers.clone(), count, &plan, parallel, stop, hall).await?;
        Ok(endings
            .iter()
            .map(|ending| ending.outcome.state())
            .collect())
    }

    #[tokio::test]
    async fn no_more_run_at_a_time_than_are_allowed() {
        let mut servers = Servers::new(&[0; 12]);
        servers.together = Some(Barrier::new(3));
        let servers = Arc::new(servers);
        let mut hall = RecordedAudience::default();
        let endings = go(&servers, RolloutOptions::default(), 3, &mut hall)
            .await
            .expect("ends");
        assert_eq!(endings, ["succeeded"; 12]);
        assert_eq!(servers.most.load(Ordering::SeqCst), 3);
        // What a server says comes before its end.
        for host in 0..12 {
            let of: Vec<&str> = hall
                .heard
                .iter()
                .filter(|(of, _)| *of == host)
                .map(|(_, what)| *what)
                .collect();
            assert_eq!(of, ["starting", "running", "piece", "succeeded"]);
        }
    }

    #[tokio::test]
    async fn a_failed_canary_leaves_the_rest_alone() {
        let servers = Arc::new(Servers::new(&[1, 0, 0, 0]));
        let wishes = RolloutOptions {
            canary: Some(1),
            ..RolloutOptions::default()
        };
        let mut hall = RecordedAudience::default();
        let endings = go(&servers, wishes, 20, &mut hall).await.expect("ends");
        assert_eq!(
            endings,
            ["failed", "not-started", "not-started", "not-started"]
        );
        assert_eq!(servers.order(), [0]);
    }

    #[tokio::test]
    async fn too_many_failures_stop_what_has_not_started() {
        let servers = Arc::new(Servers::new(&[0, 9, 9, 9, 0]));
        let wishes = RolloutOptions {
            max_fail: Some("1".parse().expect("a share")),
            ..RolloutOptions::default()
        };
        let endings = go(&servers, wishes, 1, &mut RecordedAudience::default())
            .await
            .expect("ends");
        assert_eq!(
            endings,
            [
                "succeeded",
                "failed",
                "failed",
                "not-started",
                "not-started"
            ]
        );
    }

    #[tokio::test]
    async fn a_batch_waits_for_the_one_before_and_for_its_yes() {
        let servers = Arc::new(Servers::new(&[0; 6]));
        let wishes = RolloutOptions {
            batch: Some("2".parse().expect("a share")),
            ..RolloutOptions::default()
        };
        let mut hall = RecordedAudience {
            refuses: Some(2),
            ..RecordedAudience::default()
        };
        let endings = go(&servers, wishes, 20, &mut hall).await.expect("ends");
        assert_eq!(endings[..4], ["succeeded"; 4]);
        assert_eq!(endings[4..], ["not-started"; 2]);
        let ended = |host| {
            hall.heard
                .iter()
                .position(|heard| *heard == (host, "succeeded"))
                .expect("an end")
        };
        let began = hall
            .heard
            .iter()
            .position(|heard| *heard == (2, "starting"))
            .expect("a beginning");
        assert!(ended(0) < began && ended(1) < began, "{:?}", hall.heard);
    }

    #[tokio::test]
    async fn when_nobody_reads_any_more_all_of_it_ends() {
        let servers = Arc::new(Servers::new(&[0; 3]));
        let mut hall = RecordedAudience {
            breaks: true,
            ..RecordedAudience::default()
        };
        let error = go(&servers, RolloutOptions::default(), 1, &mut hall)
            .await
            .expect_err("a closed pipe");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(servers.order(), [0]);
    }

    #[tokio::test]
    async fn after_an_interruption_nothing_more_is_started() {
        let servers = Arc::new(Servers::new(&[0; 3]));
        let plan = RolloutPlan::new(3, RolloutOptions::default());
        let mut hall = RecordedAudience::default();
        let endings = run(servers.clone(), 3, &plan, 1, async {}, &mut hall)
            .await
            .expect("ends");
        assert!(servers.order().len() < 3);
        assert!(
            matches!(&endings[2].outcome, Outcome::NotStarted(why) if why == "interrupted"),
            "{endings:?}"
        );
    }
}
