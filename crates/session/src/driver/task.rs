//! The task that owns a session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::error::SessionError;
use super::pulse::{Pulse, PulseCheck};
use super::resume::{ResumeStart, Resumer};
use super::socket::{Connection, SocketTurn};
use super::{DataKey, DataKeyRequest, Event, Gauge, LargePayloads, NoDataKey, SenderCommand};
use super::{Status, weight};
use crate::closing::Closing;
use crate::data_channel::{self, ChannelError, DataChannel, Stats};
use crate::wire::{PayloadType, parse_exit_code};

/// For the last frames and the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands taken in one turn.
const TURN_COMMANDS: usize = 256;

pub(super) struct Task {
    channel: DataChannel,
    commands: mpsc::UnboundedReceiver<SenderCommand>,
    /// No sender is left.
    senders_gone: bool,
    events: mpsc::UnboundedSender<Event>,
    gauge: Arc<Gauge>,
    room: Arc<Semaphore>,
    bound: usize,
    /// Permits of the send bound held by what is pending.
    held: usize,
    drained: Vec<oneshot::Sender<()>>,
    status: watch::Sender<Status>,
    resumer: Resumer,
    /// The one call for a data key, while it lasts; dropped with the session.
    key_fetch: JoinSet<Result<DataKey, NoDataKey>>,
    origin: Instant,
}

/// Why a connection is no longer carried.
enum CarryEnd {
    Lost(String),
    /// The owner, the service or an error ended the session.
    Over,
}

/// A connection that took the place of a lost one.
#[derive(Clone, Copy, Debug)]
struct ResumedConnection {
    at: Instant,
    /// The attempts it took, of those before it that carried nothing too.
    attempts: u32,
    /// As [`carried`] counted when it began.
    carried: u64,
}

impl ResumedConnection {
    /// Where the attempts to replace it begin, now that it is lost. If anything was acknowledged on
    /// it, it was a success however short its life: the link works, and the user behind it waits.
    ///
    /// A session is resumed once in `every` at most, whatever its connections carry: the service
    /// counts the calls.
    fn beginning(self, now: Instant, stats: &Stats, every: Duration) -> ResumeStart {
        if carried(stats) == self.carried {
            return ResumeStart {
                attempts: self.attempts,
                pause: Duration::ZERO,
            };
        }
        ResumeStart {
            attempts: 0,
            pause: every.saturating_sub(now.saturating_duration_since(self.at)),
        }
    }
}

/// What has been acknowledged so far, by either end.
fn carried(stats: &Stats) -> u64 {
    stats.acked_messages.saturating_add(stats.bytes_in)
}

impl Task {
    #[allow(clippy::too_many_arguments)] // Called once, by `open`.
    pub(super) fn new(
        channel: DataChannel,
        commands: mpsc::UnboundedReceiver<SenderCommand>,
        events: mpsc::UnboundedSender<Event>,
        gauge: Arc<Gauge>,
        room: Arc<Semaphore>,
        status: watch::Sender<Status>,
        resumer: Resumer,
        bound: usize,
    ) -> Self {
        Self {
            channel,
            commands,
            senders_gone: false,
            events,
            gauge,
            room,
            bound,
            held: 0,
            drained: Vec::new(),
            status,
            resumer,
            key_fetch: JoinSet::new(),
            origin: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, mut connection: Connection) {
        let mut resumed: Option<ResumedConnection> = None;
        loop {
            match self.carry(&mut connection).await {
                CarryEnd::Over => break,
                CarryEnd::Lost(reason) => {
                    self.channel.on_disconnected(self.now());
                    self.emit(Event::Disconnected { reason });
                    if self.settle() {
                        // The loss itself has ended the session, and a lost connection needs no
                        // farewell.
                        self.room.close();
                        return;
                    }
                    let beginning = resumed.map_or_else(ResumeStart::default, |resumed| {
                        let every = self.resumer.options.resume_delays.0;
                        resumed.beginning(Instant::now(), &self.channel.stats(), every)
                    });
                    match self.reconnect(beginning).await {
                        Some(Ok((new, attempts))) => {
                            connection = new;
                            resumed = Some(ResumedConnection {
                                at: Instant::now(),
                                attempts,
                                carried: carried(&self.channel.stats()),
                            });
                            self.channel.on_reconnected(self.now());
                            self.emit(Event::Resumed);
                        }
                        Some(Err(error)) => {
                            self.emit(Event::Failed(error));
                            self.room.close();
                            return;
                        }
                        None => {
                            self.room.close();
                            return;
                        }
                    }
                }
            }
        }
        self.room.close();
        // The events end here for the owner, who need not wait for a closing handshake.
        let now = self.now();
        let Self {
            channel,
            events,
            commands,
            ..
        } = self;
        drop((events, commands));
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(now, channel)).await;
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Carries the session over one connection until that ends.
    async fn carry(&mut self, connection: &mut Connection) -> CarryEnd {
        let begin = Instant::now();
        let mut pulse = Pulse::new(&self.resumer.options, begin);
        let mut was_full = false;
        let sleep = tokio::time::sleep_until(pulse.next_look(begin));
        tokio::pin!(sleep);
        loop {
            let now = self.now();
            if self.channel.poll_timeout().is_some_and(|at| at <= now) {
                self.channel.handle_timeout(now);
            }
            // Before anything is awaited: an event that waits for a frame to come could wait for
            // ever.
            if self.settle() {
                return CarryEnd::Over;
            }
            let full = self.gauge.is_full();
            if full && !was_full {
                self.channel.on_reading_stopped(now);
            } else if was_full && !full {
                // While nothing was read, nothing could be heard.
                pulse.heard(self.origin + now);
                self.channel.on_reading_resumed(now);
            }
            was_full = full;

            // Here and not where it wakes the task: a turn that comes first would put it off.
            if sleep.is_elapsed() {
                let owed = self.channel.stats().unacked_messages > 0;
                match pulse.look(Instant::now(), owed, !full) {
                    PulseCheck::Well => {}
                    PulseCheck::Ping => connection.ping(),
                    PulseCheck::Dead(silence) => {
                        return CarryEnd::Lost(format!(
                            "nothing was heard for {} s",
                            silence.as_secs()
                        ));
                    }
                }
            }

            let mut wake = pulse.next_look(self.origin + now);
            if let Some(at) = self.channel.poll_timeout() {
                wake = wake.min(self.origin + at);
            }
            // A timer that is early only costs a turn; moving it at every turn costs more.
            if wake < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(wake);
            }

            let (channel, origin) = (&mut self.channel, self.origin);
            // The clock is read at every poll: what wakes the task comes long after the turn began.
            let turn = std::future::poll_fn(|cx| {
                connection.poll_turn(cx, origin.elapsed(), channel, !full)
            });
            tokio::select! {
                turn = turn => match turn {
                    SocketTurn::Moved { read: 0 } => {}
                    SocketTurn::Moved { .. } => pulse.heard(Instant::now()),
                    SocketTurn::Lost(reason) => {
                        // What was read before the loss still counts.
                        if self.settle() || (self.senders_gone && self.events.is_closed()) {
                            return CarryEnd::Over;
                        }
                        return CarryEnd::Lost(reason);
                    }
                },
                command = self.commands.recv(), if !self.senders_gone => {
                    if self.take_commands(command) {
                        return CarryEnd::Over;
                    }
                }
                Some(fetched) = self.key_fetch.join_next(), if !self.key_fetch.is_empty() => {
                    self.give_data_key(fetched);
                }
                () = self.events.closed(), if self.senders_gone => return CarryEnd::Over,
                () = self.gauge.fell.notified(), if full => {}
                () = &mut sleep => {}
            }
        }
    }

    /// Begins to fetch a data key beside everything else: acknowledgements and pings go on, and the
    /// agent's 15 s run already. One that comes while the connection is lost waits for the next.
    fn fetch_data_key(&mut self, wanted: DataKeyRequest) {
        let gateway = Arc::clone(&self.resumer.gateway);
        let session_id = self.resumer.opening.session_id.clone();
        self.key_fetch
            .spawn(async move { gateway.data_key(&session_id, wanted).await });
    }

    fn give_data_key(&mut self, fetched: Result<Result<DataKey, NoDataKey>, JoinError>) {
        let now = self.now();
        match fetched {
            Ok(Ok(key)) => self.channel.provide_data_key(now, &key),
            Ok(Err(NoDataKey(why))) => self.channel.refuse_data_key(now, &why),
            // It panicked; the session must not wait for it.
            Err(_) => self.channel.refuse_data_key(now, "the call for it failed"),
        }
    }

    /// Gets the connection back while the owner's commands are still taken. `None`: the owner has
    /// left.
    async fn reconnect(
        &mut self,
        beginning: ResumeStart,
    ) -> Option<Result<(Connection, u32), SessionError>> {
        let (progress, mut progressed) = mpsc::unbounded_channel();
        // Fields are borrowed apart: the resumer works while commands are taken.
        let Self {
            channel,
            commands,
            senders_gone,
            events,
            gauge,
            resumer,
            held,
            bound,
            drained,
            ..
        } = self;
        let resume = resumer.resume(beginning, &progress);
        tokio::pin!(resume);
        loop {
            tokio::select! {
                biased;
                // First of all, so that the last attempt is told before its result.
                Some(event) = progressed.recv() => {
                    gauge.add(event.weight());
                    let _ = events.send(event);
                }
                result = &mut resume => return Some(result),
                command = commands.recv(), if !*senders_gone => match command {
                    None => *senders_gone = true,
                    Some(command) => {
                        if !apply(command, channel, held, *bound, drained, Duration::ZERO) {
                            return None;
                        }
                    }
                },
                () = events.closed(), if *senders_gone => return None,
            }
        }
    }

    /// Takes a command and those behind it. True: the owner closes.
    fn take_commands(&mut self, first: Option<SenderCommand>) -> bool {
        let now = self.now();
        let Some(first) = first else {
            self.senders_gone = true;
            return false;
        };
        let mut next = Some(first);
        // A turn takes many, since each turn costs a poll of the socket, but not without a bound: a
        // sender that is always faster must not keep this from reading.
        for _ in 0..TURN_COMMANDS {
            let Some(command) = next else { break };
            if !apply(
                command,
                &mut self.channel,
                &mut self.held,
                self.bound,
                &mut self.drained,
                now,
            ) {
                return true;
            }
            next = self.commands.try_recv().ok();
        }
        if let Some(command) = next {
            return !apply(
                command,
                &mut self.channel,
                &mut self.held,
                self.bound,
                &mut self.drained,
                now,
            );
        }
        false
    }

    /// Passes on what the channel has to say. True: the session is over.
    fn settle(&mut self) -> bool {
        let mut over = false;
        while let Some(event) = self.channel.poll_event() {
            let event = match event {
                data_channel::Event::DataKeyWanted(wanted) => {
                    self.fetch_data_key(wanted);
                    continue;
                }
                data_channel::Event::Ready(ready) => Event::Ready(ready),
                data_channel::Event::Data {
                    payload_type,
                    payload,
                } => match payload_type {
                    PayloadType::Output => Event::Output(apart(payload)),
                    PayloadType::StdErr | PayloadType::Error => Event::Stderr(apart(payload)),
                    PayloadType::ExitCode => match parse_exit_code(&payload) {
                        Some(code) => Event::ExitCode(code),
                        None => continue,
                    },
                    PayloadType::Flag => match crate::wire::Flag::parse(&payload) {
                        Some(flag) => Event::Flag(flag.into()),
                        None => continue,
                    },
                    _ => continue,
                },
                data_channel::Event::Publication { attached } => {
                    tracing::debug!(attached, "publication");
                    continue;
                }
                data_channel::Event::Silent(waited) => Event::AgentSilent { waited },
                data_channel::Event::Back => Event::AgentBack,
                // Nothing is wrong with the session, only with its large payloads: the gateway
                // remembers that for the next one.
                data_channel::Event::ProbeLost => {
                    self.resumer
                        .gateway
                        .large_payloads_lost(LargePayloads::Probe);
                    continue;
                }
                data_channel::Event::Closed { output } => {
                    over = true;
                    Event::Closed(Closing::of(&output))
                }
                data_channel::Event::Failed(error) => {
                    over = true;
                    if matches!(error, ChannelError::LargePayloadLost { .. }) {
                        self.resumer
                            .gateway
                            .large_payloads_lost(LargePayloads::Numbered);
                    }
                    Event::Failed(error.into())
                }
            };
            self.emit(event);
            if over {
                return true;
            }
        }
        // What has been numbered makes room for more.
        let pending = self.channel.pending_bytes();
        if self.held > pending {
            self.room.add_permits(self.held - pending);
            self.held = pending;
        }
        if !self.drained.is_empty() && self.channel.is_drained() {
            for waiter in self.drained.drain(..) {
                let _ = waiter.send(());
            }
        }
        let status = Status {
            stats: self.channel.stats(),
            max_payload: self.channel.max_payload(),
            probe_len: self.channel.probe_len(),
        };
        // Nobody waits for a change, and telling nobody costs as much as telling somebody.
        self.status.send_if_modified(|known| {
            *known = status;
            false
        });
        over
    }

    fn emit(&self, event: Event) {
        self.gauge.add(event.weight());
        // A reader that has left is not an error: the rest may still be sent.
        if let Err(error) = self.events.send(event) {
            self.gauge.remove(error.0.weight());
        }
    }
}

/// The payload in memory of its own, so that an event that waits for its reader costs what the
/// gauge counts. As it came off the socket, one byte of it would keep alive the whole buffer that
/// it was read into, and an agent could have a slow reader hold a hundred times the bound. Copying
/// a kilobyte is nothing beside the system calls that brought it.
fn apart(payload: Bytes) -> Bytes {
    if payload.is_unique() {
        return payload;
    }
    Bytes::copy_from_slice(&payload)
}

/// False: the owner closes.
fn apply(
    command: SenderCommand,
    channel: &mut DataChannel,
    held: &mut usize,
    bound: usize,
    drained: &mut Vec<oneshot::Sender<()>>,
    now: Duration,
) -> bool {
    match command {
        SenderCommand::Send(payload_type, bytes) => {
            *held += weight(&bytes, bound) as usize;
            channel.send(payload_type, bytes);
        }
        SenderCommand::Probe(payload_type, large, small) => {
            channel.probe_payload(now, payload_type, &large, small);
        }
        SenderCommand::Plain => channel.assume_plain(now),
        SenderCommand::Drained(waiter) => drained.push(waiter),
        SenderCommand::Close => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(1);

    fn resumed(at: Instant) -> ResumedConnection {
        ResumedConnection {
            at,
            attempts: 4,
            carried: 7,
        }
    }

    #[test]
    fn a_connection_that_carried_acknowledged_data_was_a_success_however_short_its_life() {
        let at = Instant::now();
        let stats = Stats {
            acked_messages: 8,
            ..Stats::default()
        };
        let beginning = resumed(at).beginning(at + Duration::from_secs(3), &stats, EVERY);
        assert_eq!((beginning.attempts, beginning.pause), (0, Duration::ZERO));
        // But the service is not asked more than once a second.
        let beginning = resumed(at).beginning(at + Duration::from_millis(200), &stats, EVERY);
        assert_eq!(beginning.attempts, 0);
        assert_eq!(beginning.pause, Duration::from_millis(800));
    }

    #[test]
    fn connections_that_carry_nothing_count_as_attempts() {
        let at = Instant::now();
        let stats = Stats {
            acked_messages: 7,
            ..Stats::default()
        };
        let beginning = resumed(at).beginning(at + Duration::from_secs(60), &stats, EVERY);
        assert_eq!(beginning.attempts, 4);
    }
}
