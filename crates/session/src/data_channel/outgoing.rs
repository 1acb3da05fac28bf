//! The sending half: numbering, the unacknowledged list, retransmission.

mod sealed;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::rtt::Rtt;
use super::stamp::Stamp;
use crate::congestion::Controller;
use crate::encryption::{SEAL_BYTES, Sealer};
use crate::wire::{HEADER_LEN, Header, MessageType, OFFICIAL_PAYLOAD_BYTES, PayloadType};

/// The official programs' is 1 s. This one only stops a runaway estimate: links slower than a
/// second exist.
const RTO_CAP: Duration = Duration::from_secs(30);
/// A busy machine answers late without having lost anything; the estimate alone allows 10 ms.
const RTO_FLOOR: Duration = Duration::from_millis(100);
/// Pause between resends while the service says that the agent is away, and the
/// ceiling of its back-off.
const SLOW_RESEND: Duration = Duration::from_secs(1);
/// So many holes are repeated at once, and looked for so deep in the list.
const RESEND_BURST: usize = 32;
const RESEND_DEPTH: usize = 512;
/// A large probe that is not acknowledged for this long is replaced by its small equal.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// A large payload that met so many lost connections is taken to be their cause.
const SUSPECT_CONNECTIONS: u32 = 2;
/// Below every number.
const NOTHING_ACKED: i64 = -1;
/// Encoded messages share buffers of this size, in bytes.
const BUFFER_LEN: usize = 64 << 10;

#[derive(Debug)]
struct Sent {
    /// The whole message; repeated byte for byte.
    frame: Bytes,
    first_sent: Duration,
    last_sent: Duration,
    resends: u32,
}

impl Sent {
    fn payload_len(&self) -> usize {
        self.frame.len() - HEADER_LEN
    }
}

/// What large payloads had to do with a lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LargeLoss {
    /// Nothing that is known.
    None,
    /// The probe was on its way; its small form has taken its number.
    Probe,
    /// A payload with the user's bytes was on its way, for the second time.
    Numbered { payload_bytes: usize },
}

#[derive(Debug)]
enum Probe {
    Untried,
    /// The number of the large message, and the small one that means the same.
    Asked {
        number: i64,
        payload_type: PayloadType,
        small: Bytes,
    },
    Settled,
}

/// A large payload with the user's bytes that was on its way when the connection was lost.
///
/// Nothing tells whether its size ended the connection or an ordinary cut did. It may have arrived
/// with only its acknowledgement lost, so another form under its number would be dropped as a
/// duplicate, and what the form left out would be sent twice: it is repeated byte for byte.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    number: i64,
    lost_connections: u32,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    next_number: i64,
    /// Index 0 has number `next_number - unacked.len()`;
    /// `None` is acknowledged already. The front is always `Some`.
    unacked: VecDeque<Option<Sent>>,
    unacked_messages: usize,
    in_flight_bytes: usize,
    highest_acked: i64,
    capacity: usize,
    pending: VecDeque<(PayloadType, Bytes)>,
    pending_bytes: usize,
    /// Numbers whose timer expired, to be sent again before anything new.
    overdue: VecDeque<i64>,
    /// After a reconnect: the next number of the list to send again.
    replay: Option<i64>,
    rtt: Rtt,
    controller: Box<dyn Controller>,
    max_payload: usize,
    wanted_payload: usize,
    probe: Probe,
    suspect: Option<Suspect>,
    /// After a reconnect: nothing behind this number goes out before it is acknowledged.
    hold_behind: Option<i64>,
    /// The highest number acknowledged on the present connection.
    acked_here: i64,
    buffer: BytesMut,
    /// Of an encrypted session, once there is a key. A payload is sealed when it gets its number,
    /// and repeated as it was sealed.
    sealer: Option<Sealer>,
    pub(super) retransmitted: u64,
    pub(super) bytes_sent: u64,
    pub(super) acked_messages: u64,
    /// Of the messages that were sent once.
    pub(super) shortest_rtt: Option<Duration>,
}

impl Outgoing {
    pub(super) fn new(
        capacity: usize,
        wanted_payload: usize,
        controller: Box<dyn Controller>,
    ) -> Self {
        Self {
            next_number: 0,
            unacked: VecDeque::new(),
            unacked_messages: 0,
            in_flight_bytes: 0,
            highest_acked: NOTHING_ACKED,
            capacity: capacity.max(1),
            pending: VecDeque::new(),
            pending_bytes: 0,
            overdue: VecDeque::new(),
            replay: None,
            rtt: Rtt::new(RTO_CAP),
            controller,
            max_payload: wanted_payload.min(OFFICIAL_PAYLOAD_BYTES),
            wanted_payload,
            probe: Probe::Untried,
            suspect: None,
            hold_behind: None,
            acked_here: NOTHING_ACKED,
            buffer: BytesMut::new(),
            sealer: None,
            retransmitted: 0,
            bytes_sent: 0,
            acked_messages: 0,
            shortest_rtt: None,
        }
    }

    pub(super) fn push(&mut self, payload_type: PayloadType, payload: Bytes) {
        self.pending_bytes += payload.len();
        self.pending.push_back((payload_type, payload));
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    pub(super) fn pending_messages(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn unacked_messages(&self) -> usize {
        self.unacked_messages
    }

    pub(super) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    pub(super) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Whether larger payloads are wanted and nobody has asked the far end yet.
    pub(super) fn wants_probe(&self) -> bool {
        self.wanted_payload > self.max_payload && matches!(self.probe, Probe::Untried)
    }

    pub(super) fn wanted_payload(&self) -> usize {
        self.wanted_payload
    }

    /// Takes the first pending payload of this type out of the queue.
    pub(super) fn take_pending(&mut self, wanted: PayloadType) -> Option<Bytes> {
        let at = self
            .pending
            .iter()
            .position(|(payload_type, _)| *payload_type == wanted)?;
        let (_, payload) = self.pending.remove(at)?;
        self.pending_bytes -= payload.len();
        Some(payload)
    }

    /// The next pending message, numbered and stored, if the window and the list have room.
    pub(super) fn next_new(&mut self, now: Duration, stamp: &mut Stamp) -> Option<Bytes> {
        let (payload_type, front) = self.pending.front()?;
        let payload_type = *payload_type;
        // The length counts what is acknowledged in between too: it is the distance to the oldest
        // message that is missing, which bounds what the far end has to keep.
        if self.unacked.len() >= self.capacity || self.hold_behind.is_some() {
            return None;
        }
        let bulk = payload_type == PayloadType::Output;
        if bulk {
            let len = front.len().min(self.piece_len());
            // With nothing under way one message always goes, or a window smaller than a message
            // would stop everything.
            if self.in_flight_bytes > 0 && self.in_flight_bytes + len > self.controller.window() {
                return None;
            }
        }
        let header = self.header(payload_type, now, stamp);
        let payload_len = if bulk {
            self.piece_len()
        } else {
            front_len(&self.pending)
        };
        // Taken out, since writing a payload borrows the rest of this.
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut sealer = self.take_sealer(payload_type);
        let seal_len = sealer.as_ref().map_or(0, |_| SEAL_BYTES);
        self.reserve(&mut buffer, payload_len + seal_len);
        let gathered = bulk.then_some(payload_len);
        header.encode_with(&mut buffer, |out| match &mut sealer {
            None => self.write_payload(gathered, out),
            Some(sealer) => sealer.seal(out, |out| self.write_payload(gathered, out)),
        });
        self.put_back_sealer(sealer);
        let frame = buffer.split().freeze();
        self.buffer = buffer;
        Some(self.number(now, frame))
    }

    /// Writes what is to be sent next: up to `gathered` bytes of the queue, or its front as it is.
    fn write_payload(&mut self, gathered: Option<usize>, out: &mut BytesMut) {
        if let Some(room) = gathered {
            self.gather(room, out);
        } else if let Some((_, payload)) = self.pending.pop_front() {
            self.pending_bytes -= payload.len();
            out.put_slice(&payload);
        }
    }

    /// Sends `payload` now, before everything pending and whatever the window says.
    pub(super) fn send_now(
        &mut self,
        now: Duration,
        stamp: &mut Stamp,
        payload_type: PayloadType,
        payload: &[u8],
    ) -> Bytes {
        let header = self.header(payload_type, now, stamp);
        let frame = self.encode(&header, payload);
        self.number(now, frame)
    }

    /// Sends a large message that tells whether large payloads arrive; if it is not acknowledged,
    /// `small` takes its number.
    pub(super) fn send_probe(
        &mut self,
        now: Duration,
        stamp: &mut Stamp,
        payload_type: PayloadType,
        large: &[u8],
        small: Bytes,
    ) -> Bytes {
        self.probe = Probe::Asked {
            number: self.next_number,
            payload_type,
            small,
        };
        self.send_now(now, stamp, payload_type, large)
    }

    fn header(&self, payload_type: PayloadType, now: Duration, stamp: &mut Stamp) -> Header {
        Header {
            message_type: MessageType::InputStreamData,
            schema_version: 1,
            created_ms: stamp.created_ms(now),
            sequence_number: self.next_number,
            flags: 0,
            message_id: stamp.message_id(),
            payload_type,
        }
    }

    fn reserve(&self, buffer: &mut BytesMut, payload_len: usize) {
        if buffer.capacity() - buffer.len() < HEADER_LEN + payload_len {
            buffer.reserve((HEADER_LEN + payload_len).max(BUFFER_LEN));
        }
    }

    /// Most bytes of the next payload: several messages make up a window, or there would be nothing
    /// to pace.
    fn piece_len(&self) -> usize {
        let len = self
            .max_payload
            .min((self.controller.window() / 4).max(OFFICIAL_PAYLOAD_BYTES));
        match self.sealer {
            // Sealed it is no longer than what was proven to get through; the official client's
            // payloads count without their seal.
            Some(_) if len > OFFICIAL_PAYLOAD_BYTES => {
                (len - SEAL_BYTES.min(len)).max(OFFICIAL_PAYLOAD_BYTES)
            }
            _ => len,
        }
    }

    /// Fills one payload from the front of the queue: large pieces are cut, small neighbours
    /// joined.
    fn gather(&mut self, mut room: usize, out: &mut BytesMut) {
        while let Some((PayloadType::Output, payload)) = self.pending.front_mut() {
            let piece = payload.split_to(payload.len().min(room));
            out.put_slice(&piece);
            room -= piece.len();
            self.pending_bytes -= piece.len();
            if payload.is_empty() {
                self.pending.pop_front();
            }
            if room == 0 {
                break;
            }
        }
    }

    fn number(&mut self, now: Duration, frame: Bytes) -> Bytes {
        let sent = Sent {
            frame: frame.clone(),
            first_sent: now,
            last_sent: now,
            resends: 0,
        };
        let len = sent.payload_len();
        self.bytes_sent += len as u64;
        self.in_flight_bytes += len;
        self.controller.on_sent(self.in_flight_bytes);
        self.unacked.push_back(Some(sent));
        self.unacked_messages += 1;
        self.next_number += 1;
        frame
    }

    fn first_number(&self) -> i64 {
        self.next_number - self.unacked.len() as i64
    }

    fn sent_mut(&mut self, number: i64) -> Option<&mut Sent> {
        let index = usize::try_from(number.checked_sub(self.first_number())?).ok()?;
        self.unacked.get_mut(index)?.as_mut()
    }

    /// Acknowledgements name one message each and may come twice, so a number no longer held is no
    /// error.
    pub(super) fn handle_ack(&mut self, now: Duration, number: i64) -> bool {
        let Some(index) = number
            .checked_sub(self.first_number())
            .and_then(|i| usize::try_from(i).ok())
        else {
            return false;
        };
        let Some(sent) = self.unacked.get_mut(index).and_then(Option::take) else {
            return false;
        };
        let len = sent.payload_len();
        self.unacked_messages -= 1;
        self.acked_messages += 1;
        let in_flight = self.in_flight_bytes;
        self.in_flight_bytes -= len;
        self.highest_acked = self.highest_acked.max(number);
        self.acked_here = self.acked_here.max(number);
        if self.suspect.is_some_and(|suspect| suspect.number == number) {
            // It passed: the cut was an ordinary one.
            self.suspect = None;
            self.hold_behind = None;
        }
        // Karn: which of several sendings was acknowledged cannot be known. (The official programs
        // take a sample all the same, from the last one.)
        let sample = (sent.resends == 0).then(|| now.saturating_sub(sent.last_sent));
        if let Some(sample) = sample {
            self.rtt.sample(sample);
            self.shortest_rtt = Some(self.shortest_rtt.map_or(sample, |rtt| rtt.min(sample)));
        }
        self.controller.on_ack(now, sample, len, in_flight);
        while matches!(self.unacked.front(), Some(None)) {
            self.unacked.pop_front();
        }
        if matches!(self.probe, Probe::Asked { number: asked, .. } if asked == number) {
            self.probe = Probe::Settled;
            if len > self.max_payload {
                self.max_payload = len.min(self.wanted_payload);
            }
        }
        true
    }

    fn resend_delay(&self, sent: &Sent, slow: bool) -> Duration {
        let rto = self.rtt.rto().max(RTO_FLOOR);
        if slow {
            return rto.max(SLOW_RESEND);
        }
        // The first repeats are quick because an agent that is only starting refuses its first
        // input.
        let factor = 1 << sent.resends.saturating_sub(3).min(4);
        (rto * factor).min(rto.max(SLOW_RESEND))
    }

    /// When the head of the list is to be looked at next.
    pub(super) fn next_timeout(&self, slow: bool) -> Option<Duration> {
        // A resend still waiting for the socket is not repeated, or a slow socket would only get
        // slower.
        if !self.overdue.is_empty() || self.next_replay().is_some() {
            return None;
        }
        let sent = self.unacked.front()?.as_ref()?;
        let due = sent.last_sent + self.resend_delay(sent, slow);
        Some(due)
    }

    /// Queues what is overdue for another sending: the head of the list, and the messages that an
    /// acknowledgement has overtaken, since those behind them have arrived.
    pub(super) fn handle_timeout(&mut self, now: Duration, slow: bool, stamp: &mut Stamp) {
        if self.next_timeout(slow).is_none_or(|at| now < at) {
            return;
        }
        self.settle_late_probe(now, stamp);
        self.controller.on_loss(now);
        // What one window would not carry at once overflowed a queue, and would again.
        let mut room = self.controller.window();
        let first = self.first_number();
        for (number, sent) in (first..).zip(self.unacked.iter().take(RESEND_DEPTH)) {
            let Some(sent) = sent else { continue };
            if self.is_held(number) {
                break;
            }
            // Above the highest acknowledgement nothing was overtaken: those messages may just be
            // on their way.
            if number > first && (number > self.highest_acked || self.overdue.len() >= RESEND_BURST)
            {
                break;
            }
            if number == first || now >= sent.last_sent + self.resend_delay(sent, slow) {
                if room < sent.payload_len() && number > first {
                    break;
                }
                room = room.saturating_sub(sent.payload_len());
                self.overdue.push_back(number);
            }
        }
    }

    /// Gives up a large probe that nobody acknowledges.
    fn settle_late_probe(&mut self, now: Duration, stamp: &mut Stamp) {
        if let Probe::Asked { number, .. } = self.probe
            && let Some(sent) = self.sent_mut(number)
            && now.saturating_sub(sent.first_sent) >= PROBE_PATIENCE
        {
            self.shrink_probe(now, stamp);
        }
    }

    /// A large probe that does not get through is replaced under its own number by a small message
    /// that means the same, so whichever of the two arrives is right. False: no probe was on its
    /// way.
    fn shrink_probe(&mut self, now: Duration, stamp: &mut Stamp) -> bool {
        let Probe::Asked {
            number,
            payload_type,
            small,
        } = &self.probe
        else {
            return false;
        };
        let (number, payload_type, small) = (*number, *payload_type, small.clone());
        self.probe = Probe::Settled;
        let header = Header {
            sequence_number: number,
            ..self.header(payload_type, now, stamp)
        };
        let frame = self.encode(&header, &small);
        let Some(sent) = self.sent_mut(number) else {
            return false;
        };
        let before = sent.payload_len();
        // Whichever copy arrives first is the message of this number; the other is a duplicate.
        sent.frame = frame;
        let after = sent.payload_len();
        self.in_flight_bytes = self.in_flight_bytes - before + after;
        self.controller.on_sent(self.in_flight_bytes);
        true
    }

    /// The next message to be sent again.
    pub(super) fn next_again(&mut self, now: Duration) -> Option<Bytes> {
        while let Some(number) = self.overdue.pop_front() {
            if let Some(frame) = self.send_again(number, now) {
                return Some(frame);
            }
        }
        while let Some(number) = self.next_replay() {
            self.replay = (number < self.next_number).then_some(number + 1);
            if let Some(frame) = self.send_again(number, now) {
                return Some(frame);
            }
        }
        None
    }

    fn send_again(&mut self, number: i64, now: Duration) -> Option<Bytes> {
        let sent = self.sent_mut(number)?;
        sent.last_sent = now;
        sent.resends += 1;
        let frame = sent.frame.clone();
        self.retransmitted += 1;
        Some(frame)
    }

    /// The number to be sent again next after a reconnect, unless something before it has to be
    /// acknowledged first.
    fn next_replay(&self) -> Option<i64> {
        let number = self.replay?.max(self.first_number());
        (!self.is_held(number)).then_some(number)
    }

    fn is_held(&self, number: i64) -> bool {
        self.hold_behind.is_some_and(|hold| number > hold)
    }

    /// What large payloads had to do with the loss of the connection.
    pub(super) fn on_disconnected(&mut self, now: Duration, stamp: &mut Stamp) -> LargeLoss {
        let loss = if self.shrink_probe(now, stamp) {
            LargeLoss::Probe
        } else {
            self.suspect_first_large()
        };
        self.overdue.clear();
        self.replay = None;
        self.hold_behind = None;
        loss
    }

    /// Suspects the first large payload that went out on the connection and that no acknowledgement
    /// shows to have passed: what ends a connection by its size is followed by nothing.
    fn suspect_first_large(&mut self) -> LargeLoss {
        let sent_up_to = self.replay.unwrap_or(self.next_number);
        let first = (self.first_number()..sent_up_to)
            .zip(&self.unacked)
            .filter_map(|(number, sent)| Some((number, sent.as_ref()?.payload_len())))
            .find(|&(_, payload_bytes)| payload_bytes > self.official_payload_len())
            .filter(|&(number, _)| number > self.acked_here);
        let before = self.suspect.take();
        let Some((number, payload_bytes)) = first else {
            // A connection that was lost before the suspect's turn says nothing about it.
            self.suspect = before.filter(|before| before.number >= sent_up_to);
            return LargeLoss::None;
        };
        let lost_connections = before
            .filter(|before| before.number == number)
            .map_or(0, |before| before.lost_connections)
            + 1;
        self.suspect = Some(Suspect {
            number,
            lost_connections,
        });
        if lost_connections < SUSPECT_CONNECTIONS {
            LargeLoss::None
        } else {
            LargeLoss::Numbered { payload_bytes }
        }
    }

    /// No acknowledgement could be seen from `since` until `now`: every timer stood still
    /// meanwhile.
    pub(super) fn skip_time(&mut self, since: Duration, now: Duration) {
        for sent in self.unacked.iter_mut().flatten() {
            if sent.last_sent > since {
                // How long its acknowledgement has been waiting is unknown, so it makes no sample.
                sent.resends = sent.resends.max(1);
            }
            for at in [&mut sent.first_sent, &mut sent.last_sent] {
                *at += now.saturating_sub(since.max(*at));
            }
        }
    }

    /// The whole list goes out again, in order; time spent disconnected does not count against
    /// anything.
    pub(super) fn on_reconnected(&mut self, now: Duration) {
        self.controller.on_reconnected(now);
        // Perhaps over another network.
        self.shortest_rtt = None;
        for sent in self.unacked.iter_mut().flatten() {
            sent.first_sent = now;
            sent.last_sent = now;
            // No message of before has a useful sample any more.
            sent.resends = sent.resends.max(1);
        }
        self.overdue.clear();
        self.acked_here = NOTHING_ACKED;
        // Alone on its connection a suspect shows within a round trip what it is, and no message
        // behind it, or count of messages, can be taken for the cause of another loss.
        self.hold_behind = self.suspect.map(|suspect| suspect.number);
        self.replay = (!self.unacked.is_empty()).then(|| self.first_number());
    }

    /// When the oldest unacknowledged message was sent first.
    pub(super) fn head_sent_at(&self) -> Option<Duration> {
        Some(self.unacked.front()?.as_ref()?.first_sent)
    }
}

fn front_len(pending: &VecDeque<(PayloadType, Bytes)>) -> usize {
    pending.front().map_or(0, |(_, payload)| payload.len())
}
