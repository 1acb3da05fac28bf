//! Transport `session`: the shell of the server over Session Manager's own sessions; no sshd, no
//! key.
//!
//! What is fetched is the separated output of small scripts; what is stored is fed to a dialogue on
//! a raw terminal. See [`ops_remote::pipe`].

mod archive;
pub(crate) mod bundle;
pub(crate) mod courier;
mod dialogue;
mod download;
mod frames;
pub(crate) mod fuzzing;
mod inflate;
mod list;
pub(crate) mod pack;
mod probe;
mod script;
#[cfg(test)]
mod shells;
mod split;
mod stripes;
mod upload;

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{FutureExt as _, future::BoxFuture};
use ops_profile::CopyVia;
use ops_remote::pipe::{CutOff, Far, Known};
use ops_ui::{Error, ErrorKind, Result, output::escape};

use self::probe::Tools;
use crate::{
    item::{Ask, Listing},
    transport::{Fetch, Job, Server, Store, Transport},
};

/// One server by this transport.
pub(crate) struct Session {
    far: Far,
    tools: Tools,
    /// What files made here lose of their permissions.
    umask: u32,
    /// The shortest script, in bytes, that the service has refused in a command.
    refused: AtomicUsize,
}

impl Session {
    /// Finds out what the server has; `document` is the profile's own for commands.
    ///
    /// # Errors
    /// No session, or no command in it as the user asked for.
    pub(crate) async fn open(server: &Server, document: Option<String>) -> Result<Self> {
        let user = match (&server.user, server.sudo) {
            (Some(user), _) => Some(user.clone()),
            (None, true) => Some("root".to_owned()),
            (None, false) => None,
        };
        let far = Far {
            cx: server.cx.clone(),
            instance: server.instance.clone(),
            user,
            document,
            reason: server.reason.clone(),
            urgency: server.urgency,
            known: Known::default(),
        };
        let tools = again(&far, || Tools::probe(&far)).await?;
        for note in tools.lacks() {
            far.cx
                .output()
                .detail(format!("{}: {note}", escape(far.instance.label())));
        }
        Ok(Self {
            far,
            tools,
            refused: AtomicUsize::new(usize::MAX),
            umask: crate::local::umask(),
        })
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
    async fn list_places(&self, ask: &Ask) -> Result<Listing> {
        let count = ask.places.len();
        let error = match again(&self.far, || list::list(&self.far, &self.tools, ask)).await {
            Err(error) if is_refusal(&error) && count > 1 => error,
            listed => return listed,
        };
        let output = self.far.cx.output();
        output.detail(format!("asking for fewer places at once: {error}"));
        let (first, second) = ask.places.split_at(count / 2);
        let half = |places: &[Vec<u8>]| Ask {
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

    /// The permissions of a new file here.
    pub(crate) fn local_mode(&self, mode: u32) -> u32 {
        mode & 0o777 & !self.umask
    }
}

/// Whether a command that did not start can have been too long: what the service says of that is
/// not known.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Usage | ErrorKind::Unexpected)
}

/// Asks once or twice more where a session was lost under the question.
async fn again<T, F: Future<Output = Result<T>>>(
    far: &Far,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    for _ in 0..2 {
        match ask().await {
            Err(error) if error.came_from::<CutOff>() => {
                far.cx.output().detail(format!("asking again: {error}"));
            }
            other => return other,
        }
    }
    ask().await
}

impl Transport for Session {
    fn via(&self) -> CopyVia {
        CopyVia::Session
    }

    fn list<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Listing>> {
        self.list_places(ask).boxed()
    }

    fn download<'a>(&'a self, files: Vec<Fetch>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        async move {
            download::download(self, files, job).await;
            Ok(())
        }
        .boxed()
    }

    fn upload<'a>(&'a self, items: Vec<Store>, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        upload::upload(self, items, job).boxed()
    }
}
