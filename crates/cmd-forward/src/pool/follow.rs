//! What becomes of a session: told, and replaced when it is gone.

use std::sync::Arc;
use std::time::Duration;

use ops_core::trouble::{self, Share};
use ops_session::driver::Event;
use ops_session::driver::mux::Notice;
use ops_ui::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Pool, PoolSession};

/// First and longest pause between attempts to replace a session.
const REOPEN_DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A session that ended sooner is replaced after a pause: a destination or a service that ends one
/// at once would end the next one too.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// In the agent's text for a session to an address that it forwards nothing to.
const FORBIDDEN_WORDS: &str = "is forbidden";
/// In the service's text for a session that it has closed because nothing passed over it.
const IDLE_WORDS: &str = "due to inactivity";

impl Pool {
    /// Tells what happens to a session, and replaces it when it is gone.
    pub(super) async fn follow(
        self: Arc<Self>,
        number: u32,
        mut notices: mpsc::UnboundedReceiver<Notice>,
    ) {
        let name = self.name();
        let opened = Instant::now();
        let mut observer = self.screen.observer();
        let mut share = Share::of(&self.troubled);
        let mut gone: Option<String> = None;
        let mut over_at_service = false;
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice,
                () = observer.wake() => {
                    while let Some(notice) = observer.poll(Instant::now()) {
                        self.tell(&name, &mut share, &notice);
                    }
                    continue;
                }
            };
            let Some(notice) = notice else { break };
            if let Notice::Session(event) = &notice
                && let Some(notice) = observer.hear(Instant::now(), event)
            {
                self.tell(&name, &mut share, &notice);
            }
            match notice {
                Notice::Session(Event::Disconnected { .. }) => {
                    self.change_slot(number, |slot| slot.resuming = true);
                }
                Notice::Session(Event::Reconnecting { attempt, delay, .. }) => {
                    self.screen.detail(format!(
                        "{name}: attempt {attempt} to resume in {:.1} s",
                        delay.as_secs_f64()
                    ));
                }
                Notice::Session(Event::Resumed) => {
                    self.change_slot(number, |slot| slot.resuming = false);
                }
                Notice::Session(Event::AgentSilent { .. }) => {
                    self.change_slot(number, |slot| slot.silent = true);
                }
                Notice::Session(Event::AgentBack) => {
                    self.change_slot(number, |slot| slot.silent = false);
                }
                Notice::Session(Event::Closed(closing)) => {
                    over_at_service = true;
                    let output = closing.text().trim_end_matches('.').to_owned();
                    gone = Some(if output.is_empty() {
                        "it was terminated".to_owned()
                    } else {
                        output
                    });
                }
                Notice::Session(Event::Failed(error)) => gone = Some(error.to_string()),
                Notice::Broken(error) => gone = Some(error.to_string()),
                Notice::Blocked { waited, .. } => self.screen.warn(format!(
                    "{name}: reset a connection whose client has read nothing for {} s while others on its session waited",
                    waited.as_secs()
                )),
                Notice::Session(_) => {}
            }
        }
        let (mut slot, alone, closed, lost, was_idle, replace) = {
            let mut inner = self.lock();
            let at = inner.slots.iter().position(|slot| slot.number == number);
            let Some(slot) = at.map(|at| inner.slots.remove(at)) else {
                return;
            };
            let alone = inner.slots.is_empty() && inner.starts.is_empty();
            let lost = slot.mux.stream_count();
            let was_idle = lost == 0 && gone.as_deref().is_some_and(|why| why.contains(IDLE_WORDS));
            let forbidden = gone.as_deref().filter(|why| why.contains(FORBIDDEN_WORDS));
            if let Some(why) = forbidden {
                inner.failed = Some(
                    Error::target(format!("{} refuses {}", self.instance.label(), self.remote))
                        .caused_by(why),
                );
            }
            inner.short_lived = match opened.elapsed() < SHORT_LIFE {
                true => inner.short_lived.saturating_add(1),
                false => 0,
            };
            // At once, or a connection that waits would open a second one.
            let replace = alone
                && !was_idle
                && forbidden.is_none()
                && !inner.closed
                && !std::mem::replace(&mut inner.reopening, true);
            (slot, alone, inner.closed, lost, was_idle, replace)
        };
        self.notify();
        match slot.ending.take() {
            Some(ending) if over_at_service => ending.ended(),
            // Dropped, it is terminated in the background.
            ending => drop(ending),
        }
        if closed {
            return;
        }
        if was_idle {
            // Nobody missed it, and a session that nobody uses would only be closed again.
            let text = format!("{name}: the service closed the idle session");
            if alone {
                self.screen
                    .note(format!("{text}; the next connection opens another"));
            } else {
                self.screen.detail(text);
            }
            return;
        }
        let why = gone.unwrap_or_else(|| "it ended".to_owned());
        let lost = match lost {
            0 => String::new(),
            1 => "; 1 connection is lost".to_owned(),
            n => format!("; {n} connections are lost"),
        };
        self.screen
            .note(format!("{name}: the session is gone ({why}){lost}"));
        if replace {
            self.reopen().await;
        }
    }

    /// Ends once the pool is closed.
    async fn closed(&self) {
        let mut changed = self.changed.subscribe();
        while !self.lock().closed {
            let _ = changed.changed().await;
        }
    }

    /// Opens a session in place of the last one, until that works. The caller has set `reopening`.
    async fn reopen(self: &Arc<Self>) {
        let started = Instant::now();
        let mut delay = REOPEN_DELAYS.0;
        let mut told = String::new();
        // The first replacement comes at once.
        let in_a_row = self.lock().short_lived;
        if in_a_row > 1 {
            delay = (delay * (1 << (in_a_row - 2).min(5))).min(REOPEN_DELAYS.1);
            let pause = delay.mul_f64(0.5 + jitter() / 2.0);
            self.screen.detail(format!(
                "{}: another session in {:.1} s, the last {in_a_row} ended soon",
                self.name(),
                pause.as_secs_f64()
            ));
            if tokio::time::timeout(pause, self.closed()).await.is_ok() {
                return;
            }
        }
        loop {
            match self.open(self.urgency_of_awaited()).await {
                Ok(connection) => {
                    self.lock().reopening = false;
                    self.adopt(connection);
                    if !self.lock().closed {
                        self.screen.note(format!(
                            "{}: a new session is open after {:.1} s",
                            self.name(),
                            started.elapsed().as_secs_f64()
                        ));
                    }
                    return;
                }
                Err(error) => {
                    // The same reason is worth one line, not one a second.
                    let text = match error.hints().first() {
                        Some(hint) => format!("{error}; {hint}"),
                        None => error.to_string(),
                    };
                    if text != told {
                        self.screen
                            .note(format!("{}: no new session yet: {text}", self.name()));
                        told = text;
                    }
                }
            }
            let pause = delay.mul_f64(0.5 + jitter() / 2.0);
            delay = (delay * 2).min(REOPEN_DELAYS.1);
            if tokio::time::timeout(pause, self.closed()).await.is_ok() {
                return;
            }
        }
    }

    /// A word about the connection of one session, unless another of the pool has said it; none of
    /// trouble with resuming for whoever ends it.
    fn tell(&self, name: &str, share: &mut Share, notice: &trouble::Notice) {
        let is_vain = matches!(notice, trouble::Notice::NotBack { .. })
            && self.cx.interrupt().requested().is_some();
        if !is_vain && share.is_news(notice) {
            self.screen.note(format!("{name}: {notice}"));
        }
    }

    fn change_slot(&self, number: u32, change: impl FnOnce(&mut PoolSession)) {
        let mut inner = self.lock();
        if let Some(slot) = inner.slots.iter_mut().find(|slot| slot.number == number) {
            change(slot);
        }
        drop(inner);
        self.notify();
    }
}

/// From 0 to 1; only keeps clients that lost the same gateway apart.
fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1_000_000) / 1e6
}
