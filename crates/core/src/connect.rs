//! One session's life: StartSession, the data channel, fresh tokens while it lasts,
//! TerminateSession on every way out.

mod data_key;
mod demand;
mod document;
mod end;
mod ending;
mod failure;
mod gateway;
mod small_payloads;
mod stage;
mod start;
mod stream_url;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_ssm::operation::start_session::StartSessionError;
use ops_profile::{Instance, guard::MAX_REASON_CHARS};
use ops_session::driver::{self, Event, Opening, Token};
pub use ops_session::handshake::Ready;
use ops_ui::{Error, ErrorKind, Result, hint};

pub use self::{
    document::{Document, check_remote_host},
    ending::Ending,
};
use self::{
    gateway::SessionGateway,
    stage::{OpeningProgress, OpeningStage},
    start::{paced, waiting_words},
    stream_url::Trusted,
};
pub use crate::pace::Urgency;
use crate::{
    BoxFuture,
    aws::{Aws, Meaning, code_of, meaning},
    context::{Context, FromCache},
    diagnosis::not_running,
    pace::Operation,
    resolve::Choice,
};

/// For TerminateSession: long enough for a slow link, short enough for a command that wants to end.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a session is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Why, for the session's history; what a profile may demand.
    pub reason: Option<String>,
    /// While it lasts, what renewed credentials need (an SSO login, an MFA code) may be asked for:
    /// nothing of it has the terminal.
    pub may_ask: bool,
    /// Whether somebody waits for just this session: it comes before those that are some of many.
    pub urgency: Urgency,
    /// How often StartSession may be throttled before it fails; `None` waits as long as `--timeout`
    /// allows.
    pub throttles: Option<u32>,
    /// Becomes true before the program may begin on the server, also where [`Context::open`] then
    /// fails or is dropped.
    pub reached: Arc<AtomicBool>,
    /// How it is carried. What is expected of the agent, proxy and certificates are filled in.
    pub driver: driver::Options,
}

impl OpenOptions {
    /// The usual way, with `reason`.
    pub fn reason(reason: Option<String>) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

/// How long the steps to a session took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenTimes {
    /// StartSession, waiting for its turn included.
    pub start: Duration,
    /// Name, connection, TLS and upgrade of the web socket.
    pub socket: Duration,
    /// The handshake with the agent or, where a session has none, its first output.
    pub ready: Duration,
}

/// A session that is ready to be used. Dropped without [`Connection::terminate`], it is terminated
/// in the background.
pub struct Connection {
    /// Its id at the service.
    pub id: String,
    /// How long each step to it took.
    pub times: OpenTimes,
    /// What the handshake told.
    pub ready: Ready,
    /// Input, output and events; [`Event::Ready`] has been taken.
    pub session: driver::Session,
    /// Its connection was lost once while it was being opened. An agent gives up separated output
    /// then, without a word.
    pub was_lost: bool,
    /// Ends it at the service.
    pub ending: Ending,
}

impl Connection {
    /// Input and events on one hand, the duty to end the session on the other.
    pub fn into_parts(self) -> (driver::Session, Ending) {
        (self.session, self.ending)
    }

    /// Ends the session at the service and closes the connection.
    pub async fn terminate(self) {
        let Self {
            session, ending, ..
        } = self;
        ending.terminate().await;
        drop(session);
    }
}

impl Context {
    /// Starts a session on `instance` and waits until it can be used; `--timeout` bounds all of it.
    /// An instance that came from the cache and cannot be reached is looked up once more by what
    /// was typed, and the session opened on what is found.
    ///
    /// # Errors
    /// A stopped instance or one without an agent that answers (7), a denial (5), expired
    /// credentials (4), a refusal of the profile (9), `--timeout` (124), a session that has to be
    /// encrypted and cannot be, a network that is in the way.
    pub fn open<'a>(
        &'a self,
        instance: &'a Instance,
        document: Document,
        options: OpenOptions,
    ) -> BoxFuture<'a, Result<Connection>> {
        Box::pin(self.open_unboxed(instance, document, options))
    }

    async fn open_unboxed(
        &self,
        instance: &Instance,
        document: Document,
        options: OpenOptions,
    ) -> Result<Connection> {
        // An instance that was just resolved is opened. One of the cache may be ten minutes old,
        // and its name may belong to another machine by now.
        let target = match self.of_cache(&instance.id) {
            None => return self.open_on(instance, document, options).await,
            Some(FromCache::Replaced(found)) => {
                return Box::pin(self.open_on(&found, document, options)).await;
            }
            Some(FromCache::Unproven(target)) => target,
        };
        let first = Box::pin(self.open_on(instance, document.clone(), options.clone())).await;
        let error = match first {
            Ok(connection) => {
                self.settle_cached(&instance.id, None);
                return Ok(connection);
            }
            Err(error) => error,
        };
        // A denial or a refusal would be the same for whatever is found anew, and the question of a
        // guard is not to be put twice.
        if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unreachable) {
            return Err(error);
        }
        self.output().detail(format!(
            "{} of the cache cannot be reached; looking `{}` up again",
            instance.id,
            target.as_str()
        ));
        let found = Box::pin(self.resolve_now(&target, Choice::Ask)).await?;
        // The cache was right: this machine it is, and it cannot be reached.
        if found.id == instance.id {
            return Err(error);
        }
        self.settle_cached(&instance.id, Some(found.clone()));
        Box::pin(self.open_on(&found, document, options)).await
    }

    async fn open_on(
        &self,
        instance: &Instance,
        document: Document,
        options: OpenOptions,
    ) -> Result<Connection> {
        self.open_heard(
            instance,
            document,
            options,
            Box::pin(std::future::pending()),
        )
        .await
    }

    /// As [`Context::open`], and without waiting for the program's first output once `heard` ends:
    /// the caller has seen by another session that the program runs.
    ///
    /// # Errors
    /// Those of [`Context::open`].
    pub fn open_heard<'a>(
        &'a self,
        instance: &'a Instance,
        document: Document,
        options: OpenOptions,
        heard: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, Result<Connection>> {
        Box::pin(self.open_heard_unboxed(instance, document, options, heard))
    }

    async fn open_heard_unboxed(
        &self,
        instance: &Instance,
        document: Document,
        options: OpenOptions,
        heard: impl Future<Output = ()> + Send,
    ) -> Result<Connection> {
        // Not within the time limit: somebody may be thinking about an answer.
        self.ensure_guarded(instance, options.reason.as_deref())
            .await?;
        let progress = OpeningProgress::default();
        let opening = self.open_unbounded(instance, &document, options, heard, &progress);
        let opening = Box::pin(opening);
        let Some(limit) = self.settings()?.timeout.value else {
            return opening.await;
        };
        match tokio::time::timeout(limit, opening).await {
            Ok(result) => result,
            Err(_) => Err(progress.too_late(instance, limit)),
        }
    }

    async fn open_unbounded(
        &self,
        instance: &Instance,
        document: &Document,
        mut options: OpenOptions,
        heard: impl Future<Output = ()> + Send,
        progress: &OpeningProgress,
    ) -> Result<Connection> {
        // What cannot have a session whatever its agent says.
        if let Some(error) = not_running(instance) {
            return Err(error);
        }
        if let Document::PortForwardingToRemoteHost { host, .. } = document {
            check_remote_host(host)?;
        }
        let reason = options
            .reason
            .as_deref()
            .map(str::trim)
            .filter(|reason| !reason.is_empty());
        if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON_CHARS) {
            return Err(Error::usage("the reason is too long")
                .caused_by(format!(
                    "StartSession takes up to {MAX_REASON_CHARS} characters"
                ))
                .hint("shorten --reason"));
        }
        // A team profile that names its account must not open a session in another one, whose
        // server of the same name is the wrong one.
        self.check_account().await?;
        let aws = self.aws().await?;
        let access_key_id = aws.credentials().await?.access_key_id().to_owned();

        tracing::debug!(document = document.name(), "asking for a session");
        let call = || {
            aws.clients(&instance.region)
                .ssm
                .start_session()
                .target(&instance.id)
                .set_document_name(document.name_to_send())
                .set_parameters(document.parameters())
                .set_reason(reason.map(str::to_owned))
                .customize()
                .config_override(paced::<StartSessionError>())
                .send()
        };
        // One ticket for all tries: a call that is throttled keeps its place among those that wait.
        let pacer = aws.pacer(&instance.region).await;
        let mut ticket = pacer.take_ticket(Operation::StartSession, options.urgency);
        let mut times = OpenTimes::default();
        let mut begin = Instant::now();
        let mut throttles = 0;
        let (started, ending) = loop {
            progress.reach(OpeningStage::Turn);
            ticket
                .turn(|ahead| self.output().note(waiting_words(ahead)))
                .await;
            // Once it was throttled, that is what it waits for, whatever is under way.
            if throttles == 0 {
                progress.reach(OpeningStage::Start);
            }
            match self.start(instance, call()).await {
                Ok(started) => break started,
                // Whoever else uses the account may have used up its quota. Only --timeout ends
                // this.
                Err(error)
                    if code_of(&error).map(meaning) == Some(Meaning::Throttled)
                        && options.throttles.is_none_or(|most| throttles < most) =>
                {
                    throttles += 1;
                    tracing::debug!("StartSession was throttled");
                    progress.reach(OpeningStage::Turn);
                    ticket.throttled().await;
                }
                Err(error) => {
                    if code_of(&error).map(meaning) == Some(Meaning::Expired) {
                        aws.provider().refused(&access_key_id).await;
                    }
                    return Err(failure::start_failed(self, aws, instance, document, error).await);
                }
            }
        };
        tracing::debug!("the session is started");
        progress.reach(OpeningStage::Dial);
        times.start = lap(&mut begin);
        let (Some(id), Some(stream_url), Some(token)) =
            (started.session_id, started.stream_url, started.token_value)
        else {
            return Err(Error::unexpected(format!(
                "cannot start a session on `{}`",
                instance.label()
            ))
            .caused_by("StartSession answered without session id, stream URL or token"));
        };
        // From here on nobody may be asked anything where the terminal will belong to the session.
        aws.provider().set_quiet(!options.may_ask);

        options.driver.expect = document.expect();
        options.driver.extra_roots = aws.network.ca_bundle();
        options.driver.proxy = aws.network.for_sessions();
        let opening = Opening {
            session_id: id.clone(),
            stream_url: aws.stream_url(stream_url),
            token: Token::new(token),
        };
        // Before anything is dialled: the token in the first frame opens the session for whoever
        // reads it.
        stream_url::check(&opening.stream_url, &trusted(aws))
            .map_err(|error| failure::stream_url_refused(instance, &error))?;
        let gateway = Arc::new(SessionGateway {
            cx: self.clone(),
            region: instance.region.clone(),
            instance: instance.id.clone(),
            label: instance.label().to_owned(),
            signed: AtomicBool::new(false),
            denied: ending.denied.clone(),
            key: ending.key.clone(),
        });
        if self.wants_small_payloads(&instance.id) {
            options.driver.max_payload = driver::OFFICIAL_PAYLOAD_BYTES;
        }
        let mut session = match driver::open(opening, gateway.clone(), options.driver).await {
            Ok(session) => session,
            Err(error) => {
                if matches!(error.upgrade_status(), Some(401 | 403)) {
                    // Unsigned it was no better: the next one is signed again.
                    aws.set_dials_unsigned(false);
                }
                return Err(failure::open_failed(instance, &error, &aws.network));
            }
        };
        tracing::debug!("the web socket is open");
        progress.reach(OpeningStage::Agent);
        times.socket = lap(&mut begin);
        // The agent waits for a client, which it has from now on.
        options.reached.store(true, Ordering::Relaxed);
        // A terminal has no handshake: its first sign of life is what the program on the server
        // writes, which may be nothing for a long time. A caller that sees its program start by
        // another way (a second session) need not wait for that.
        let mut heard = std::pin::pin!(heard);
        let mut was_heard = false;
        let mut was_lost = false;
        loop {
            let event = tokio::select! {
                event = session.events.next() => event,
                () = &mut heard, if !was_heard => {
                    was_heard = true;
                    // One that has ended meanwhile tells why by its events.
                    let _ = session.sender.assume_plain();
                    continue;
                }
            };
            match event {
                Some(Event::Ready(mut ready)) => {
                    tracing::debug!("the agent is ready");
                    times.ready = lap(&mut begin);
                    // Before the caller has the session, and so before any byte of the user.
                    self.check_encryption(instance, document, &ready).await?;
                    ready.customer_message = data_key::without_notice(&ready.customer_message);
                    if let Some(key) = &ready.encrypted_with
                        && aws.is_news(key)
                    {
                        self.output().detail(format!("encrypted with {key}"));
                    }
                    return Ok(Connection {
                        id,
                        times,
                        ready,
                        session,
                        was_lost,
                        ending,
                    });
                }
                Some(Event::Closed(closing)) => {
                    let label = instance.label();
                    let failure = ending.closed(&closing);
                    // The agent tells why it has run nothing.
                    if failure.is_some() {
                        options.reached.store(false, Ordering::Relaxed);
                    }
                    // The service ended it, so that TerminateSession would answer that there is
                    // none.
                    ending.ended();
                    return Err(failure.unwrap_or_else(|| {
                        Error::target(format!("the session on `{label}` ended before it began"))
                            .hint(hint!(
                                "see what is known of it: ops ls -o wide {}",
                                instance.target_word()
                            ))
                    }));
                }
                Some(Event::Failed(error)) => {
                    return Err(ending.failed(&error));
                }
                Some(Event::Disconnected { .. }) => was_lost = true,
                Some(_) => {}
                None => {
                    return Err(Error::target(format!(
                        "the session on `{}` ended before it began",
                        instance.label()
                    )));
                }
            }
        }
    }
}

/// The time since `begin`, which is set to now.
fn lap(begin: &mut Instant) -> Duration {
    std::mem::replace(begin, Instant::now()).elapsed()
}

/// Where a stream URL may lead beside Session Manager's own hosts.
fn trusted(aws: &Aws) -> Trusted {
    let hosts = aws.configured_hosts();
    let is_loopback = |host: &String| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    };
    Trusted {
        loopback: aws.options().sandbox || hosts.iter().any(is_loopback),
        hosts,
    }
}
