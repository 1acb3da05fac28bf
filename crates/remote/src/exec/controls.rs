//! What a run is asked for while it runs, and how long a signal may stay without an answer.

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::{Control, Signal};

/// A server that has the signal may be silent for so many times [`super::Request::signal_patience`]
/// before nobody waits for it any more. With the usual ten seconds this is two minutes: of hundreds
/// of commands that were interrupted together, the last one gets its next session only when the
/// service has started those of the others.
const DELIVERED_TIMES: u32 = 12;
/// Between two tries to send the same signal.
const RESEND_PAUSE: Duration = Duration::from_secs(1);

/// Where a signal goes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalRoute {
    /// By the session of the output, which ends with it.
    Line,
    /// By the session of the input.
    Feed,
    /// By a session of its own.
    Own,
}

/// What is to be done about a signal that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// By a session of its own: the way that was taken first has not brought it there.
    Resend(Signal),
    /// Nobody waits any longer.
    GiveUp(Unanswered),
}

/// A signal for a command of which nothing was heard since, or that could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server did not answer to SIG{}", .signal.name())]
pub struct Unanswered {
    /// The first signal that asked the command to end.
    pub signal: Signal,
    /// The server has it, as far as is known here.
    pub(super) is_delivered: bool,
    /// The session of the output lives all the same.
    pub(super) is_server_heard: bool,
}

/// The first signal that asks the command to end, from its arrival here on.
#[derive(Debug)]
struct EndSignal {
    signal: Signal,
    /// When it came, and from its first sending on, when that was.
    since: Instant,
    route: Option<SignalRoute>,
    /// Ends when it is known whether the server has it.
    delivery: Option<JoinHandle<bool>>,
    is_delivered: bool,
    /// When it goes by a session of its own, unless it has been delivered by then.
    resend_at: Option<Instant>,
    /// A session of its own has failed.
    is_refused: bool,
}

impl EndSignal {
    fn new(signal: Signal) -> Self {
        Self {
            signal,
            since: Instant::now(),
            route: None,
            delivery: None,
            is_delivered: false,
            resend_at: None,
            is_refused: false,
        }
    }

    fn forget_delivery(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.abort();
        }
    }

    /// When nobody waits any longer, if the server was heard last at `heard`.
    fn deadline(&self, patience: Duration, heard: Option<Instant>) -> Instant {
        let quiet_since = heard.map_or(self.since, |heard| heard.max(self.since));
        quiet_since
            + if self.is_delivered {
                patience * DELIVERED_TIMES
            } else {
                patience
            }
    }

    fn verdict(&self, now: Instant, patience: Duration, heard: Option<Instant>) -> Verdict {
        let unanswered = |is_server_heard| {
            Verdict::GiveUp(Unanswered {
                signal: self.signal,
                is_delivered: self.is_delivered,
                is_server_heard,
            })
        };
        if now >= self.deadline(patience, heard) {
            return unanswered(false);
        }
        if self.is_delivered {
            return Verdict::Wait;
        }
        if self.is_refused && now >= self.since + patience {
            return unanswered(heard.is_some());
        }
        match self.resend_at {
            Some(at) if now >= at => Verdict::Resend(self.signal),
            _ => Verdict::Wait,
        }
    }
}

impl Drop for EndSignal {
    fn drop(&mut self) {
        self.forget_delivery();
    }
}

/// Whether `signal` asks the command to end. The other ones have the meaning that a command gives
/// them, and nobody waits for an answer to them.
fn asks_for_an_end(signal: Signal) -> bool {
    !matches!(signal, Signal::User1 | Signal::User2)
}

/// What a run is asked for.
#[derive(Debug, Default)]
pub(super) struct Controls {
    /// `None` once nobody can ask any more.
    receiver: Option<mpsc::UnboundedReceiver<Control>>,
    /// What was asked for and is not done yet: there may be no session.
    waiting: VecDeque<Control>,
    end: Option<EndSignal>,
    /// See [`super::Request::signal_patience`].
    patience: Duration,
}

impl Controls {
    pub(super) fn new(receiver: mpsc::UnboundedReceiver<Control>, patience: Duration) -> Self {
        Self {
            receiver: Some(receiver),
            waiting: VecDeque::new(),
            end: None,
            patience,
        }
    }

    /// What is to be done next.
    pub(super) fn pop(&mut self) -> Option<Control> {
        self.waiting.pop_front()
    }

    /// Whether anybody can ask for something still.
    pub(super) fn is_open(&self) -> bool {
        self.receiver.is_some()
    }

    /// Takes in what happens next: a request, the fate of a signal, or time for another
    /// [`Self::verdict`]. `heard` is when the server was heard last. Cancel-safe.
    pub(super) async fn changed(&mut self, heard: Option<Instant>) {
        let Self { receiver, end, .. } = self;
        let due = end.as_ref().map(|end| {
            let deadline = end.deadline(self.patience, heard);
            // Looked at after that even if the server is heard meanwhile.
            end.resend_at.map_or(deadline, |at| at.min(deadline))
        });
        let delivery = end.as_mut().and_then(|end| end.delivery.as_mut());
        tokio::select! {
            biased;
            control = receive(receiver) => match control {
                Some(control) => self.note(control),
                None => self.receiver = None,
            },
            delivered = finished(delivery) => self.note_delivery(delivered),
            () = sleep_until(due) => {}
        }
    }

    fn note(&mut self, control: Control) {
        if let Control::Signal(signal) = control
            && asks_for_an_end(signal)
            && self.end.is_none()
        {
            self.end = Some(EndSignal::new(signal));
        }
        self.waiting.push_back(control);
    }

    fn note_delivery(&mut self, is_delivered: bool) {
        let Some(end) = &mut self.end else { return };
        end.delivery = None;
        end.is_delivered |= is_delivered;
        if is_delivered {
            end.resend_at = None;
        } else {
            end.is_refused |= end.route == Some(SignalRoute::Own);
            end.resend_at = Some(Instant::now() + RESEND_PAUSE);
        }
    }

    /// `signal` is on its way by `route`; `delivery` ends when it is known whether the server has
    /// it.
    pub(super) fn sent(
        &mut self,
        signal: Signal,
        route: SignalRoute,
        delivery: impl Future<Output = bool> + Send + 'static,
    ) {
        let task = tokio::spawn(delivery);
        // One that nobody waits for goes its way all the same.
        let Some(end) = &mut self.end else { return };
        if end.signal != signal || end.is_delivered {
            return;
        }
        end.forget_delivery();
        let now = Instant::now();
        if end.route.is_none() {
            end.since = now;
        }
        end.route = Some(route);
        end.delivery = Some(task);
        end.resend_at = (route != SignalRoute::Own).then(|| now + self.patience / 2);
    }

    /// The session of the output is lost. One that the agent has ended has taken the signal before:
    /// that is what ends it. Of any other nobody knows, and a signal that comes twice is better
    /// than one that never comes.
    pub(super) fn line_lost(&mut self, has_ended: bool) {
        let Some(end) = &mut self.end else { return };
        if end.is_delivered || end.route != Some(SignalRoute::Line) {
            return;
        }
        end.forget_delivery();
        end.resend_at = None;
        if has_ended {
            end.is_delivered = true;
        } else {
            self.waiting.push_front(Control::Signal(end.signal));
        }
    }

    /// What is to be done at `now` about the signal that waits for its answer, if the server was
    /// heard last at `heard`.
    pub(super) fn verdict(&self, now: Instant, heard: Option<Instant>) -> Verdict {
        let end = self.end.as_ref();
        end.map_or(Verdict::Wait, |end| end.verdict(now, self.patience, heard))
    }

    /// Takes in requests while there is no session; ends when a signal was without an answer for
    /// too long. Cancel-safe.
    pub(super) async fn unanswered(&mut self) -> Unanswered {
        loop {
            match self.verdict(Instant::now(), None) {
                Verdict::GiveUp(unanswered) => return unanswered,
                Verdict::Resend(signal) => {
                    // As soon as there is a session again.
                    self.waiting.push_front(Control::Signal(signal));
                    if let Some(end) = &mut self.end {
                        end.resend_at = None;
                    }
                }
                Verdict::Wait => self.changed(None).await,
            }
        }
    }
}

async fn receive(receiver: &mut Option<mpsc::UnboundedReceiver<Control>>) -> Option<Control> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn finished(delivery: Option<&mut JoinHandle<bool>>) -> bool {
    match delivery {
        Some(delivery) => delivery.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    /// Controls that have got `signal`, and when. Nobody asks for more.
    async fn asked(signal: Signal) -> (Controls, Instant) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = sender.send(Control::Signal(signal));
        let mut controls = Controls::new(receiver, PATIENCE);
        controls.changed(None).await;
        controls.receiver = None;
        let since = controls.end.as_ref().map(|end| end.since);
        (controls, since.unwrap_or_else(Instant::now))
    }

    fn is_given_up(controls: &Controls, now: Instant, heard: Option<Instant>) -> bool {
        matches!(controls.verdict(now, heard), Verdict::GiveUp(_))
    }

    #[tokio::test]
    async fn a_signal_that_finds_no_session_is_given_up_in_time() {
        let (controls, begin) = asked(Signal::Terminate).await;
        assert_eq!(controls.verdict(after(begin, 9), None), Verdict::Wait);
        assert!(is_given_up(&controls, after(begin, 10), None));
        // Nobody waits for an answer to one that asks for no end.
        let (controls, begin) = asked(Signal::User1).await;
        assert_eq!(controls.verdict(after(begin, 1000), None), Verdict::Wait);
    }

    #[tokio::test]
    async fn a_signal_goes_by_a_session_of_its_own_where_the_first_way_does_not_answer() {
        let (mut controls, _) = asked(Signal::Interrupt).await;
        controls.sent(Signal::Interrupt, SignalRoute::Line, std::future::pending());
        let begin = controls.end.as_ref().map(|end| end.since).unwrap();
        let resend = Verdict::Resend(Signal::Interrupt);
        let heard = |seconds| Some(after(begin, seconds));
        assert_eq!(controls.verdict(after(begin, 4), heard(3)), Verdict::Wait);
        assert_eq!(controls.verdict(after(begin, 6), heard(3)), resend);
        controls.sent(Signal::Interrupt, SignalRoute::Own, std::future::pending());
        // As long as that opens and the server is heard.
        assert_eq!(controls.verdict(after(begin, 60), heard(57)), Verdict::Wait);
        controls.note_delivery(false);
        let Verdict::GiveUp(unanswered) = controls.verdict(after(begin, 60), heard(57)) else {
            panic!("it was refused");
        };
        assert!(unanswered.is_server_heard && !unanswered.is_delivered);
    }

    #[tokio::test]
    async fn a_command_that_has_the_signal_may_take_its_time() {
        let (mut controls, begin) = asked(Signal::Terminate).await;
        controls.sent(Signal::Terminate, SignalRoute::Own, async { true });
        controls.changed(Some(begin)).await;
        let hour = 3600;
        assert!(!is_given_up(
            &controls,
            after(begin, hour),
            Some(after(begin, hour - 3))
        ));
        // Its sessions are replaced meanwhile.
        assert!(!is_given_up(&controls, after(begin, 60), None));
        assert!(is_given_up(&controls, after(begin, 130), None));
    }

    #[tokio::test]
    async fn a_signal_that_was_lost_with_its_session_goes_by_the_next_one() {
        for has_ended in [true, false] {
            let (mut controls, _) = asked(Signal::Interrupt).await;
            let control = Control::Signal(Signal::Interrupt);
            assert_eq!(controls.pop(), Some(control));
            controls.sent(Signal::Interrupt, SignalRoute::Line, std::future::pending());
            controls.line_lost(has_ended);
            assert_eq!(controls.pop(), (!has_ended).then_some(control));
        }
    }
}
