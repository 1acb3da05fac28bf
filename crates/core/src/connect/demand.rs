//! Whether a session has to be encrypted, as far as that can be known, and the refusal of one that
//! has to be and is not.
//!
//! The agent begins the round of keys, and the answer of StartSession does not say whether it has
//! to. Whoever answers in the agent's place, or carries its messages, could therefore leave the
//! round out and read everything; the official client takes such a session. Two things tell `ops`
//! better: the session preferences, where somebody may read them, and the sessions that it has
//! opened before. Both are kept for each account, region and document under
//! `$XDG_CACHE_HOME/ops/encrypted-sessions`, a file with the name of the key each. What is not in
//! there cannot be known: the first session of all is taken as it comes.

use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use ops_profile::Instance;
use ops_session::{documents, handshake::Ready};
use ops_ui::{Error, ErrorKind, Result, hint, paths};

use super::document::Document;
use crate::{
    aws::{Aws, KeyName, hex_digest},
    calls::SessionPreferences,
    context::Context,
};

/// How long an encrypted session is remembered after the last one. A key that was taken out of the
/// preferences meanwhile costs one look at the preferences, so that this may be long.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// A file that is younger need not be written again for its time alone.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// The longest name of a key that is read from a file, in bytes; an ARN has at most 2,048.
const MAX_KEY_BYTES: u64 = 4_096;

/// The sessions of one document in an account and region.
struct Sessions<'a> {
    aws: &'a Aws,
    /// What they are remembered by: a digest, which is a file's name.
    name: String,
    /// `None` where nothing is to stay: each embedded sandbox has an account of its own.
    file: Option<PathBuf>,
}

impl<'a> Sessions<'a> {
    async fn of(cx: &Context, aws: &'a Aws, region: &str, document: &str) -> Self {
        let scope = aws.account_scope(region).await;
        let name = hex_digest(format!("{scope}\n{document}").as_bytes());
        let folder = (!aws.options().sandbox).then(|| cx.paths().cache.join("encrypted-sessions"));
        Self {
            file: folder.map(|folder| folder.join(&name[..32])),
            aws,
            name,
        }
    }

    /// The key that they are known to be encrypted with.
    fn known_key(&self) -> Option<String> {
        let known = self.aws.session_keys.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        known.get(&self.name).cloned().or_else(|| {
            let file = self.file.as_deref()?;
            let key = read_key(file)?;
            if age(file).is_none_or(|age| age > KEPT) {
                let _ = std::fs::remove_file(file);
                return None;
            }
            Some(key)
        })
    }

    fn remember(&self, key: &str) {
        let mut known = self
            .aws
            .session_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.insert(self.name.clone(), key.to_owned()).as_deref() == Some(key) {
            return;
        }
        let Some(file) = &self.file else { return };
        let is_fresh = age(file).is_some_and(|age| age < FRESH);
        if is_fresh && read_key(file).as_deref() == Some(key) {
            return;
        }
        if let Err(error) = paths::replace_private(file, key.as_bytes()) {
            tracing::debug!(%error, "that sessions are encrypted is not remembered");
        }
    }

    fn forget(&self) {
        let known = self.aws.session_keys.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.name);
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn read_key(file: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut key = String::new();
    let file = std::fs::File::open(file).ok()?;
    file.take(MAX_KEY_BYTES).read_to_string(&mut key).ok()?;
    // It is shown, and a file may hold anything.
    let is_name = !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic());
    is_name.then_some(key)
}

/// `None` for a file that is not there. One of the future counts as just written: only a clock that
/// was wrong makes it.
fn age(file: &Path) -> Option<Duration> {
    let written = file.metadata().and_then(|data| data.modified()).ok()?;
    Some(
        SystemTime::now()
            .duration_since(written)
            .unwrap_or_default(),
    )
}

impl Context {
    /// Remembers what the content of a session document, which somebody has read, says of its
    /// sessions.
    pub(crate) async fn learn_encryption(&self, region: &str, document: &str, content: &str) {
        // Content that cannot be read says nothing of a key, least of all that there is none.
        let Ok(preferences) = SessionPreferences::of(content) else {
            return;
        };
        let Ok(aws) = self.aws().await else { return };
        let sessions = Sessions::of(self, aws, region, document).await;
        match preferences.kms_key {
            Some(key) => sessions.remember(&key),
            // The preferences say all about their own sessions. Whether another document without a
            // key has theirs is not documented.
            None if document == documents::SHELL => sessions.forget(),
            None => {}
        }
    }

    /// Refuses a session that is ready and not encrypted as those before it were, or as the
    /// preferences demand. Nothing of the user has gone out by then.
    ///
    /// # Errors
    /// No encryption, or a key of another account.
    pub(super) async fn check_encryption(
        &self,
        instance: &Instance,
        document: &Document,
        ready: &Ready,
    ) -> Result<()> {
        if !document.can_be_encrypted() {
            return Ok(());
        }
        let aws = self.aws().await?;
        let sessions = Sessions::of(self, aws, &instance.region, document.name()).await;
        let known = sessions.known_key();
        match (&ready.encrypted_with, known) {
            (None, None) => Ok(()),
            (Some(key), known) => {
                if let Some(known) = known.filter(|known| is_of_another_account(known, key)) {
                    return Err(wrong_key(instance, key, &known));
                }
                sessions.remember(key);
                Ok(())
            }
            (None, Some(_)) => {
                // Of many sessions at once the first one looks, and the others see what it saw.
                let _looking = aws.looking_at_preferences.lock().await;
                let Some(known) = sessions.known_key() else {
                    return Ok(());
                };
                if self.has_lost_its_key(&instance.region, document).await {
                    sessions.forget();
                    return Ok(());
                }
                Err(not_encrypted(instance, document, &known, &sessions))
            }
        }
    }

    /// Whether the preferences can be read, and neither they nor the document name a key (any
    /// more).
    async fn has_lost_its_key(&self, region: &str, document: &Document) -> bool {
        let mut preferences = vec![self.account_preferences(region).await];
        // The documents of AWS name none.
        let name = document.name();
        if name != documents::SHELL && !name.starts_with("AWS-") {
            preferences.push(self.session_preferences(name, region).await);
        }
        preferences
            .into_iter()
            .all(|preferences| match preferences {
                Ok(preferences) => preferences.kms_key.is_none(),
                Err(error) => {
                    tracing::debug!(%error, "the preferences cannot be read");
                    false
                }
            })
    }
}

/// Whether both names tell their accounts, and they differ. A key that was exchanged for another
/// one of the same account is no business of ours.
fn is_of_another_account(known: &str, key: &str) -> bool {
    let account = |key| KeyName::of(key).account;
    account(known)
        .zip(account(key))
        .is_some_and(|(known, now)| known != now)
}

fn refused(instance: &Instance) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("the session on `{}` is not opened", instance.label()),
    )
    .lasting()
}

fn not_encrypted(
    instance: &Instance,
    document: &Document,
    key: &str,
    sessions: &Sessions<'_>,
) -> Error {
    let error = refused(instance)
        .caused_by(format!(
            "sessions by `{}` are encrypted with the KMS key `{key}` in this account, and this one was not",
            document.name()
        ))
        .caused_by("the server's agent, or somebody between here and there, has asked for no key")
        .hint(hint!(
            "see whether the account still demands it (`kmsKeyId`): aws ssm get-document --name {} --region {}",
            documents::SHELL,
            instance.region.as_str()
        ));
    match &sessions.file {
        Some(file) => error.hint(hint!(
            "if it does not, have `ops` forget the key: rm {}",
            file.display().to_string()
        )),
        None => error,
    }
    .named("not-encrypted")
}

fn wrong_key(instance: &Instance, key: &str, known: &str) -> Error {
    refused(instance)
        .caused_by(format!("the agent has it encrypted with `{key}`, a key of another account; before it was `{known}`"))
        .hint("ask whoever keeps the session preferences whether the new key is theirs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_accounts_are_told_apart_where_both_tell_theirs() {
        let key = |account: &str| format!("arn:aws:kms:eu-west-1:{account}:key/k");
        let (one, other) = (key("111122223333"), key("444455556666"));
        assert!(is_of_another_account(&one, &other));
        assert!(!is_of_another_account(&one, &one));
        assert!(!is_of_another_account("alias/sessions", &other));
    }
}
