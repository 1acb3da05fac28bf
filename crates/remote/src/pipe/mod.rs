//! Bytes to and from a process on a server, with nothing on the server but a POSIX sh.
//!
//! ```text
//!        Down                                       Up
//! AWS-StartNonInteractiveCommand             AWS-StartInteractiveCommand
//! script | base64  ──► output, no pause      raw terminal ──► read N; head -c N | script
//! messages and exit status                   credits and messages ◄── the terminal's output,
//!        ──► error output                           or a Down of its own
//! ```
//!
//! The agent sends the separated output of a command as fast as it comes, and writes input to a
//! terminal as fast as it is taken; everything else it paces at a kilobyte a millisecond, and a
//! terminal's first output comes a second late. [`DownPipe`] and [`UpPipe`] each use one of the
//! two; [`Pipe`] joins them at a FIFO in a private folder of the server, so that one process there
//! has both. [`UpPipe::dialogue`] joins them the other way: what a script on the terminal has to
//! say leaves by separated output, so that nothing waits for that second.
//!
//! **What holds back whom.** Down: what is not taken from [`DownPipe::next`] waits in the session's
//! bounded queue, then in the network; the script blocks. Up: bytes go in frames, each announced by
//! its length, and the far side grants credit for the next when it has handed one on; a slow script
//! holds back [`UpPipe::send`], and never more than a frame is under way, or two where
//! [`UpPipe::send_ahead`] allows it.
//!
//! **When it arrives.** What a process at a [`Pipe`] writes arrives as it is written, each read of
//! its output a run of base64 of its own; a [`DownPipe`] by itself waits for full buffers, which is
//! faster. A frame up is handed on when it is complete.
//!
//! **What a lost connection does.** Upwards nothing: the terminal's session is taken up again where
//! it was. Downwards the agent gives up what it had no place for in that moment, and
//! [`DownPipe::next`] fails, after twelve seconds without a sign of life at the latest; it never
//! ends in order with a part missing. Only [`UpPipe::end`] is an end of input to the process: one
//! whose session is lost waits, and is ended.
//!
//! **What is left behind.** Nothing: a script that makes something for the moment has a keeper, a
//! small process beside it that outlives its death by any signal, holds no terminal, ends the
//! process at a pipe with all it has started, and removes what is left. Sessions are terminated at
//! the service on every way out. `docs/pipe.md` tells more; `crates/ops/tests/pipe.rs` holds it all
//! to its word.

pub(crate) mod down;
pub(crate) mod lines;
pub(crate) mod scripts;
#[cfg(test)]
mod shells;
pub mod text;
pub(crate) mod trickle;
mod up;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use ops_session::handshake::AgentVersion;
use tokio::sync::OnceCell;

use ops_core::{
    BoxFuture, Context, Document, OpenOptions,
    calls::{CommandDocument, Separation},
    connect::Urgency,
    trouble::Troubled,
};
use ops_profile::Instance;
use ops_ui::{Error, ErrorKind, Hint, Result, hint, output::escape};

pub use self::{
    down::{Chunk, DownPipe},
    up::{FRAME_BYTES, LOST, UpPipe},
};

/// The output of a process was cut off, because its session was lost or a server's terminal lost
/// bytes: asking again may help.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the output was cut off")]
pub struct CutOff;

/// The session with `host` has ended, and the script in it has not said why.
pub fn session_lost(host: &ScriptHost) -> Error {
    let Instance { id, region, .. } = &host.instance;
    let label = host.instance.label();
    Error::target(format!("the session on `{label}` was lost"))
        .caused_by(format!(
            "it ended, or was ended there, before its work was done (`{id}` in `{region}`)"
        ))
        .hint("the same command once more may well succeed")
        .hint(hint!(
            "see what is wrong with sessions there: ops doctor {}",
            label
        ))
}

/// Where and how scripts of one command run.
#[derive(Clone)]
pub struct ScriptHost {
    /// The invocation.
    pub cx: Context,
    /// The server.
    pub instance: Instance,
    /// The user to become, with `sudo -n`.
    pub user: Option<String>,
    /// A document of the profile's for commands, in place of AWS's own.
    pub document: Option<String>,
    /// Why, for the session's history.
    pub reason: Option<String>,
    /// Whether somebody waits for just this server.
    pub urgency: Urgency,
    /// What was learned of the document.
    pub known: DocumentHabits,
}

/// What was learned of a document for commands, and told of its server; shared by the clones of a
/// [`ScriptHost`].
#[derive(Clone, Debug, Default)]
pub struct DocumentHabits(Arc<DocumentFindings>);

#[derive(Debug, Default)]
struct DocumentFindings {
    /// It takes no parameter for separated output.
    no_parameter: AtomicBool,
    /// Output and error output come as one, when the command has ended.
    joined: AtomicBool,
    /// They have come apart.
    separated: AtomicBool,
    /// That was said already.
    told: AtomicBool,
    /// The agent's own word for its version, from a handshake.
    version: OnceLock<AgentVersion>,
    troubled: Troubled,
    /// A program may have begun on the server.
    reached: Arc<AtomicBool>,
    /// What the document's content says of commands.
    document: OnceCell<CommandDocument>,
}

impl DocumentHabits {
    /// Whether output comes only when a command has ended, at the slow pace; known once the first
    /// script has ended.
    pub fn is_joined(&self) -> bool {
        self.0.joined.load(Ordering::Relaxed)
    }

    /// The agent's version, once a script has been started.
    pub fn agent_version(&self) -> Option<&AgentVersion> {
        self.0.version.get()
    }

    /// Takes the version that a handshake told. An agent that does not know separated output needs
    /// no script to show that.
    fn learn_version(&self, version: &AgentVersion) {
        let version = self.0.version.get_or_init(|| version.clone());
        if version.ignores_separated_output() {
            self.0.no_parameter.store(true, Ordering::Relaxed);
            self.0.joined.store(true, Ordering::Relaxed);
        }
    }

    /// What was known of programs before belonged to another one.
    pub(crate) fn forget_reached(&self) {
        self.0.reached.store(false, Ordering::Relaxed);
    }

    /// Whether a program of ours may have begun on the server, told of or not.
    pub(crate) fn has_reached(&self) -> bool {
        self.0.reached.load(Ordering::Relaxed)
    }

    pub(crate) fn is_learned(&self) -> bool {
        self.is_joined() || self.0.separated.load(Ordering::Relaxed)
    }
}

impl ScriptHost {
    /// Whether output may come only when a command has ended: by what was seen, by the agent's
    /// version, or since the document was refused the parameter and no output was seen yet.
    fn may_join_output(&self) -> bool {
        let learned = &self.known.0;
        let listed = self.instance.agent_version.as_deref();
        self.known.is_joined()
            || !learned.separated.load(Ordering::Relaxed)
                && (learned.no_parameter.load(Ordering::Relaxed)
                    || self.known.agent_version().is_none()
                        && listed.is_some_and(|listed| {
                            AgentVersion::new(listed).ignores_separated_output()
                        }))
    }

    /// The command line that runs `script`, which must hold no single quote.
    fn command(&self, script: &str) -> Result<String> {
        if script.contains('\'') {
            return Err(Error::unexpected(
                "a script for the far side holds a single quote",
            ));
        }
        Ok(match &self.user {
            None => format!("sh -c '{script}'"),
            Some(user) if user.contains('\'') => {
                return Err(Error::usage(format!("`{}` is no user name", escape(user))));
            }
            // Fails at once where a password would be asked for.
            Some(user) => format!("sudo -n -H -u '{user}' -- sh -c '{script}'"),
        })
    }

    /// How its sessions are opened.
    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions {
            urgency: self.urgency,
            reached: Arc::clone(&self.known.0.reached),
            ..OpenOptions::reason(self.reason.clone())
        }
    }

    pub(crate) fn interactive(&self, script: &str) -> Result<Document> {
        Ok(Document::Interactive {
            command: self.command(script)?,
        })
    }

    /// What the profile's own document says of commands; asked once. One that cannot be read is
    /// taken to be as AWS's own is, and what it does with output shows when a command has ended.
    ///
    /// What is learned of output in this way saves a StartSession with a parameter that the
    /// document refuses, and a session that would only show how output comes.
    pub async fn read_document(&self) -> CommandDocument {
        let Some(name) = &self.document else {
            return CommandDocument::default();
        };
        let look = async {
            let region = &self.instance.region;
            // Boxed: the SDK's future is large, and every script would carry it.
            let read = Box::pin(self.cx.command_document(name, region)).await;
            let findings = &self.known.0;
            let document = match read {
                Ok(document) => document,
                Err(error) => {
                    self.cx.output().detail(error.to_string());
                    let refused = self.cx.has_refused_separation(name, region).await;
                    findings.no_parameter.store(refused, Ordering::Relaxed);
                    CommandDocument::default()
                }
            };
            match document.separation {
                Separation::Always => {
                    findings.no_parameter.store(true, Ordering::Relaxed);
                    findings.separated.store(true, Ordering::Relaxed);
                }
                Separation::Never => {
                    findings.no_parameter.store(true, Ordering::Relaxed);
                    findings.joined.store(true, Ordering::Relaxed);
                }
                Separation::ByParameter | Separation::Unknown => {}
            }
            document
        };
        *self.known.0.document.get_or_init(|| look).await
    }

    /// A clearer error where it was sudo that refused, else none.
    pub(crate) fn refused(&self, complaints: &[&str]) -> Option<Error> {
        let user = self.user.as_deref()?;
        let words = complaints.iter().rev().find(|line| {
            line.starts_with("sudo:")
                || line.contains("sudoers")
                || line.contains("sudo: not found")
                || (line.contains("\"sudo\"") && line.contains("not found"))
        })?;
        Some(
            Error::new(
                ErrorKind::Denied,
                format!(
                    "the session on `{}` may not become `{}`",
                    self.instance.label(),
                    escape(user)
                ),
            )
            .caused_by(words)
            .hint(hint!(
                "allow it on the server, in /etc/sudoers.d: ssm-user ALL=({}) NOPASSWD: ALL",
                Hint::document(user)
            )),
        )
    }
}

/// The folder of a keeper as its script named it: it goes back into a script.
pub(crate) fn folder(told: &str) -> Result<&str> {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    if told.starts_with('/') && told.bytes().all(harmless) {
        Ok(told)
    } else {
        Err(Error::target(
            "the server named a folder that cannot be used",
        ))
    }
}

/// Waits for the message that names the keeper's folder.
async fn await_folder(down: &mut DownPipe) -> Result<String> {
    loop {
        match down.next().await? {
            Some(Chunk::Message(text)) => {
                if let Some(path) = text.strip_prefix("folder ") {
                    return folder(path).map(str::to_owned);
                }
            }
            Some(Chunk::Bytes(_)) => {}
            None => return Err(down.failed("no pipe could be made on the server")),
        }
    }
}

/// A process on a server with its input and output.
///
/// Both halves have to be driven at the same time, as with any pipe to a process: one that is full
/// holds back the other. Dropped, or when either session is lost, the process is ended, with what
/// it has started; it never takes an input that was cut off for a whole one.
pub struct Pipe {
    /// What it writes. [`DownPipe::status`] is the status of the script, once [`DownPipe::next`]
    /// has given `None`.
    pub down: DownPipe,
    /// What it reads. [`UpPipe::end`] closes that; an error of [`UpPipe::send`] says no more than
    /// that it reads no more.
    pub up: UpPipe,
}

impl Pipe {
    /// Starts `script`, which holds no single quote, with a FIFO as its standard input, in the home
    /// of its user.
    ///
    /// # Errors
    /// As [`DownPipe::start`]; a server without stty or mkfifo; a document without separated
    /// output, over which nothing comes before the end.
    pub fn start<'a>(host: &'a ScriptHost, script: &'a str) -> BoxFuture<'a, Result<Self>> {
        Box::pin(Self::start_unboxed(host, script))
    }

    async fn start_unboxed(host: &ScriptHost, script: &str) -> Result<Self> {
        if !host.known.is_learned() {
            // Of a document without, nothing would ever come.
            DownPipe::start(host, "").await?.wait().await?;
        }
        if host.known.is_joined() {
            return Err(no_live_output(host));
        }
        let mut down = DownPipe::start_kept(host, &scripts::process(script)).await?;
        let folder = await_folder(&mut down).await?;
        let up = UpPipe::start(host, &folder).await?;
        Ok(Self { down, up })
    }
}

/// What needs both directions at once cannot be had from this document, or from this agent.
pub(crate) fn no_live_output(host: &ScriptHost) -> Error {
    let error = Error::target(format!(
        "`{}` sends the output of a command only when it has ended",
        host.instance.label()
    ));
    let version = host.known.agent_version();
    match version.filter(|version| version.ignores_separated_output()) {
        Some(version) => error
            .caused_by(format!(
                "its agent has version {version}, and output that comes at once begins with 3.1.1511.0"
            ))
            .hint("update it: aws ssm send-command --document-name AWS-UpdateSSMAgent --targets Key=InstanceIds,Values=ID"),
        None => error
            .caused_by("the document has no separated output")
            .hint("name one that has in the profile: copy.document"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_with_a_single_quote_never_leaves() {
        let cx = Context::new(
            ops_ui::Globals::default(),
            ops_ui::Env::default(),
            ops_profile::Verbs::default(),
        );
        let host = ScriptHost {
            cx,
            instance: Instance::bare("i-0123456789abcdef0", "eu-west-1"),
            user: Some("de$ploy".to_owned()),
            document: None,
            reason: None,
            urgency: Urgency::default(),
            known: DocumentHabits::default(),
        };
        assert!(host.command("echo 'x'").is_err());
        assert_eq!(
            host.command("id -un").unwrap(),
            "sudo -n -H -u 'de$ploy' -- sh -c 'id -un'"
        );
        assert!(host.refused(&["sudo: a password is required"]).is_some());
        assert!(host.refused(&["tar: x: gone"]).is_none());
    }

    #[test]
    fn a_folder_that_could_leave_its_quotes_is_refused() {
        assert!(folder("/tmp/ops-pipe.aB3_x").is_ok());
        for bad in ["tmp/x", "/tmp/$(id)", "/tmp/\"x", "/a b", "/a'b"] {
            assert!(folder(bad).is_err(), "{bad}");
        }
    }
}
