//! Transport `session`: the shell of the server over Session Manager's own sessions; no sshd, no key.
//!
//! What is fetched is the separated output of small scripts; what is stored is fed to a dialogue on a raw terminal. See [`ops_remote::pipe`].

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

use futures_util::{FutureExt as _, future::BoxFuture};
use ops_core::{Result, output::escape, profile::CopyVia};
use ops_remote::pipe::{Far, Known};

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
            umask: crate::local::umask(),
        })
    }

    /// The permissions of a new file here.
    pub(crate) fn local_mode(&self, mode: u32) -> u32 {
        mode & 0o777 & !self.umask
    }
}

/// Asks once or twice more where a session was lost under the question.
async fn again<T, F: Future<Output = Result<T>>>(
    far: &Far,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    for _ in 0..2 {
        match ask().await {
            Err(error) if error.what().contains("was cut off") => {
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
        async move { again(&self.far, || list::list(&self.far, &self.tools, ask)).await }.boxed()
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
