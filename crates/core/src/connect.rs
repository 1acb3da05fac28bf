//! One session's life: StartSession, the data channel, fresh tokens while it lasts,
//! TerminateSession on every way out.

mod failure;
mod gateway;
mod small_payloads;
mod stream_url;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use aws_sdk_ssm::{
    error::{ProvideErrorMetadata, SdkError},
    operation::start_session::{StartSessionError, StartSessionOutput},
};
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority},
};
use ops_profile::guard::MAX_REASON_CHARS;
use ops_session::driver::{self, Event, Expect, Opening, SessionError, Token};
pub use ops_session::handshake::Ready;
use ops_session::{closing::Closing, documents};
use tokio::sync::oneshot;

use self::{gateway::SessionGateway, stream_url::Trusted};
pub use crate::pace::Urgency;
use crate::{
    aws::{Aws, Meaning, code_of, meaning},
    context::Context,
    context::FromCache,
    error::{Error, ErrorKind, Result},
    hint,
    instance::{Instance, State},
    pace::Operation,
    resolve::Choice,
    text::Hint,
};

/// For TerminateSession: long enough for a slow link, short enough for a command that wants to end.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The SSM document that selects what a session is, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A shell; without a name the account's own `SSM-SessionManagerRunShell`.
    Shell {
        /// A session document of type `Standard_Stream`.
        name: Option<String>,
        /// Its parameters, each a list.
        parameters: BTreeMap<String, Vec<String>>,
    },
    /// `AWS-StartInteractiveCommand`: a command on a terminal.
    Interactive {
        /// The command line.
        command: String,
    },
    /// `AWS-StartNonInteractiveCommand`: a command without a terminal.
    NonInteractive {
        /// The command line.
        command: String,
    },
    /// `AWS-StartPortForwardingSession`: a port of the instance itself, many connections over one
    /// session.
    PortForwarding {
        /// The instance's port.
        port: u16,
    },
    /// `AWS-StartPortForwardingSessionToRemoteHost`: a port that the instance can reach.
    PortForwardingToRemoteHost {
        /// The host as the instance knows it.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `AWS-StartSSHSession`: one raw connection to the instance's SSH server.
    Ssh {
        /// The SSH server's port.
        port: u16,
    },
    /// Any other document.
    Custom {
        /// Its name.
        name: String,
        /// Its parameters, each a list.
        parameters: BTreeMap<String, Vec<String>>,
        /// Whether its agent begins with a handshake for certain: false for shells.
        handshake: bool,
    },
}

impl Document {
    /// The account's own shell.
    pub fn shell() -> Self {
        Self::Shell {
            name: None,
            parameters: BTreeMap::new(),
        }
    }

    /// The document's name; what StartSession takes for none is `SSM-SessionManagerRunShell`.
    pub fn name(&self) -> &str {
        match self {
            Self::Shell { name, .. } => name.as_deref().unwrap_or(documents::SHELL),
            Self::Interactive { .. } => documents::INTERACTIVE_COMMAND,
            Self::NonInteractive { .. } => documents::NON_INTERACTIVE_COMMAND,
            Self::PortForwarding { .. } => documents::PORT_FORWARDING,
            Self::PortForwardingToRemoteHost { .. } => documents::PORT_FORWARDING_TO_REMOTE_HOST,
            Self::Ssh { .. } => documents::SSH,
            Self::Custom { name, .. } => name,
        }
    }

    fn name_to_send(&self) -> Option<String> {
        match self {
            Self::Shell { name, .. } => name.clone(),
            other => Some(other.name().to_owned()),
        }
    }

    /// Every parameter is a list of text. Ports are always sent: the documents' defaults are not to
    /// be relied on.
    fn parameters(&self) -> Option<HashMap<String, Vec<String>>> {
        let one = |name: &str, value: String| (name.to_owned(), vec![value]);
        let map: HashMap<String, Vec<String>> = match self {
            Self::Shell { parameters, .. } | Self::Custom { parameters, .. } => parameters
                .iter()
                .map(|(name, values)| (name.clone(), values.clone()))
                .collect(),
            Self::Interactive { command } | Self::NonInteractive { command } => {
                HashMap::from([one("command", command.clone())])
            }
            Self::PortForwarding { port } => HashMap::from([
                one("portNumber", port.to_string()),
                one("localPortNumber", "0".to_owned()),
            ]),
            Self::PortForwardingToRemoteHost { host, port } => HashMap::from([
                one("host", host.clone()),
                one("portNumber", port.to_string()),
                one("localPortNumber", "0".to_owned()),
            ]),
            Self::Ssh { port } => HashMap::from([one("portNumber", port.to_string())]),
        };
        (!map.is_empty()).then_some(map)
    }

    fn expect(&self) -> Expect {
        match self {
            Self::Shell { .. }
            | Self::Interactive { .. }
            | Self::Custom {
                handshake: false, ..
            } => Expect::MaybePlain,
            _ => Expect::Handshake,
        }
    }
}

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

/// A session that is ready to be used. Dropped without [`Connection::terminate`], it is terminated
/// in the background.
pub struct Connection {
    /// Its id at the service.
    pub id: String,
    /// What the handshake told.
    pub ready: Ready,
    /// Input, output and events; [`Event::Ready`] has been taken.
    pub session: driver::Session,
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

/// The duty to end a session at the service. Dropping it does so in the background, which the
/// dispatcher waits for.
pub struct Ending {
    cx: Context,
    id: String,
    region: String,
    label: String,
    /// Why the session cannot be taken up again, where the service has denied it.
    denied: Arc<OnceLock<Error>>,
    armed: bool,
}

impl Ending {
    /// TerminateSession; a denial is told once, any other failure with `-v` only, since the service
    /// ends idle sessions itself.
    pub async fn terminate(mut self) {
        self.armed = false;
        gateway::terminate(&self.cx, &self.region, &self.id).await;
    }

    /// The session has ended by itself (`Event::Closed`): nothing is left to do.
    pub fn ended(mut self) {
        self.armed = false;
    }

    /// Words for [`Event::Failed`] of this session.
    pub fn failed(&self, error: &driver::SessionError) -> Error {
        match (error, self.denied.get()) {
            (SessionError::Gone(_), Some(denied)) => denied.clone(),
            _ => failure::session_failed(&self.label, error),
        }
    }

    /// Words for [`Event::Closed`], if it tells of a failure.
    pub fn closed(&self, closing: &Closing) -> Option<Error> {
        failure::closed(&self.label, closing)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (cx, id, region) = (self.cx.clone(), self.id.clone(), self.region.clone());
        self.cx
            .interrupt()
            .finish_later(async move { gateway::terminate(&cx, &region, &id).await });
    }
}

impl Context {
    /// Starts a session on `instance` and waits until it can be used; `--timeout` bounds all of it.
    /// An instance that came from the cache and cannot be reached is looked up once more by what
    /// was typed, and the session opened on what is found.
    ///
    /// # Errors
    /// A stopped instance or one without an agent that answers (7), a denial (5), expired
    /// credentials (4), a refusal of the profile (9), `--timeout` (124), a session that must be
    /// encrypted, a network that is in the way.
    pub async fn open(
        &self,
        instance: &Instance,
        document: Document,
        options: OpenOptions,
    ) -> Result<Connection> {
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
        if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unreachable) {
            return Err(error);
        }
        self.output().detail(format!(
            "{} of the cache cannot be reached; looking `{}` up again",
            instance.id,
            target.as_str()
        ));
        let found = Box::pin(self.resolve_now(&target, Choice::Ask)).await?;
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
        self.open_heard(instance, document, options, std::future::pending())
            .await
    }

    /// As [`Context::open`]; `heard` ends when the session's program has been heard of by another
    /// way, so that its first output is not waited for.
    ///
    /// # Errors
    /// As there.
    pub async fn open_heard(
        &self,
        instance: &Instance,
        document: Document,
        options: OpenOptions,
        heard: impl Future<Output = ()> + Send,
    ) -> Result<Connection> {
        // Not within the time limit: somebody may be thinking about an answer.
        self.ensure_guarded(instance, options.reason.as_deref())
            .await?;
        let opening = Box::pin(self.open_unbounded(instance, &document, options, heard));
        let Some(limit) = self.settings()?.timeout.value else {
            return opening.await;
        };
        match tokio::time::timeout(limit, opening).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("no session on `{}` within {limit:?}", instance.label()),
            )
            .caused_by("--timeout was reached before the session was ready")
            .hint(hint!(
                "see when its agent last reported: ops ls -o wide {}",
                instance.target_word()
            ))),
        }
    }

    async fn open_unbounded(
        &self,
        instance: &Instance,
        document: &Document,
        mut options: OpenOptions,
        heard: impl Future<Output = ()> + Send,
    ) -> Result<Connection> {
        check_state(instance)?;
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
        let pacer = aws.pacer(&instance.region).await;
        let mut place = pacer.place(Operation::StartSession, options.urgency);
        let (started, ending) = loop {
            place
                .turn(|ahead| self.output().note(waiting_words(ahead)))
                .await;
            match self.start(instance, call()).await {
                Ok(started) => break started,
                // Whoever else uses the account may have used up its quota. Only --timeout ends
                // this.
                Err(error) if code_of(&error).map(meaning) == Some(Meaning::Throttled) => {
                    tracing::debug!("StartSession was throttled");
                    place.throttled().await;
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
        stream_url::check(&opening.stream_url, &trusted(aws))
            .map_err(|error| failure::stream_url_refused(instance, &error))?;
        let gateway = Arc::new(SessionGateway {
            cx: self.clone(),
            region: instance.region.clone(),
            instance: instance.id.clone(),
            label: instance.label().to_owned(),
            signed: AtomicBool::new(false),
            denied: ending.denied.clone(),
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
        let mut heard = std::pin::pin!(heard);
        let mut was_heard = false;
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
                Some(Event::Ready(ready)) => {
                    tracing::debug!("the agent is ready");
                    return Ok(Connection {
                        id,
                        ready,
                        session,
                        ending,
                    });
                }
                Some(Event::Closed(closing)) => {
                    let label = instance.label();
                    ending.ended();
                    return Err(failure::closed(label, &closing).unwrap_or_else(|| {
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

impl Context {
    /// Waits for StartSession. The call goes on if the caller is dropped meanwhile, by a signal or
    /// a time limit: a session that nobody knows of would stay open at the service, so that it is
    /// ended as soon as its id is known.
    async fn start(
        &self,
        instance: &Instance,
        call: impl Future<Output = Result<StartSessionOutput, SdkError<StartSessionError>>>
        + Send
        + 'static,
    ) -> Result<(StartSessionOutput, Ending), SdkError<StartSessionError>> {
        let (cx, region, label) = (
            self.clone(),
            instance.region.clone(),
            instance.label().to_owned(),
        );
        let (done, started) = oneshot::channel();
        self.interrupt().finish_later(async move {
            let result = call.await.map(|started| {
                let id = started.session_id.clone().unwrap_or_default();
                let ending = Ending {
                    cx,
                    armed: !id.is_empty(),
                    id,
                    region,
                    label,
                    denied: Arc::default(),
                };
                (started, ending)
            });
            // Nobody waits any more: dropping the duty to end the session does it.
            let _ = done.send(result);
        });
        match started.await {
            Ok(result) => result,
            // The runtime is going down, and this with it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// A configuration of a call that [`crate::pace::Pacer`] paces: what the service throttles is not
/// repeated behind the pacer's back.
fn paced<E>() -> aws_sdk_ssm::config::Builder
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    aws_sdk_ssm::config::Builder::new()
        .retry_classifier(ThrottledIsPaced::<E>(std::marker::PhantomData))
}

/// Forbids the SDK to repeat calls that were throttled.
#[derive(Debug)]
struct ThrottledIsPaced<E>(std::marker::PhantomData<E>);

impl<E> ClassifyRetry for ThrottledIsPaced<E>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let code = context
            .output_or_error()
            .and_then(std::result::Result::err)
            .and_then(|error| error.as_operation_error())
            .and_then(|error| error.downcast_ref::<E>())
            .and_then(ProvideErrorMetadata::code);
        match code.map(meaning) {
            Some(Meaning::Throttled) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "throttled calls wait for their turn"
    }

    fn priority(&self) -> RetryClassifierPriority {
        // After every other, so that this has the last word.
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
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

/// What somebody reads who waits for a turn.
fn waiting_words(ahead: usize) -> String {
    let before = match ahead {
        0 => String::new(),
        1 => "; one is to start before this one".to_owned(),
        more => format!("; {more} are to start before this one"),
    };
    format!(
        "waiting to start a session: AWS lets three start a second in an account and region{before}"
    )
}

/// Characters that the document for ports of remote hosts does not take in a host.
const NOT_IN_A_HOST: &str = ",$^&()!;'\"<>`{}[]|#=";

/// Refuses a host that `AWS-StartPortForwardingSessionToRemoteHost` does not take, before anything
/// is asked of the service.
///
/// # Errors
/// Fewer than three characters, or one that the document's pattern forbids.
pub fn check_remote_host(host: &str) -> Result<()> {
    let what = || format!("`{host}` cannot be the host of a forward");
    if host.chars().count() < 3 {
        return Err(Error::usage(what())
            .caused_by("Session Manager takes hosts of three characters and more")
            .hint(failure::FULL_NAME));
    }
    let wrong = |c: char| c.is_whitespace() || c.is_control() || NOT_IN_A_HOST.contains(c);
    match host.chars().find(|&c| wrong(c)) {
        Some(c) => Err(Error::usage(what())
            .caused_by(format!("Session Manager takes no `{c}` in a host"))
            .hint("use its full name or address: db.internal, 10.0.0.7, fd00::7")),
        None => Ok(()),
    }
}

/// Refuses what cannot have a session whatever its agent says.
fn check_state(instance: &Instance) -> Result<()> {
    let label = instance.label();
    let (what, hint) = match instance.state {
        State::Running | State::Pending => return Ok(()),
        State::Stopped => (
            format!("`{label}` is stopped"),
            hint!(
                "start it: aws ec2 start-instances --instance-ids {} --region {}",
                instance.id,
                instance.region
            ),
        ),
        State::Stopping => (
            format!("`{label}` is stopping"),
            hint!(
                "wait until it has stopped, then start it: aws ec2 start-instances --instance-ids {} --region {}",
                instance.id,
                instance.region
            ),
        ),
        State::ShuttingDown | State::Terminated => (
            format!(
                "`{label}` is {}",
                if instance.state == State::Terminated {
                    "terminated"
                } else {
                    "being terminated"
                }
            ),
            Hint::from("see what is there: ops ls"),
        ),
    };
    Err(Error::target(what)
        .caused_by(format!(
            "{} in region `{}` has state {}",
            instance.id,
            instance.region,
            instance.state.as_str()
        ))
        .hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_the_document_does_not_take_is_refused_here() {
        for host in ["db.internal", "db1", "10.0.0.7", "fd00::7", "::1"] {
            assert!(check_remote_host(host).is_ok(), "{host}");
        }
        for host in [
            "",
            "x",
            "db",
            "a;b.c",
            "$(id)",
            "a b c",
            "[fd00::7]",
            "a=b",
            "a`b`",
        ] {
            let error = check_remote_host(host).expect_err(host);
            assert_eq!(error.kind(), ErrorKind::Usage, "{host}");
            assert!(error.hints()[0].contains("full name"), "{host}");
        }
    }

    #[test]
    fn each_document_sends_its_parameters_as_lists_of_text() {
        assert_eq!(Document::shell().name_to_send(), None);
        assert_eq!(Document::shell().parameters(), None);
        let document = Document::PortForwardingToRemoteHost {
            host: "db".to_owned(),
            port: 3306,
        };
        assert_eq!(
            document.name(),
            "AWS-StartPortForwardingSessionToRemoteHost"
        );
        let parameters = document.parameters().expect("parameters");
        assert_eq!(parameters["portNumber"], ["3306"]);
        assert_eq!(parameters["host"], ["db"]);
        assert_eq!(document.expect(), Expect::Handshake);
        let ssh = Document::Ssh { port: 22 };
        assert_eq!(ssh.parameters().expect("parameters").len(), 1);
    }
}
