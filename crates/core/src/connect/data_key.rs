//! The data key of an encrypted session: who is asked for it, and what is told when there is none.

use std::sync::OnceLock;

use ops_session::driver::{DataKey, DataKeyRequest, NoDataKey};
use ops_ui::{Error, ErrorKind, Hint, hint};

use crate::{
    aws::{Aws, Call, DirectError, DirectFailure, KeyName, code_of, encryption_context},
    context::Context,
    iam,
    partition::Partition,
};

/// What a session and whoever opened it know of its encryption.
#[derive(Default)]
pub(super) struct KeyRecord {
    /// The KMS key that the agent has named.
    pub(super) key_id: OnceLock<String>,
    /// Why there is no data key of it.
    pub(super) refused: OnceLock<Error>,
}

/// Which session a data key is for.
pub(super) struct SessionKey<'a> {
    pub(super) session_id: &'a str,
    /// Exactly as StartSession was given it.
    pub(super) target: &'a str,
    /// Of the server.
    pub(super) region: &'a str,
    /// Of the server, for what is told.
    pub(super) label: &'a str,
}

impl SessionKey<'_> {
    /// Asks KMS for the data key that the agent demands, and keeps in `record` what came of it.
    pub(super) async fn fetch(
        &self,
        cx: &Context,
        record: &KeyRecord,
        wanted: DataKeyRequest,
    ) -> Result<DataKey, NoDataKey> {
        let DataKeyRequest { key_id, challenge } = wanted;
        let key = KeyName::of(record.key_id.get_or_init(|| key_id));
        let context = encryption_context(self.session_id, self.target, challenge);
        let own_partition = |region: &&str| Partition::of(region) == Partition::of(self.region);
        // Elsewhere the caller's credentials are good for nothing: KMS says here what it thinks.
        let region = key.region.filter(own_partition).unwrap_or(self.region);
        let aws = match cx.aws().await {
            Ok(aws) => aws,
            Err(error) => return Err(refuse(record, error, "No AWS configuration")),
        };
        tracing::debug!(region, "asking for a data key");
        match aws.generate_data_key(&key, region, &context).await {
            Ok(key) => Ok(key),
            Err(DirectFailure::Unasked(error)) => {
                let error = self.without_credentials(&key, &error);
                Err(refuse(record, error, "No AWS credentials"))
            }
            Err(DirectFailure::Call(error)) => {
                // The agent writes it into its log: the code, and nothing of who called.
                let code = code_of(&*error).unwrap_or("No answer").to_owned();
                let error = self.refused(aws, &key, region, &error);
                Err(refuse(record, error, &code))
            }
        }
    }

    fn what(&self) -> String {
        format!("the session on `{}` could not be encrypted", self.label)
    }

    fn demand(key: &KeyName<'_>) -> String {
        format!(
            "the account's session preferences demand encryption with the KMS key `{}`",
            key.text
        )
    }

    fn without_credentials(&self, key: &KeyName<'_>, error: &Error) -> Error {
        Error::new(error.kind(), self.what())
            .caused_by(Self::demand(key))
            .caused_by(error.what())
            .caused_as(error)
            .hinted_as(error)
    }

    /// Words for a refused call.
    fn refused(&self, aws: &Aws, key: &KeyName<'_>, region: &str, error: &DirectError) -> Error {
        let call = aws.call(iam::GENERATE_DATA_KEY, Some(key.text.to_owned()), region);
        let words = self.words(&call, key, region, error);
        let words = Error::new(words.kind(), self.what())
            .caused_by(Self::demand(key))
            .caused_as(&words)
            .hinted_as(&words)
            .with_request_id(words.request_id());
        let own = aws.known_account();
        match key.account.filter(|account| own.is_some_and(|own| own != *account)) {
            Some(account) => words.caused_by(format!(
                "the key is in the account {account}, whose own policy of the key has to allow the caller too"
            )),
            None => words,
        }
        .lasting()
    }

    fn words(&self, call: &Call, key: &KeyName<'_>, region: &str, error: &DirectError) -> Error {
        let as_target = || call.failed_as(ErrorKind::Unreachable, self.what(), error);
        let change = "or have the key changed in the account's session preferences (Systems Manager, Session Manager, Preferences)";
        match code_of(error).unwrap_or_default() {
            "DisabledException" => as_target()
                .hint(hint!("have the key enabled: aws kms enable-key --key-id {} --region {}", key.text, region))
                .hint(change),
            "KMSInvalidStateException" | "KeyUnavailableException" => as_target()
                .caused_by("a key that is to be deleted, or whose key material is not there, encrypts nothing")
                .hint(hint!("see its state: aws kms describe-key --key-id {} --region {}", key.text, region))
                .hint(change),
            "NotFoundException" => as_target()
                .caused_by(format!("there is no such key in region `{region}`, or it has been deleted"))
                .hint(hint!("see the keys there: aws kms list-keys --region {}", region))
                .hint(change),
            "InvalidKeyUsageException" => as_target()
                .caused_by("sessions are encrypted with symmetric keys alone")
                .hint(change),
            _ => call.failed(self.what(), error),
        }
    }
}

/// Keeps `error` for whoever opened the session; the agent is told `why` alone.
fn refuse(record: &KeyRecord, error: Error, why: &str) -> NoDataKey {
    let _ = record.refused.set(error);
    NoDataKey(format!("Fetching data key failed: {why}"))
}

/// Words for a session whose agent could not use the key: `text` is the agent's.
pub(super) fn decryption_failed(
    label: &str,
    server_region: &str,
    record: &KeyRecord,
    text: &str,
) -> Error {
    let error = Error::target(format!("the session on `{label}` could not be encrypted"))
        .caused_by(text)
        .lasting();
    let Some(key_id) = record.key_id.get() else {
        return error.hint("the caller needs `kms:GenerateDataKey` on the session key, the server's role `kms:Decrypt`");
    };
    let key = KeyName::of(key_id);
    if let Some(region) = key.region.filter(|region| *region != server_region) {
        return error
            .caused_by(format!(
                "the KMS key `{key_id}` is in region `{region}`, and the server asks KMS in `{server_region}`"
            ))
            .hint(hint!(
                "have a key of {} named in the account's session preferences of that region",
                server_region
            ));
    }
    let statement = hint!(
        "the IAM statement that the server's role needs: {}",
        Hint::document(&iam::key_statement(iam::DECRYPT, key_id))
    );
    // The agent tells KMS's code in its own words; other codes are about the key.
    if text.contains("AccessDenied") || text.contains(iam::DECRYPT) {
        return error
            .caused_by(format!(
                "the server's role lacks `{}` on `{key_id}`",
                iam::DECRYPT
            ))
            .hint(statement);
    }
    error
        .caused_by(format!(
            "the server's agent could not have the session's key decrypted with `{key_id}`"
        ))
        .hint(hint!(
            "see the state of the key: aws kms describe-key --key-id {} --region {}",
            key_id.as_str(),
            server_region
        ))
        .hint(statement)
}

/// What agents say of an encrypted session, to people who cannot see which key it is. With `-v`
/// they are told.
const AGENT_NOTICE: &str = "This session is encrypted using AWS KMS.";

/// What is left to show of the text that came with the end of the handshake.
pub(super) fn without_notice(customer_message: &str) -> String {
    customer_message.replace(AGENT_NOTICE, "").trim().to_owned()
}
