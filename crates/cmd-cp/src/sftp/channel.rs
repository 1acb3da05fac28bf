//! Requests and answers over one SFTP connection, many under way at a time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use ops_remote::ssh::client::{Program, ProgramOutput};
use ops_sftp::Fields;
use ops_ui::{Error, Result};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::wire::{self, Answer, Attributes, Name, Request, code, kind};

/// Longest answer that is taken, in bytes; servers send 256 KiB at most.
const ANSWER_BYTES: usize = 1 << 20;
/// What every server reads and writes at once, in bytes, where it does not tell.
const SAFE_BYTES: usize = 32 << 10;
/// For the first answer; far more than a slow path takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Why it is lost, where nobody says.
const LOST: &str = "the connection was lost";

/// What the server does not want or cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It says so.
    Status { code: u32, text: String },
    /// It says nothing any more, or what is no SFTP.
    Lost(String),
    /// Nothing was asked.
    Ours(String),
}

impl Failure {
    pub(super) fn is(&self, wanted: u32) -> bool {
        matches!(self, Self::Status { code, .. } if *code == wanted)
    }

    /// In words, without what was to be done.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Status { code, text } => {
                let known = match *code {
                    code::NO_SUCH_FILE => "no such file",
                    code::PERMISSION_DENIED => "permission denied",
                    code::UNSUPPORTED => "the server cannot do this",
                    code::FAILURE => "the server gives no reason",
                    _ => "the server refuses",
                };
                if text.is_empty() || text == "Failure" || text.eq_ignore_ascii_case(known) {
                    known.to_owned()
                } else {
                    format!("{known}: {text}")
                }
            }
            Self::Lost(why) | Self::Ours(why) => why.clone(),
        }
    }
}

/// The result of a request.
pub(super) type Answered<T> = std::result::Result<T, Failure>;

/// One connection to an SFTP server. Clones share it.
#[derive(Clone)]
pub(super) struct Channel(Arc<Inner>);

struct Inner {
    outgoing: mpsc::Sender<Bytes>,
    waiting: Arc<PendingRequests>,
    next: AtomicU32,
    extensions: Vec<Bytes>,
    /// Most bytes of one read and of one write.
    read_bytes: usize,
    write_bytes: usize,
    // Its two tasks end with it.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct PendingRequests(Mutex<ChannelState>);

#[derive(Default)]
struct ChannelState {
    answers: HashMap<u32, oneshot::Sender<Answer>>,
    lost: Option<String>,
}

impl PendingRequests {
    fn state(&self) -> std::sync::MutexGuard<'_, ChannelState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, why: String) {
        let mut state = self.state();
        state.lost.get_or_insert(why);
        state.answers.clear();
    }
}

impl Channel {
    /// Greets the server that `program` is.
    ///
    /// # Errors
    /// It does not answer, or with what is no SFTP; its complaints are in the text.
    pub(super) async fn open(program: Program) -> Result<Self> {
        let Program { mut output, input } = program;
        input.send(wire::init()).await;
        let mut buffer = BytesMut::new();
        let first = tokio::time::timeout(PATIENCE, packet(&mut output, &mut buffer)).await;
        let greeting = match first {
            Ok(Ok(Some(packet))) => wire::version(packet).ok(),
            _ => None,
        };
        let Some(extensions) = greeting else {
            let error = Error::target("the SFTP server does not answer as one");
            let complaints = output.complaints();
            return Err(match output.status() {
                _ if !complaints.is_empty() => error.caused_by(complaints),
                Some(status) => error.caused_by(format!("it ended with status {status}")),
                None => {
                    error.caused_by("a start-up file of the login shell may write to its output")
                }
            });
        };
        let (outgoing, mut queue) = mpsc::channel::<Bytes>(4);
        let waiting = Arc::new(PendingRequests::default());
        let mut tasks = JoinSet::new();
        // A task of its own, so that a request that is given up is still sent whole.
        tasks.spawn(async move {
            while let Some(bytes) = queue.recv().await {
                if !input.send(bytes).await {
                    return;
                }
            }
        });
        let answers = Arc::clone(&waiting);
        tasks.spawn(async move {
            let why = take_answers(&mut output, buffer, &answers).await;
            answers.lose(why);
        });
        let mut inner = Inner {
            outgoing,
            waiting,
            next: AtomicU32::new(0),
            extensions,
            read_bytes: SAFE_BYTES,
            write_bytes: SAFE_BYTES,
            _tasks: tasks,
        };
        if inner.has(b"limits@openssh.com") {
            let asked = Request::new(kind::EXTENDED).bytes(b"limits@openssh.com");
            if let Ok(Answer::Extended(limits)) = inner.ask(asked).await {
                let mut limits = Fields(limits);
                let mut take = || limits.u64().ok();
                let numbers = (take(), take(), take());
                if let (Some(_), Some(read), Some(write)) = numbers {
                    // Zero: no limit is known.
                    let of = |limit: u64| match usize::try_from(limit) {
                        Ok(0) => SAFE_BYTES,
                        Ok(limit) => limit.min(ANSWER_BYTES / 2),
                        Err(_) => ANSWER_BYTES / 2,
                    };
                    (inner.read_bytes, inner.write_bytes) = (of(read), of(write));
                }
            }
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Whether it answers no more.
    pub(super) fn is_lost(&self) -> bool {
        self.0.outgoing.is_closed() || self.0.waiting.state().lost.is_some()
    }

    /// Why it answers no more, if it said so.
    pub(super) fn why_lost(&self) -> String {
        let why = self.0.waiting.state().lost.clone();
        why.unwrap_or_else(|| LOST.to_owned())
    }

    /// Most bytes of one read.
    pub(super) fn read_bytes(&self) -> usize {
        self.0.read_bytes
    }

    /// Most bytes of one write.
    pub(super) fn write_bytes(&self) -> usize {
        self.0.write_bytes
    }

    pub(super) async fn open_file(
        &self,
        path: &[u8],
        flags: u32,
        mode: Option<u32>,
    ) -> Answered<Bytes> {
        let attributes = Attributes {
            mode,
            ..Attributes::default()
        };
        self.handle(
            Request::new(kind::OPEN)
                .bytes(path)
                .u32(flags)
                .attributes(&attributes),
        )
        .await
    }

    pub(super) async fn open_folder(&self, path: &[u8]) -> Answered<Bytes> {
        self.handle(Request::new(kind::OPENDIR).bytes(path)).await
    }

    pub(super) async fn close(&self, handle: &[u8]) -> Answered<()> {
        self.done(Request::new(kind::CLOSE).bytes(handle)).await
    }

    /// Up to `len` bytes at `offset`; none at the end of the file.
    pub(super) async fn read(&self, handle: &[u8], offset: u64, len: usize) -> Answered<Bytes> {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let asked = Request::new(kind::READ).bytes(handle).u64(offset).u32(len);
        match self.0.ask(asked).await {
            Ok(Answer::Data(data)) => Ok(data),
            Err(failure) if failure.is(code::EOF) => Ok(Bytes::new()),
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn write(&self, handle: &[u8], offset: u64, data: &[u8]) -> Answered<()> {
        let asked = Request::with_room(kind::WRITE, data.len() + handle.len())
            .bytes(handle)
            .u64(offset)
            .bytes(data);
        self.done(asked).await
    }

    /// The next entries of a folder; none at its end.
    pub(super) async fn read_folder(&self, handle: &[u8]) -> Answered<Vec<Name>> {
        match self.0.ask(Request::new(kind::READDIR).bytes(handle)).await {
            Ok(Answer::Names(names)) => Ok(names),
            Err(failure) if failure.is(code::EOF) => Ok(Vec::new()),
            other => Err(unexpected(other)),
        }
    }

    /// What is at `path`; behind a link with `follow`.
    pub(super) async fn stat(&self, path: &[u8], follow: bool) -> Answered<Attributes> {
        let kind = if follow { kind::STAT } else { kind::LSTAT };
        self.attributes(Request::new(kind).bytes(path)).await
    }

    pub(super) async fn stat_handle(&self, handle: &[u8]) -> Answered<Attributes> {
        self.attributes(Request::new(kind::FSTAT).bytes(handle))
            .await
    }

    pub(super) async fn set(&self, path: &[u8], attributes: &Attributes) -> Answered<()> {
        self.done(
            Request::new(kind::SETSTAT)
                .bytes(path)
                .attributes(attributes),
        )
        .await
    }

    pub(super) async fn set_handle(&self, handle: &[u8], attributes: &Attributes) -> Answered<()> {
        self.done(
            Request::new(kind::FSETSTAT)
                .bytes(handle)
                .attributes(attributes),
        )
        .await
    }

    pub(super) async fn remove(&self, path: &[u8]) -> Answered<()> {
        self.done(Request::new(kind::REMOVE).bytes(path)).await
    }

    pub(super) async fn make_folder(&self, path: &[u8], mode: u32) -> Answered<()> {
        let attributes = Attributes {
            mode: Some(mode),
            ..Attributes::default()
        };
        self.done(
            Request::new(kind::MKDIR)
                .bytes(path)
                .attributes(&attributes),
        )
        .await
    }

    /// The path without links and dots.
    pub(super) async fn real_path(&self, path: &[u8]) -> Answered<Bytes> {
        self.one_name(Request::new(kind::REALPATH).bytes(path))
            .await
    }

    /// A path that begins with `~USER`.
    pub(super) async fn expand(&self, path: &[u8]) -> Answered<Bytes> {
        const EXPAND: &[u8] = b"expand-path@openssh.com";
        if !self.0.has(EXPAND) {
            return Err(Failure::Status {
                code: code::UNSUPPORTED,
                text: "it expands no names of users".to_owned(),
            });
        }
        self.one_name(Request::new(kind::EXTENDED).bytes(EXPAND).bytes(path))
            .await
    }

    pub(super) async fn read_link(&self, path: &[u8]) -> Answered<Bytes> {
        self.one_name(Request::new(kind::READLINK).bytes(path))
            .await
    }

    pub(super) async fn make_link(&self, target: &[u8], path: &[u8]) -> Answered<()> {
        // The usual server has the two in this order, whatever the draft says.
        self.done(Request::new(kind::SYMLINK).bytes(target).bytes(path))
            .await
    }

    /// Puts `from` in the place of `to`, whether that exists or not.
    pub(super) async fn replace(&self, from: &[u8], to: &[u8]) -> Answered<()> {
        const RENAME: &[u8] = b"posix-rename@openssh.com";
        if self.0.has(RENAME) {
            let asked = Request::new(kind::EXTENDED)
                .bytes(RENAME)
                .bytes(from)
                .bytes(to);
            return self.done(asked).await;
        }
        let rename = || Request::new(kind::RENAME).bytes(from).bytes(to);
        match self.done(rename()).await {
            // A server without the extension refuses to replace; there is a moment without the file
            // then.
            Err(failure) if failure.is(code::FAILURE) => {
                self.remove(to).await?;
                self.done(rename()).await
            }
            other => other,
        }
    }

    /// Bytes that this user may still write where `path` is; `None` where the server does not tell.
    pub(super) async fn free_bytes(&self, path: &[u8]) -> Option<u64> {
        const STAT: &[u8] = b"statvfs@openssh.com";
        if !self.0.has(STAT) {
            return None;
        }
        let asked = Request::new(kind::EXTENDED).bytes(STAT).bytes(path);
        let Ok(Answer::Extended(told)) = self.0.ask(asked).await else {
            return None;
        };
        let (mut told, mut numbers) = (Fields(told), [0; 5]);
        for number in &mut numbers {
            *number = told.u64().ok()?;
        }
        // Fragment size, and free fragments for those who are not root.
        Some(numbers[1].saturating_mul(numbers[4]))
    }

    async fn handle(&self, asked: Request) -> Answered<Bytes> {
        match self.0.ask(asked).await {
            Ok(Answer::Handle(handle)) => Ok(handle),
            other => Err(unexpected(other)),
        }
    }

    async fn attributes(&self, asked: Request) -> Answered<Attributes> {
        match self.0.ask(asked).await {
            Ok(Answer::Attributes(attributes)) => Ok(attributes),
            other => Err(unexpected(other)),
        }
    }

    async fn one_name(&self, asked: Request) -> Answered<Bytes> {
        match self.0.ask(asked).await {
            Ok(Answer::Names(names)) if names.len() == 1 => Ok(names[0].name.clone()),
            other => Err(unexpected(other)),
        }
    }

    async fn done(&self, asked: Request) -> Answered<()> {
        match self.0.ask(asked).await {
            Ok(Answer::Status { code: code::OK, .. }) => Ok(()),
            other => Err(unexpected(other)),
        }
    }
}

impl Inner {
    fn has(&self, extension: &[u8]) -> bool {
        self.extensions.iter().any(|known| known == extension)
    }

    /// Sends a request and waits for its answer; a status other than success is a failure.
    async fn ask(&self, asked: Request) -> Answered<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut state = self.waiting.state();
            if let Some(why) = &state.lost {
                return Err(Failure::Lost(why.clone()));
            }
            state.answers.insert(id, sender);
        }
        let lost = || {
            let why = self.waiting.state().lost.clone();
            Failure::Lost(why.unwrap_or_else(|| LOST.to_owned()))
        };
        if self.outgoing.send(asked.finish(id)).await.is_err() {
            return Err(lost());
        }
        match answer.await {
            Ok(Answer::Status { code, text }) if code != code::OK => {
                Err(Failure::Status { code, text })
            }
            Ok(answer) => Ok(answer),
            Err(_) => Err(lost()),
        }
    }
}

fn unexpected(answer: Answered<Answer>) -> Failure {
    match answer {
        Err(failure) => failure,
        Ok(_) => Failure::Lost("the SFTP server gave an answer of the wrong kind".to_owned()),
    }
}

async fn take_answers(
    output: &mut ProgramOutput,
    mut buffer: BytesMut,
    waiting: &PendingRequests,
) -> String {
    loop {
        let packet = match packet(output, &mut buffer).await {
            Ok(Some(packet)) => packet,
            Ok(None) => {
                let complaints = output.complaints();
                return if complaints.is_empty() {
                    "the SFTP server has ended the connection".to_owned()
                } else {
                    format!("the SFTP server has ended: {complaints}")
                };
            }
            Err(why) => return why,
        };
        match wire::answer(packet) {
            Ok((id, answer)) => {
                let sender = waiting.state().answers.remove(&id);
                // Nobody waits for what was given up.
                if let Some(sender) = sender {
                    let _ = sender.send(answer);
                }
            }
            Err(wire::Garbled) => return "the SFTP server sent what is no SFTP".to_owned(),
        }
    }
}

/// The next packet without its length; `None` at the end.
async fn packet(
    output: &mut ProgramOutput,
    buffer: &mut BytesMut,
) -> std::result::Result<Option<Bytes>, String> {
    loop {
        if let Some(&len) = buffer.first_chunk() {
            let len = u32::from_be_bytes(len) as usize;
            if len == 0 || len > ANSWER_BYTES {
                return Err("the SFTP server sent what is no SFTP".to_owned());
            }
            if buffer.len() >= 4 + len {
                buffer.advance(4);
                return Ok(Some(buffer.split_to(len).freeze()));
            }
            buffer.reserve(4 + len - buffer.len());
        }
        match output.next().await {
            Some(bytes) => buffer.extend_from_slice(&bytes),
            None => return Ok(None),
        }
    }
}
