//! One pace for the calls whose quota is small, shared by all processes of a user.
//!
//! StartSession has a quota of three calls a second for an account and region, whoever makes them.
//! A copy to many servers, a pool of tunnels or the ssh-proxies of one Ansible run would each find
//! the others' calls in the way. All of them therefore take turns by one small file for each
//! account and region in the runtime folder. The file is locked while it is read and written, which
//! the system ends with the process; what waits has a ticket in it that has to be renewed. A
//! process that dies holds nothing.

mod bucket;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use ops_ui::paths::private_dir;
use serde::{Deserialize, Serialize};

pub use self::bucket::Urgency;
use self::bucket::{Bucket, CallTurn, LOOK_MS, Ticket};

/// Between two tries to lock the file, which is held for less than a millisecond.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// How long to try to lock it. A busy machine may take the processor away from whoever holds the
/// lock for a second or two, and a hundred processes that then called out of turn would all be
/// throttled. A process that was stopped for good must not stop everybody else.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The largest file that is read, in bytes: thousands of tickets.
const FILE_BYTES: u64 = 1 << 20;
/// Files of accounts that nobody has used for so long are removed.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long somebody waits before it is worth a word, in milliseconds.
const WORTH_A_WORD_MS: i64 = 2_000;

/// The calls that have a small quota. Source: "AWS Systems Manager endpoints and quotas" in the AWS
/// General Reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(
    clippy::enum_variant_names,
    reason = "the names of SSM's operations, as they are looked for"
)]
pub(crate) enum Operation {
    StartSession,
    TerminateSession,
    ResumeSession,
}

impl Operation {
    /// Calls a second for an account and region.
    const fn quota(self) -> f64 {
        match self {
            Self::StartSession => 3.0,
            Self::TerminateSession | Self::ResumeSession => 6.0,
        }
    }
}

type Buckets = BTreeMap<Operation, Bucket>;

/// The pace of one account and region.
pub(crate) struct Pacer {
    /// Where it is shared; `None` where nothing can be written.
    file: Option<PathBuf>,
    /// Of this process alone: where the file cannot be used.
    own: Mutex<Buckets>,
    /// How long to wait for the file while somebody holds it.
    lock_patience: Duration,
    /// StartSession calls a second where the user says so; 0 is no limit until the service
    /// throttles.
    starts_per_second: Option<f64>,
    /// Somebody has been told that this takes time.
    told: AtomicBool,
}

impl Pacer {
    /// The pace that `key` names, in `folder`.
    pub(crate) fn new(folder: &Path, key: &str, starts_per_second: Option<f64>) -> Self {
        let file = private_dir(folder.join("pace"))
            .ok()
            .map(|folder| folder.join(format!("{key}.json")));
        Self {
            file,
            own: Mutex::default(),
            lock_patience: LOCK_PATIENCE,
            starts_per_second,
            told: AtomicBool::new(false),
        }
    }

    /// A place in the queue for a call, from now on; the queue is entered by [`QueueTicket::turn`].
    pub(crate) fn take_ticket(&self, operation: Operation, urgency: Urgency) -> QueueTicket<'_> {
        let came_ms = now_ms();
        QueueTicket {
            pacer: self,
            operation,
            ticket: Ticket {
                number: fastrand::u64(..),
                pid: std::process::id(),
                urgency,
                came_ms,
                seen_ms: came_ms,
            },
            is_waiting: false,
        }
    }

    fn new_bucket(&self, operation: Operation) -> Bucket {
        let quota = operation.quota();
        let per_second = match (self.starts_per_second, operation) {
            (Some(per_second), Operation::StartSession) => per_second,
            // Whoever has no limit for starts has none for what follows them.
            (Some(0.0), _) => 0.0,
            _ => quota,
        };
        Bucket::new(per_second, quota)
    }

    /// Works on the shared bucket of `operation`, or on this process's own where the file cannot be
    /// had.
    async fn with<T>(&self, operation: Operation, work: impl FnOnce(&mut Bucket) -> T) -> T {
        let is_shared = match self.lock_file().await {
            SharedPace::Locked(file) => return self.work_on(file, operation, work),
            SharedPace::Held => true,
            SharedPace::Nowhere => false,
        };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        work(own.entry(operation).or_insert_with(|| {
            let mut bucket = self.new_bucket(operation);
            // Others are at it, and have used up what could go out at once.
            if is_shared {
                bucket.use_up(now_ms());
            }
            bucket
        }))
    }

    async fn lock_file(&self) -> SharedPace {
        let Some(path) = &self.file else {
            return SharedPace::Nowhere;
        };
        let begin = Instant::now();
        loop {
            match try_lock(path) {
                Ok(Some(file)) => return SharedPace::Locked(file),
                Ok(None) if begin.elapsed() < self.lock_patience => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Ok(None) => return SharedPace::Held,
                Err(error) => {
                    tracing::debug!(%error, "the pace is not shared with other processes");
                    return SharedPace::Nowhere;
                }
            }
        }
    }

    /// `file` is locked, and free again when this returns.
    fn work_on<T>(
        &self,
        mut file: File,
        operation: Operation,
        work: impl FnOnce(&mut Bucket) -> T,
    ) -> T {
        let mut text = Vec::new();
        let is_new = (&mut file)
            .take(FILE_BYTES)
            .read_to_end(&mut text)
            .is_ok_and(|read| read == 0);
        if is_new && let Some(path) = &self.file {
            sweep(path);
        }
        // What a process that was killed has left half written counts as nothing.
        let mut buckets: Buckets = serde_json::from_slice(&text).unwrap_or_default();
        let bucket = buckets
            .entry(operation)
            .or_insert_with(|| self.new_bucket(operation));
        let before = bucket.clone();
        let result = work(bucket);
        if is_new || *bucket != before {
            let written = serde_json::to_vec(&buckets)
                .map_err(io::Error::from)
                .and_then(|text| {
                    file.set_len(0)?;
                    file.rewind()?;
                    file.write_all(&text)
                });
            if let Err(error) = written {
                tracing::debug!(%error, "the pace cannot be written");
            }
        }
        result
    }
}

/// The file that processes share.
enum SharedPace {
    /// Ours until it is closed.
    Locked(File),
    /// Somebody else has held it for longer than anybody works on it.
    Held,
    /// It cannot be made or opened.
    Nowhere,
}

/// A place in the queue of an operation. It keeps its rank while a throttled call is made again,
/// and is given up with the value.
pub(crate) struct QueueTicket<'a> {
    pacer: &'a Pacer,
    operation: Operation,
    ticket: Ticket,
    /// Whether the ticket is in the queue.
    is_waiting: bool,
}

impl QueueTicket<'_> {
    /// Waits for the turn of the call. `waiting` is told once in this process, after a while, how
    /// many come before it.
    pub(crate) async fn turn(&mut self, mut waiting: impl FnMut(usize)) {
        self.is_waiting = true;
        loop {
            let ticket = &self.ticket;
            let (turn, ahead) = self
                .pacer
                .with(self.operation, |bucket| {
                    let turn = bucket.ask(ticket, now_ms(), is_there);
                    (turn, bucket.ahead_of(ticket.number))
                })
                .await;
            let waited_ms = now_ms() - ticket.came_ms;
            if waited_ms >= WORTH_A_WORD_MS && !self.pacer.told.swap(true, Ordering::Relaxed) {
                waiting(ahead);
            }
            let CallTurn::Later(ms) = turn else {
                self.is_waiting = false;
                return;
            };
            let ms = u64::try_from(ms.clamp(1, LOOK_MS)).unwrap_or(1);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// The service has throttled the call; it waits for another turn.
    pub(crate) async fn throttled(&self) {
        let quota = self.operation.quota();
        self.pacer
            .with(self.operation, |bucket| bucket.throttled(now_ms(), quota))
            .await;
    }
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        if !self.is_waiting {
            return;
        }
        // Where the file is held just now, the ticket ends by itself.
        let path = self.pacer.file.as_deref();
        let number = self.ticket.number;
        if let Some(Ok(Some(file))) = path.map(try_lock) {
            self.pacer
                .work_on(file, self.operation, |bucket| bucket.give_up(number));
        }
        let mut own = self
            .pacer
            .own
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = own.get_mut(&self.operation) {
            bucket.give_up(number);
        }
    }
}

/// The file, locked; `None` while somebody else has it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        options.mode(0o600).custom_flags(no_follow);
    }
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the files beside `path` that nobody has used for long: each embedded sandbox has an
/// account of its own.
fn sweep(path: &Path) {
    let Some(entries) = path
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok())
    else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > KEPT) && entry.path() != path {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether a process of this user lives. Where the system does not tell, it is taken to.
fn is_there(pid: u32) -> bool {
    #[cfg(unix)]
    {
        let Some(pid) = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        else {
            return false;
        };
        !matches!(
            rustix::process::test_kill_process(pid),
            Err(rustix::io::Errno::SRCH)
        )
    }
    #[cfg(not(unix))]
    {
        let _ = pid;
        true
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// The account that an access key id belongs to, which is written in it; `None` for an id of
/// another form.
///
/// The sixteen characters behind `AKIA` or `ASIA` are base 32 (RFC 4648); bits 1 to 40 of them are
/// the account. This is not documented, and known from the many keys that people have compared;
/// where it were wrong, processes would merely not share a pace.
pub(crate) fn account_of_key(access_key_id: &str) -> Option<u64> {
    let digits = access_key_id
        .strip_prefix("AKIA")
        .or_else(|| access_key_id.strip_prefix("ASIA"))
        .filter(|digits| digits.len() == 16)?;
    let bits = digits.bytes().try_fold(0_u128, |bits, digit| {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        Some(bits << 5 | u128::from(value))
    })?;
    // Of 80 bits the first is no part of the account; the 40 that follow are.
    u64::try_from(bits >> 39 & 0xff_ffff_ffff).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take_turn(pacer: &Pacer, operation: Operation) {
        let mut ticket = pacer.take_ticket(operation, Urgency::Interactive);
        ticket.turn(|_| {}).await;
    }

    #[test]
    fn an_access_key_names_its_account() {
        // Published with its account: "A short note on AWS KEY ID", T. Be'ery, 2023.
        assert_eq!(account_of_key("ASIAQNZGKIQY56JQ7WML"), Some(29_608_264_753));
        assert_eq!(account_of_key("AKIDEXAMPLE"), None);
        assert_eq!(account_of_key("AKIA0000000000000000"), None);
    }

    #[tokio::test]
    async fn two_pacers_of_one_folder_share_their_turns() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (
            Pacer::new(folder.path(), "k", None),
            Pacer::new(folder.path(), "k", None),
        );
        // The burst, one from each side.
        for pacer in [&one, &other] {
            take_turn(pacer, Operation::StartSession).await;
        }
        let ticket = Ticket {
            number: 1,
            pid: std::process::id(),
            urgency: Urgency::Interactive,
            came_ms: now_ms(),
            seen_ms: now_ms(),
        };
        let turn = other
            .with(Operation::StartSession, |bucket| {
                bucket.ask(&ticket, ticket.came_ms, is_there)
            })
            .await;
        assert!(matches!(turn, CallTurn::Later(_)), "{turn:?}");
        // Another operation has a bucket of its own.
        take_turn(&other, Operation::TerminateSession).await;
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_the_queue() {
        let folder = tempfile::tempdir().expect("a folder");
        let pacer = Pacer::new(folder.path(), "k", Some(0.001));
        for _ in 0..2 {
            take_turn(&pacer, Operation::StartSession).await;
        }
        let waiting = take_turn(&pacer, Operation::StartSession);
        let ended = tokio::time::timeout(Duration::from_millis(20), waiting).await;
        assert!(ended.is_err());
        let text = std::fs::read_to_string(folder.path().join("pace/k.json")).expect("a file");
        assert!(text.contains("\"queue\":[]"), "{text}");
    }

    #[tokio::test]
    async fn who_cannot_have_the_file_calls_no_sooner_than_the_quota_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut pacer = Pacer::new(folder.path(), "k", None);
        pacer.lock_patience = Duration::ZERO;
        let _held = try_lock(&folder.path().join("pace/k.json")).expect("a file");
        let ticket = pacer
            .take_ticket(Operation::StartSession, Urgency::Interactive)
            .ticket
            .clone();
        let turn = pacer
            .with(Operation::StartSession, |bucket| {
                bucket.ask(&ticket, ticket.came_ms, is_there)
            })
            .await;
        assert!(matches!(turn, CallTurn::Later(_)), "{turn:?}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_pace_or_cannot_be_had_stops_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let pacer = Pacer::new(folder.path(), "k", None);
        std::fs::write(folder.path().join("pace/k.json"), b"{\"StartSe").expect("written");
        take_turn(&pacer, Operation::StartSession).await;
        let nowhere = Pacer::new(Path::new("/dev/null"), "k", None);
        take_turn(&nowhere, Operation::StartSession).await;
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join("link")).expect("a link");
        assert!(try_lock(&folder.path().join("link")).is_err());
        assert!(!target.exists());
    }
}
