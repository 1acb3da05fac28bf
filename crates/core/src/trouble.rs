//! What the user hears of a connection that is lost or an agent that is silent.
//!
//! [`Observer`] is told what happens to a session and says what is worth a word, in one wording for
//! every command. Where another program has the terminal, a connection that is back within
//! [`QUIET`] was never lost as far as anybody has to know: the service closes each one every hour.
//! [`Trouble`] and [`Share`] say it once for a server, however many sessions meet it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ops_session::driver::Event;
use ops_ui::Output;
use tokio::time::Instant;

use crate::context::Context;

/// Where another program has the terminal nothing is said of a connection that is back within this
/// time.
pub const QUIET: Duration = Duration::from_secs(2);

/// Something to say of a session's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It has been lost for a while.
    Lost {
        /// What happened, for people.
        reason: String,
    },
    /// Another attempt has failed for this reason, which was not told before.
    NotBack {
        /// For people.
        why: String,
    },
    /// It is back; that it was lost had been told.
    Resumed {
        /// Since it was lost.
        after: Duration,
    },
    /// The agent owes an answer and says nothing.
    Silent {
        /// Since its last word.
        waited: Duration,
    },
    /// It speaks again.
    Answers,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost { reason } => write!(f, "connection lost ({reason}), resuming"),
            Self::NotBack { why } => write!(f, "not back yet, trying on: {why}"),
            Self::Resumed { after } => write!(
                f,
                "resumed after {:.1} s, nothing was lost",
                after.as_secs_f64()
            ),
            Self::Silent { waited } => {
                write!(f, "the agent has not answered for {} s", waited.as_secs())
            }
            Self::Answers => f.write_str("the agent answers again"),
        }
    }
}

/// Follows one session. No clock of its own.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// How long a lost connection is kept quiet about.
    quiet: Duration,
    lost: Option<Lost>,
    is_silent: bool,
}

#[derive(Clone, Debug)]
struct Lost {
    at: Instant,
    reason: String,
    /// The last reason why an attempt failed.
    why: Option<String>,
    is_told: bool,
}

impl Observer {
    /// One for a terminal that another program has: it waits for [`QUIET`]. The default one says
    /// everything at once.
    pub fn patient() -> Self {
        Self {
            quiet: QUIET,
            ..Self::default()
        }
    }

    /// Takes an event of the session; most are no news.
    pub fn hear(&mut self, now: Instant, event: &Event) -> Option<Notice> {
        match event {
            Event::Disconnected { reason } => {
                self.lost = Some(Lost {
                    at: now,
                    reason: reason.clone(),
                    why: None,
                    is_told: false,
                });
                self.poll(now)
            }
            Event::Reconnecting { why: Some(why), .. } => {
                let lost = self.lost.as_mut()?;
                if lost.why.as_ref() == Some(why) {
                    return None;
                }
                lost.why = Some(why.clone());
                // Before the loss itself is told, its news would come before it.
                lost.is_told.then(|| Notice::NotBack { why: why.clone() })
            }
            Event::Resumed => {
                let lost = self.lost.take().filter(|lost| lost.is_told)?;
                let after = now.saturating_duration_since(lost.at);
                Some(Notice::Resumed { after })
            }
            Event::AgentSilent { waited } => {
                self.is_silent = true;
                Some(Notice::Silent { waited: *waited })
            }
            Event::AgentBack => std::mem::take(&mut self.is_silent).then_some(Notice::Answers),
            _ => None,
        }
    }

    /// When [`Observer::poll`] has something to say, unless something happens before.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let lost = self.lost.as_ref().filter(|lost| !lost.is_told)?;
        Some(lost.at + self.quiet)
    }

    /// Says what time has made worth saying. Call until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Notice> {
        if self.wakes_at().is_none_or(|at| now < at) {
            return None;
        }
        let lost = self.lost.as_mut()?;
        lost.is_told = true;
        let reason = match &lost.why {
            Some(why) => format!("{}; {why}", lost.reason),
            None => lost.reason.clone(),
        };
        Some(Notice::Lost { reason })
    }

    /// Whether the user knows of a lost connection that is not back.
    pub fn has_told_loss(&self) -> bool {
        self.lost.as_ref().is_some_and(|lost| lost.is_told)
    }

    /// Ends when [`Observer::poll`] has something to say. Cancel-safe.
    pub async fn wake(&self) {
        match self.wakes_at() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Sessions of a server that are in trouble now; clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Troubled(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    lost: usize,
    silent: usize,
    /// Why no session is back yet, as it was told last. Forgotten once all are back.
    why: Option<String>,
}

impl Troubled {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part that one session has in the troubles of its server.
#[derive(Debug)]
pub struct Share {
    all: Troubled,
    /// Whether this session counts in [`Counts::lost`] and [`Counts::silent`].
    is_lost: bool,
    is_silent: bool,
}

impl Share {
    /// None yet.
    pub fn of(all: &Troubled) -> Self {
        Self {
            all: all.clone(),
            is_lost: false,
            is_silent: false,
        }
    }

    /// Whether `notice` about this session is news to whoever has heard of the others: the first of
    /// several sessions tells of a trouble, the last of its end, and the same reason is told once.
    pub fn is_news(&mut self, notice: &Notice) -> bool {
        let mut all = self.all.lock();
        match notice {
            Notice::Lost { .. } => begins(&mut self.is_lost, &mut all.lost),
            Notice::Resumed { .. } => end_loss(&mut self.is_lost, &mut all),
            Notice::NotBack { why } => {
                let is_new = all.why.as_ref() != Some(why);
                all.why = Some(why.clone());
                is_new
            }
            Notice::Silent { .. } => begins(&mut self.is_silent, &mut all.silent),
            Notice::Answers => ends(&mut self.is_silent, &mut all.silent),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        end_loss(&mut self.is_lost, &mut all);
        ends(&mut self.is_silent, &mut all.silent);
    }
}

/// The troubles of one session.
pub struct Trouble {
    share: Share,
    output: Output,
    label: String,
    observer: Observer,
}

impl Trouble {
    /// None yet; `label` is the server's.
    pub fn new(all: &Troubled, cx: &Context, label: &str) -> Self {
        Self {
            share: Share::of(all),
            output: cx.output().clone(),
            label: label.to_owned(),
            observer: Observer::default(),
        }
    }

    /// Takes an event of the session.
    pub fn hear(&mut self, event: &Event) {
        let Some(notice) = self.observer.hear(Instant::now(), event) else {
            return;
        };
        if !self.share.is_news(&notice) {
            return;
        }
        let text = format!("{}: {notice}", self.label);
        match notice {
            Notice::NotBack { .. } => self.output.detail(text),
            _ => self.output.note(text),
        }
    }
}

/// Whether it is the first.
fn begins(own: &mut bool, all: &mut usize) -> bool {
    if std::mem::replace(own, true) {
        return false;
    }
    *all += 1;
    *all == 1
}

/// Whether it was the last.
fn ends(own: &mut bool, all: &mut usize) -> bool {
    if !std::mem::take(own) {
        return false;
    }
    *all -= 1;
    *all == 0
}

/// Whether it was the last connection that was lost.
fn end_loss(own: &mut bool, all: &mut Counts) -> bool {
    let is_last = ends(own, &mut all.lost);
    if is_last {
        all.why = None;
    }
    is_last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Event {
        Event::Disconnected {
            reason: "cut".to_owned(),
        }
    }

    fn failed(why: &str) -> Event {
        Event::Reconnecting {
            attempt: 2,
            delay: Duration::ZERO,
            why: Some(why.to_owned()),
        }
    }

    #[test]
    fn nothing_is_said_of_a_connection_that_is_back_within_two_seconds() {
        let start = Instant::now();
        let mut observer = Observer::patient();
        assert_eq!(observer.hear(start, &lost()), None);
        assert_eq!(observer.wakes_at(), Some(start + QUIET));
        let later = start + Duration::from_millis(1900);
        assert_eq!(observer.poll(later), None);
        assert_eq!(observer.hear(later, &Event::Resumed), None);
        assert_eq!(observer.wakes_at(), None);
        assert_eq!(observer.poll(start + Duration::from_secs(9)), None);
    }

    #[test]
    fn a_loss_that_lasts_is_told_with_its_reasons_and_so_is_its_end() {
        let start = Instant::now();
        let mut observer = Observer::patient();
        observer.hear(start, &lost());
        assert_eq!(observer.hear(start, &failed("throttled")), None);
        let told = observer.poll(start + QUIET).expect("a word");
        assert_eq!(
            told.to_string(),
            "connection lost (cut; throttled), resuming"
        );
        assert_eq!(observer.poll(start + QUIET), None);
        // The same reason is worth one word.
        assert_eq!(observer.hear(start + QUIET, &failed("throttled")), None);
        let why = observer.hear(start + QUIET, &failed("no route"));
        assert_eq!(
            why.expect("a word").to_string(),
            "not back yet, trying on: no route"
        );
        let end = observer.hear(start + 2 * QUIET, &Event::Resumed);
        let end = end.expect("a word").to_string();
        assert_eq!(end, "resumed after 4.0 s, nothing was lost");
    }

    #[test]
    fn where_nobody_else_has_the_terminal_everything_is_told_at_once() {
        let start = Instant::now();
        let mut observer = Observer::default();
        let told = observer.hear(start, &lost()).expect("a word");
        assert_eq!(told.to_string(), "connection lost (cut), resuming");
        assert_eq!(observer.wakes_at(), None);
        let end = observer.hear(start, &Event::Resumed).expect("a word");
        assert_eq!(end.to_string(), "resumed after 0.0 s, nothing was lost");
    }

    #[test]
    fn a_silent_agent_is_told_at_once_and_its_first_word_too() {
        let start = Instant::now();
        let mut observer = Observer::patient();
        let waited = Duration::from_secs(10);
        let silent = observer.hear(start, &Event::AgentSilent { waited });
        assert_eq!(silent, Some(Notice::Silent { waited }));
        let answers = observer.hear(start, &Event::AgentBack);
        assert_eq!(answers, Some(Notice::Answers));
        assert_eq!(observer.hear(start, &Event::AgentBack), None);
    }

    #[test]
    fn several_sessions_of_a_server_tell_of_a_trouble_once() {
        let all = Troubled::default();
        let (mut one, mut other) = (Share::of(&all), Share::of(&all));
        let lost = Notice::Lost {
            reason: "cut".to_owned(),
        };
        let not_back = |why: &str| Notice::NotBack {
            why: why.to_owned(),
        };
        let after = Duration::ZERO;
        assert!(one.is_news(&lost));
        assert!(!other.is_news(&lost));
        assert!(one.is_news(&not_back("no login")));
        assert!(!other.is_news(&not_back("no login")));
        assert!(other.is_news(&not_back("no route")));
        assert!(!one.is_news(&Notice::Resumed { after }));
        assert!(other.is_news(&Notice::Resumed { after }));
        // Another trouble is told anew, and one that has ended holds nothing.
        assert!(one.is_news(&lost));
        assert!(one.is_news(&not_back("no route")));
        drop(one);
        assert!(other.is_news(&lost));
        assert!(other.is_news(&not_back("no route")));
    }
}
