//! Documents for commands that take no parameter for separated output, and may not be read.
//!
//! Whoever may read a document knows what it takes. To others a refused StartSession tells it, and
//! they are not to make one in every copy: this process remembers the document, and so does a file
//! under `$XDG_CACHE_HOME/ops/refused-separation`, which is good for a day. Until then a document
//! that was given the parameter meanwhile is used without, and its output comes at the end.

use std::{
    path::PathBuf,
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use ops_ui::paths;

use crate::{BoxFuture, aws::hex_digest, context::Context};

/// How long a file is good.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// A document, as it is remembered.
struct Remembered {
    name: String,
    /// `None` in an embedded sandbox, which is an account of its own each time.
    file: Option<PathBuf>,
}

impl Context {
    /// Whether the document `name` of this account has lately refused the parameter for separated
    /// output.
    pub fn has_refused_separation<'a>(
        &'a self,
        name: &'a str,
        region: &'a str,
    ) -> BoxFuture<'a, bool> {
        Box::pin(self.has_refused_separation_unboxed(name, region))
    }

    async fn has_refused_separation_unboxed(&self, name: &str, region: &str) -> bool {
        let Some(document) = self.remembered(name, region).await else {
            return false;
        };
        let known = self.0.refused_separation.lock();
        if known
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&document.name)
        {
            return true;
        }
        let written = document
            .file
            .and_then(|file| file.metadata().and_then(|data| data.modified()).ok());
        // A time in the future is of a clock that was wrong.
        written.is_some_and(|written| {
            let age = SystemTime::now().duration_since(written);
            age.is_ok_and(|age| age < GOOD_FOR)
        })
    }

    /// Remembers that the document `name` has refused the parameter.
    pub fn remember_refused_separation<'a>(
        &'a self,
        name: &'a str,
        region: &'a str,
    ) -> BoxFuture<'a, ()> {
        Box::pin(self.remember_refused_separation_unboxed(name, region))
    }

    async fn remember_refused_separation_unboxed(&self, name: &str, region: &str) {
        let Some(document) = self.remembered(name, region).await else {
            return;
        };
        let known = self.0.refused_separation.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .insert(document.name);
        // Without it the next process makes a call that is refused.
        if let Some(file) = document.file
            && let Err(error) = paths::replace_private(&file, b"")
        {
            tracing::debug!(%error, "what the document takes is not remembered");
        }
    }

    async fn remembered(&self, name: &str, region: &str) -> Option<Remembered> {
        let aws = self.aws().await.ok()?;
        let scope = aws.account_scope(region).await;
        let mut digest = hex_digest(format!("{scope}\n{name}").as_bytes());
        digest.truncate(32);
        let folder = || self.paths().cache.join("refused-separation");
        Some(Remembered {
            file: (!aws.options().sandbox).then(|| folder().join(&digest)),
            name: digest,
        })
    }
}
