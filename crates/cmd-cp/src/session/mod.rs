//! Transport `session`: the shell of the server over Session Manager's own sessions; no sshd, no
//! key.
//!
//! What is fetched is the separated output of small scripts; what is stored is fed to a dialogue on
//! a raw terminal. See [`ops_remote::pipe`].

mod dialogue;
mod download;
pub(crate) mod fetch_archive;
mod frames;
pub(crate) mod fuzzing;
mod inflate;
mod list;
mod probe;
mod refusal;
mod script;
#[cfg(test)]
mod shells;
pub(crate) mod store_archive;
mod store_lanes;
mod tar_reader;
mod upload;
pub(crate) mod url_dialogue;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use ops_core::connect::Urgency;
use ops_profile::CopyVia;
use ops_remote::pipe::{CutOff, DocumentHabits, DownPipe, ScriptHost};
use ops_remote::script::compact;
use ops_ui::{Error, ErrorKind, Result, output::escape};

use self::{dialogue::Dialogue, probe::Tools};
use crate::{
    item::{ListRequest, Listing},
    remote_path::RemotePath,
    transport::{Fetch, FirstUse, Job, Server, Store, Transport},
};

const NAMES: &str = include_str!("scripts/names.sh");

/// One server by this transport.
///
/// StartSession may be called three times a second in an account and region, so sessions are
/// shared: one that is opened to fetch finds out what the server has and lists in the same session;
/// one that is opened to store does both over the dialogue that stores, which takes two.
pub(crate) struct ShellTransport {
    host: ScriptHost,
    /// As `host`, for sessions beside the first that carries content: they start after those that
    /// somebody waits for.
    further_host: ScriptHost,
    /// A session that carries content was opened.
    is_carrying: AtomicBool,
    tools: Tools,
    /// What files made here lose of their permissions.
    umask: u32,
    /// The shortest script, in bytes, that the service has refused in a command.
    refused: AtomicUsize,
    /// The answer to the question that the session was opened with, until it is asked for.
    first_answer: Mutex<Option<(ListRequest, Listing)>>,
    /// A dialogue that nobody uses at the moment.
    idle: tokio::sync::Mutex<Option<Dialogue>>,
}

/// What is known of a server once it was reached.
struct Reached {
    tools: Tools,
    listing: Option<Listing>,
    dialogue: Option<Dialogue>,
}

impl ShellTransport {
    /// `error` about what is stored at `path`, with that place in it.
    fn store_error(&self, error: Error, path: &RemotePath) -> Error {
        refusal::store_error(error, self.host.instance.label(), path)
    }

    /// Reaches the server and finds out what it has; `document` is the profile's own for commands.
    ///
    /// # Errors
    /// No session, or no command in it as the user asked for.
    pub(crate) async fn open(
        server: &Server,
        document: Option<String>,
        first_use: FirstUse<'_>,
    ) -> Result<Self> {
        let user = match (&server.user, server.sudo) {
            (Some(user), _) => Some(user.clone()),
            (None, true) => Some("root".to_owned()),
            (None, false) => None,
        };
        let host = ScriptHost {
            cx: server.cx.clone(),
            instance: server.instance.clone(),
            user,
            document,
            reason: server.reason.clone(),
            urgency: server.urgency,
            known: DocumentHabits::default(),
        };
        let reached = match first_use {
            FirstUse::List(ask) => retry_cut_off(&host, || reach_and_list(&host, ask)).await?,
            FirstUse::Store => reach_and_talk(&host).await?,
        };
        for note in reached.tools.notes_on_missing() {
            host.cx
                .output()
                .detail(format!("{}: {note}", escape(host.instance.label())));
        }
        let first_answer = match (first_use, reached.listing) {
            (FirstUse::List(ask), Some(listing)) => Some((ask.clone(), listing)),
            _ => None,
        };
        let further_host = ScriptHost {
            urgency: Urgency::Bulk,
            ..host.clone()
        };
        Ok(Self {
            host,
            further_host,
            is_carrying: AtomicBool::new(false),
            tools: reached.tools,
            refused: AtomicUsize::new(usize::MAX),
            umask: crate::local::umask(),
            first_answer: Mutex::new(first_answer),
            idle: tokio::sync::Mutex::new(reached.dialogue),
        })
    }

    /// A dialogue: the one that nobody uses, or another.
    ///
    /// # Errors
    /// As [`Dialogue::start`].
    async fn take_dialogue(&self) -> Result<Dialogue> {
        match self.idle.lock().await.take() {
            Some(dialogue) if dialogue.is_usable() => {
                self.is_carrying.store(true, Ordering::Relaxed);
                Ok(dialogue)
            }
            _ => Dialogue::start(self.next_carrier(), &self.tools).await,
        }
    }

    /// From where the next session that carries content is opened. What a small copy needs is as
    /// urgent as the copy; whatever comes beside or after that is some of many.
    fn next_carrier(&self) -> &ScriptHost {
        if self.is_carrying.swap(true, Ordering::Relaxed) {
            &self.further_host
        } else {
            &self.host
        }
    }

    /// Keeps a dialogue for whoever takes one next.
    async fn give_back(&self, dialogue: Dialogue) {
        *self.idle.lock().await = Some(dialogue);
    }

    /// Whether the service refuses a script of `len` bytes in a command, as far as is known.
    fn refuses(&self, len: usize) -> bool {
        len >= self.refused.load(Ordering::Relaxed)
    }

    /// Notes that the service has refused a script of `len` bytes, if `error` of its start can mean
    /// that.
    fn note_refusal(&self, len: usize, error: &Error) {
        if is_refusal(error) {
            self.refused.fetch_min(len, Ordering::Relaxed);
        }
    }

    /// Lists the places of `ask`, in halves where a command that names all of them is refused.
    async fn list_places(&self, ask: &ListRequest) -> Result<Listing> {
        if let Some(listing) = self.take_first_answer(ask) {
            return Ok(listing);
        }
        if let Some(listing) = self.list_by_idle_dialogue(ask).await? {
            return Ok(listing);
        }
        let count = ask.places.len();
        let error = match retry_cut_off(&self.host, || {
            list::list_by_session(&self.host, &self.tools, ask)
        })
        .await
        {
            Err(error) if is_refusal(&error) && count > 1 => error,
            listed => return listed,
        };
        let output = self.host.cx.output();
        output.detail(format!("asking for fewer places at once: {error}"));
        let (first, second) = ask.places.split_at(count / 2);
        let half = |places: &[Vec<u8>]| ListRequest {
            places: places.to_vec(),
            ..ask.clone()
        };
        let mut listing = Box::pin(self.list_places(&half(first))).await?;
        let mut more = Box::pin(self.list_places(&half(second))).await?;
        for found in &mut more.found {
            found.place += first.len();
        }
        listing.found.append(&mut more.found);
        listing.places.append(&mut more.places);
        listing.complaints.append(&mut more.complaints);
        Ok(listing)
    }

    /// The listing that came with the first session, if `ask` is what it was asked.
    fn take_first_answer(&self, ask: &ListRequest) -> Option<Listing> {
        let mut first = self
            .first_answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first
            .take_if(|(asked, _)| asked == ask)
            .map(|(_, listing)| listing)
    }

    /// Lists over the dialogue that nobody uses; `None` where there is none, or where it was lost
    /// over this.
    async fn list_by_idle_dialogue(&self, ask: &ListRequest) -> Result<Option<Listing>> {
        let mut idle = self.idle.lock().await;
        let Some(dialogue) = idle.as_mut().filter(|dialogue| dialogue.is_usable()) else {
            return Ok(None);
        };
        let label = self.host.instance.label();
        let error = match list::list_by_dialogue(dialogue, label, ask).await {
            Ok(listing) => return Ok(Some(listing)),
            Err(error) => error,
        };
        if !dialogue.is_lost() && !error.came_from::<CutOff>() {
            return Err(error);
        }
        *idle = None;
        let output = self.host.cx.output();
        output.detail(format!("asking by a session of its own: {error}"));
        Ok(None)
    }

    /// The version of the agent, if agents of that version keep all output of sessions on the
    /// server.
    pub(crate) fn version_that_keeps_output(&self) -> Option<String> {
        let version = self.host.known.agent_version();
        version
            .filter(|version| version.keeps_output_on_disk())
            .map(ToString::to_string)
    }

    /// Room on the server where its agent keeps that, in bytes; `None` where it is not known.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.tools.free_bytes
    }

    /// The permissions of a new file here.
    pub(crate) fn local_mode(&self, mode: u32) -> u32 {
        mode & 0o777 & !self.umask
    }
}

/// Finds out what the server has, and lists, over one session. Where the service refuses the script
/// of both for its length, the list is left for another.
async fn reach_and_list(host: &ScriptHost, ask: &ListRequest) -> Result<Reached> {
    let script = list::first_script(ask)?;
    let down = match DownPipe::start(host, &script).await {
        Ok(down) => down.strict(),
        Err(error) if is_refusal(&error) => {
            host.cx
                .output()
                .detail(format!("asking for less at once: {error}"));
            return Ok(Reached {
                tools: Tools::probe_server(host).await?,
                listing: None,
                dialogue: None,
            });
        }
        Err(error) => return Err(error),
    };
    let (tools, listing) = list::read_first(down, host.instance.label(), ask).await?;
    Ok(Reached {
        tools,
        listing: Some(listing),
        dialogue: None,
    })
}

/// Starts the dialogue that stores, and finds out over it what the server has.
async fn reach_and_talk(host: &ScriptHost) -> Result<Reached> {
    let label = host.instance.label();
    match retry_cut_off(host, || Dialogue::open(host)).await {
        Ok((dialogue, tools)) => Ok(Reached {
            tools,
            listing: None,
            dialogue: Some(dialogue),
        }),
        Err(error) if is_refusal(&error) => {
            // It may lack what a dialogue is made of, which the probe does without.
            let tools = retry_cut_off(host, || Tools::probe_server(host)).await?;
            probe::needed_to_send(&tools, label)?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// The script that prints the names in a folder as it was typed: see `scripts/names.sh`.
///
/// # Errors
/// The home of no user.
pub(crate) fn names_script(folder: &[u8]) -> Result<String> {
    let (base, rest) = list::base_of(folder)?;
    Ok(format!(
        "home=${{HOME:-/}}\nbase={base}\n{}{}",
        script::assign_variable("rest", &rest),
        compact(NAMES)
    ))
}

/// Whether a command that did not start can have been too long: what the service says of that is
/// not known.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Usage | ErrorKind::Unexpected)
}

/// Asks once or twice more where a session was lost under the question.
async fn retry_cut_off<T, F: Future<Output = Result<T>>>(
    host: &ScriptHost,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    for _ in 0..2 {
        match ask().await {
            Err(error) if error.came_from::<CutOff>() => {
                host.cx.output().detail(format!("asking again: {error}"));
            }
            other => return other,
        }
    }
    ask().await
}

impl Transport for ShellTransport {
    fn via(&self) -> CopyVia {
        CopyVia::Session
    }

    fn list<'a>(&'a self, ask: &'a ListRequest) -> BoxFuture<'a, Result<Listing>> {
        self.list_places(ask).boxed()
    }

    fn download<'a>(&'a self, files: Vec<Fetch>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        async move {
            download::download_files(self, files, job).await;
            Ok(())
        }
        .boxed()
    }

    fn upload<'a>(&'a self, items: Vec<Store>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        async move {
            let uploaded = upload::upload_items(self, items, job).await?;
            let Some(mut dialogue) = uploaded.dialogue else {
                return Ok(());
            };
            upload::set_last_attributes(&mut dialogue, &uploaded.last, job).await?;
            dialogue.quit_dialogue().await
        }
        .boxed()
    }
}
