//! The session that takes a command's input, and orders.

use std::{collections::VecDeque, iter};

use bytes::Bytes;
use ops_core::connect::Ending;
use ops_session::driver::{Event, Events, Sender};
use ops_ui::Result;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{folder::Folder, scripts, setbacks::LASTED};
use crate::pipe::ScriptHost;

/// Frames that may be on their way to the command. They wait on the server in its folder.
const WINDOW: u64 = 8;
/// Frames that may wait here until they are stored there: the memory that an input takes.
const UNSTORED: usize = 3;
/// With so many under way, a frame waits until it is full: each costs the server two processes or
/// three, however short it is.
const IN_FLIGHT: u64 = 2;
/// A frame of so many bytes is full.
const FULL_FRAME_BYTES: usize = 1 << 20;
/// What stands behind a frame, as `take` of `input.sh` looks for it: a terminal that was hung up
/// gives none.
const FRAME_MARK: &[u8] = b".\n";

/// Pieces of input that travel as one.
#[derive(Debug, Default)]
struct Frame {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Frame {
    fn add(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.pieces.push(bytes);
    }

    fn is_full(&self) -> bool {
        self.len >= FULL_FRAME_BYTES
    }
}

/// The frames of an input, kept until the server has them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Those that the server does not have yet, from number `stored + 1` on.
    kept: VecDeque<Frame>,
    /// The number of the last frame that the server has.
    stored: u64,
    /// Of the last one that it has handed on to the command.
    handed: u64,
    /// Of the last one that went into the session at hand.
    sent: u64,
    /// No more come.
    is_end: bool,
    is_end_sent: bool,
}

impl Frames {
    /// Whether there is room for more.
    pub(super) fn has_room(&self) -> bool {
        let is_within_window = self.last() - self.handed < WINDOW && self.kept.len() < UNSTORED;
        !self.is_end && (is_within_window || self.has_open_frame())
    }

    /// Whether the last frame has not been sent and is not full.
    fn has_open_frame(&self) -> bool {
        self.last() > self.sent && self.kept.back().is_some_and(|frame| !frame.is_full())
    }

    /// How many frames the server has, and how many it has handed on.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.stored, self.handed)
    }

    fn last(&self) -> u64 {
        self.stored + self.kept.len() as u64
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        if !self.has_open_frame() {
            self.kept.push_back(Frame::default());
        }
        if let Some(frame) = self.kept.back_mut() {
            frame.add(bytes);
        }
    }

    pub(super) fn end(&mut self) {
        self.is_end = true;
    }

    /// The server has stored and handed on so many.
    pub(super) fn told(&mut self, stored: u64, handed: u64) {
        while self.stored < stored && self.kept.pop_front().is_some() {
            self.stored += 1;
        }
        self.handed = self.handed.max(handed);
    }

    /// A session begins, to which the server says that it has `stored` frames.
    fn begin(&mut self, stored: u64) {
        self.told(stored, 0);
        self.sent = self.stored;
        self.is_end_sent = false;
    }

    /// What is to be sent next. With `one_by_one` nothing may follow a frame before it is stored.
    fn next(&mut self, one_by_one: bool) -> Option<Vec<Bytes>> {
        if one_by_one && self.sent > self.stored {
            return None;
        }
        let ahead = usize::try_from(self.sent - self.stored).ok()?;
        if let Some(frame) = self.kept.get(ahead) {
            let waits = self.sent - self.handed.min(self.sent) >= IN_FLIGHT;
            if waits && !frame.is_full() && !self.is_end {
                return None;
            }
            self.sent += 1;
            let pieces = frame.pieces.iter().cloned();
            // A head that reads ahead would take the mark too.
            return Some(if one_by_one {
                let order = format!("in {}\n", frame.len);
                iter::once(order.into()).chain(pieces).collect()
            } else {
                let order = format!("in {} marked\n", frame.len);
                let ends = Bytes::from_static(FRAME_MARK);
                iter::once(order.into())
                    .chain(pieces)
                    .chain([ends])
                    .collect()
            });
        }
        if self.is_end && !self.is_end_sent {
            self.is_end_sent = true;
            return Some(vec![Bytes::from_static(b"end\n")]);
        }
        None
    }
}

/// What goes to the session, in order.
enum Outgoing {
    Bytes(Bytes),
    /// To be told when the agent has acknowledged what is before this.
    Heard(oneshot::Sender<()>),
}

/// A session on a terminal of the server in raw mode; dropped, it is ended in the background.
pub(super) struct Feed {
    /// `None` where it is the session that brings the output too.
    events: Option<Events>,
    // Ends the session when dropped.
    _ending: Option<Ending>,
    writer: mpsc::UnboundedSender<Outgoing>,
    writing: JoinHandle<()>,
    opened: Instant,
    /// The server listens; whether its `head` reads no further than it is told.
    is_ready: bool,
    is_exact: bool,
}

impl Feed {
    /// Opens the `turn`th session of the run in `folder`. The server says by the other session when
    /// it listens, since a terminal's own output comes a second late: `heard` ends then.
    ///
    /// # Errors
    /// As [`ops_core::Context::open`].
    pub(super) async fn open(
        host: ScriptHost,
        folder: Folder,
        turn: u32,
        heard: impl Future<Output = ()> + Send,
    ) -> Result<Self> {
        let document = host.interactive(&scripts::enter(&folder, turn, None))?;
        let opening = host
            .cx
            .open_heard(&host.instance, document, host.options(), Box::pin(heard));
        let (session, ending) = opening.await?.into_parts();
        // A size, if only to find out which payloads the agent takes.
        let _ = session.sender.send_size(80, 24).await;
        Ok(Self::over(
            session.sender,
            Some(session.events),
            Some(ending),
        ))
    }

    /// By a session that is open already.
    pub(super) fn over(sender: Sender, events: Option<Events>, ending: Option<Ending>) -> Self {
        let (writer, mut queue) = mpsc::unbounded_channel::<Outgoing>();
        // What waits here is bounded by the window of the frames.
        let writing = tokio::spawn(async move {
            while let Some(outgoing) = queue.recv().await {
                let sent = match outgoing {
                    Outgoing::Bytes(bytes) => sender.send(bytes).await,
                    Outgoing::Heard(heard) => sender.drained().await.map(|()| {
                        let _ = heard.send(());
                    }),
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Self {
            events,
            _ending: ending,
            writer,
            writing,
            opened: Instant::now(),
            is_ready: false,
            is_exact: false,
        }
    }

    /// Ends when the session has ended. Cancel-safe.
    pub(super) async fn ended(&mut self) -> String {
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        loop {
            match events.next().await {
                Some(Event::Closed(_)) => return "the session has ended".to_owned(),
                Some(Event::Failed(error)) => return error.to_string(),
                None => return "the connection was closed".to_owned(),
                Some(_) => {}
            }
        }
    }

    /// The server listens, and has so many frames.
    pub(super) fn ready(&mut self, frames: &mut Frames, stored: u64, is_exact: bool) {
        self.is_ready = true;
        self.is_exact = is_exact;
        frames.begin(stored);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether it was of use, even if nothing was to be carried.
    pub(super) fn has_lasted(&self) -> bool {
        self.opened.elapsed() >= LASTED
    }

    /// Sends what is due.
    pub(super) fn send_frames(&mut self, frames: &mut Frames) {
        while self.is_ready
            && let Some(pieces) = frames.next(!self.is_exact)
        {
            for piece in pieces {
                let _ = self.writer.send(Outgoing::Bytes(piece));
            }
        }
    }

    /// A line for the script, and the bytes that it announces.
    pub(super) fn order(&self, line: String, bytes: Option<&[u8]>) {
        let _ = self.writer.send(Outgoing::Bytes(line.into()));
        if let Some(bytes) = bytes {
            let bytes = Bytes::copy_from_slice(bytes);
            let _ = self.writer.send(Outgoing::Bytes(bytes));
        }
    }

    /// Ends when the agent has acknowledged all that was sent before this call, and fails where the
    /// session is lost before.
    pub(super) fn heard(&self) -> oneshot::Receiver<()> {
        let (heard, hears) = oneshot::channel();
        let _ = self.writer.send(Outgoing::Heard(heard));
        hears
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(frames: &mut Frames, one_by_one: bool) -> Vec<Bytes> {
        std::iter::from_fn(|| frames.next(one_by_one))
            .map(|pieces| pieces[0].clone())
            .collect()
    }

    /// As many bytes as make a frame full, and `more`.
    fn full(more: usize) -> Bytes {
        vec![0; FULL_FRAME_BYTES + more].into()
    }

    fn head(more: usize) -> Bytes {
        format!("in {} marked\n", FULL_FRAME_BYTES + more).into()
    }

    #[test]
    fn a_new_session_begins_behind_what_is_stored() {
        let mut frames = Frames::default();
        frames.begin(0);
        for more in 1..=5 {
            frames.push(full(more));
        }
        frames.end();
        assert_eq!(heads(&mut frames, false).len(), 6);
        frames.told(2, 1);
        assert_eq!(heads(&mut frames, false), Vec::<Bytes>::new());
        let end = Bytes::from_static(b"end\n");
        frames.begin(3);
        assert_eq!(heads(&mut frames, false), [head(4), head(5), end.clone()]);
        frames.begin(3);
        let unmarked = |more| Bytes::from(format!("in {}\n", FULL_FRAME_BYTES + more));
        assert_eq!(heads(&mut frames, true), [unmarked(4)]);
        frames.told(4, 1);
        assert_eq!(heads(&mut frames, true), [unmarked(5)]);
        frames.told(5, 5);
        assert_eq!(heads(&mut frames, true), [end]);
    }

    #[test]
    fn no_more_than_a_window_is_under_way_and_less_of_it_waits_here() {
        let mut frames = Frames::default();
        let mut pushed = 0;
        let mut fill = |frames: &mut Frames| {
            while frames.has_room() {
                frames.push(full(0));
                pushed += 1;
            }
            pushed
        };
        assert_eq!(fill(&mut frames), UNSTORED as u64);
        for stored in 1..=WINDOW {
            frames.told(stored, 0);
            assert_eq!(fill(&mut frames), WINDOW.min(stored + UNSTORED as u64));
        }
        frames.told(WINDOW, 1);
        assert_eq!(fill(&mut frames), WINDOW + 1);
    }

    #[test]
    fn a_frame_that_others_may_follow_at_once_has_a_mark_behind_it() {
        let mut frames = Frames::default();
        frames.begin(0);
        frames.push("a".into());
        assert_eq!(frames.next(false).unwrap(), ["in 1 marked\n", "a", ".\n"]);
        frames.begin(0);
        assert_eq!(frames.next(true).unwrap(), ["in 1\n", "a"]);
    }

    #[test]
    fn short_pieces_travel_at_once_and_join_while_others_are_under_way() {
        let mut frames = Frames::default();
        frames.begin(0);
        let push = |frames: &mut Frames, len| {
            frames.push(vec![0; len].into());
            heads(frames, false)
        };
        assert_eq!(push(&mut frames, 1), ["in 1 marked\n"]);
        assert_eq!(push(&mut frames, 2), ["in 2 marked\n"]);
        for len in 3..=5 {
            assert_eq!(push(&mut frames, len), Vec::<Bytes>::new());
        }
        frames.told(1, 1);
        assert_eq!(heads(&mut frames, false), ["in 12 marked\n"]);
        assert_eq!(push(&mut frames, 6), Vec::<Bytes>::new());
        frames.end();
        assert_eq!(heads(&mut frames, false), ["in 6 marked\n", "end\n"]);
        // What a lost session had not stored comes again as it was.
        frames.begin(1);
        assert_eq!(
            heads(&mut frames, false),
            ["in 2 marked\n", "in 12 marked\n", "in 6 marked\n", "end\n"]
        );
    }
}
