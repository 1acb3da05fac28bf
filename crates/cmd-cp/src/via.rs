//! Which transport moves the files.

use std::sync::Arc;

use ops_core::{calls::s3, iam};
use ops_profile::{CopyVia, Instance};
use ops_session::documents;
use ops_ui::{Error, ErrorKind, Hint, Result, hint, output::escape};

use crate::{
    disk_guard::GuardedSession,
    s3::{ABOVE_BYTES, BucketPath, BucketTransport},
    session::ShellTransport,
    sftp::SftpTransport,
    transport::{FirstUse, Server, Transport},
    transport_options::{TransportOptions, transport_name},
};

/// In the order in which `auto` tries them. The bucket is no way of its own for it: the server is
/// asked by session, and large files go there.
const ORDER: [CopyVia; 2] = [CopyVia::Session, CopyVia::Sftp];

/// The transport for `server`; `auto` says with `-v` which it took and why, and once what was not
/// permitted.
///
/// # Errors
/// The one asked for by name is forbidden or does not work; none does.
pub(crate) async fn open_transport(
    server: &Server,
    transport_options: &TransportOptions,
    first_use: FirstUse<'_>,
) -> Result<Box<dyn Transport>> {
    if transport_options.via != CopyVia::Auto {
        if transport_options.deny.contains(&transport_options.via) {
            return Err(forbidden_transport(transport_options.via));
        }
        return connect_by(server, transport_options, transport_options.via, first_use)
            .await
            .map_err(|error| with_needed_statement(server, transport_options, error));
    }
    let mut failure: Option<Error> = None;
    for via in ORDER
        .into_iter()
        .filter(|via| !transport_options.deny.contains(via))
    {
        match connect_by(server, transport_options, via, first_use).await {
            Ok(transport) => {
                let why = reason_for(via);
                let label = server.instance.label();
                let output = server.cx.output();
                match &failure {
                    Some(error) => {
                        let error = escape(&error.to_string());
                        output.note(format!(
                            "{label}: {error}; going by {} instead",
                            transport_name(via)
                        ));
                    }
                    None => output.detail(format!(
                        "{label}: by {}: {why}",
                        transport_name(transport.via())
                    )),
                }
                return Ok(transport);
            }
            Err(error) => match failure {
                // The first failure is the one that is told: what failed after it was tried for its
                // sake alone.
                Some(first) => {
                    let tried = format!(
                        "going by {} instead failed too: {error}",
                        transport_name(via)
                    );
                    failure = Some(first.caused_by(tried));
                }
                None if may_go_another_way(error.kind()) => failure = Some(error),
                None => return Err(error),
            },
        }
    }
    Err(failure.unwrap_or_else(|| {
        Error::new(ErrorKind::Refused, "the profile forbids every transport")
            .hint("see who says so: ops config show | grep copy.deny_via")
    }))
}

/// Whether another transport may do where one failed with this: the service denies the documents of
/// this one, its agent cannot have its sessions, or its document does not take what is asked of it.
fn may_go_another_way(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Denied | ErrorKind::Unreachable | ErrorKind::Usage
    )
}

async fn connect_by(
    server: &Server,
    transport_options: &TransportOptions,
    via: CopyVia,
    first_use: FirstUse<'_>,
) -> Result<Box<dyn Transport>> {
    // By way of a bucket a dialogue does the server's part of fetching too.
    let first_use = match via {
        CopyVia::S3 => FirstUse::Store,
        _ => first_use,
    };
    let session = ShellTransport::open(server, transport_options.document.clone(), first_use);
    match via {
        CopyVia::Auto | CopyVia::Session => {
            let session = session.await?;
            // Named, it is the session alone, whatever the server keeps of it.
            if transport_options.via != CopyVia::Auto {
                return Ok(Box::new(session));
            }
            let bucket = match bucket_path(server)? {
                Some(place) if !transport_options.deny.contains(&CopyVia::S3) => {
                    let above = server.cx.profile()?.copy.s3_above;
                    Some((place, above.map_or(ABOVE_BYTES, |size| size.0)))
                }
                _ => None,
            };
            Ok(Box::new(GuardedSession::new(
                server,
                transport_options,
                session,
                bucket,
            )))
        }
        CopyVia::Sftp => Ok(Box::new(
            Box::pin(SftpTransport::open(server, transport_options.login.clone())).await?,
        )),
        CopyVia::S3 => {
            let place = bucket_path(server)?.ok_or_else(|| {
                Error::usage("the profile names no bucket, so that nothing can go by s3")
                    .hint("name one: `copy: { s3_bucket: NAME }` in the profile")
            })?;
            Ok(Box::new(
                BucketTransport::open(server, Arc::new(session.await?), place).await?,
            ))
        }
    }
}

/// The bucket that the profile names.
fn bucket_path(server: &Server) -> Result<Option<BucketPath>> {
    let copy = &server.cx.profile()?.copy;
    Ok(copy.s3_bucket.as_ref().map(|bucket| BucketPath {
        bucket: bucket.clone(),
        prefix: copy.s3_prefix.clone().unwrap_or_default(),
    }))
}

/// `error` of a transport asked for by name, with the IAM statement it needs where something was
/// denied.
fn with_needed_statement(
    server: &Server,
    transport_options: &TransportOptions,
    error: Error,
) -> Error {
    if error.kind() != ErrorKind::Denied {
        return error;
    }
    let command = transport_options
        .document
        .as_deref()
        .unwrap_or(documents::NON_INTERACTIVE_COMMAND);
    let documents: &[&str] = match transport_options.via {
        CopyVia::Sftp => &[documents::SSH],
        _ => &[command, documents::INTERACTIVE_COMMAND],
    };
    let mut error = error.hint(hint!(
        "the IAM statement for it: {}",
        Hint::document(&iam_statement(&server.instance, documents))
    ));
    if transport_options.via == CopyVia::S3
        && let Ok(Some(place)) = bucket_path(server)
    {
        let bucket = s3::statement(&place.bucket, &place.prefix, &server.instance.region);
        error = error.hint(hint!("and for the bucket: {}", Hint::document(&bucket)));
    }
    error
}

fn iam_statement(instance: &Instance, documents: &[&str]) -> String {
    let server = iam::instance_arn(instance, "*");
    let documents = documents
        .iter()
        .map(|name| iam::document_arn(&instance.region, "*", name));
    let arns: Vec<String> = std::iter::once(server).chain(documents).collect();
    let arns: Vec<&str> = arns.iter().map(String::as_str).collect();
    iam::start_session(&arns)
}

fn reason_for(via: CopyVia) -> &'static str {
    match via {
        CopyVia::Session => "the fastest, and the server needs neither sshd nor key",
        _ => "the first that is permitted",
    }
}

fn forbidden_transport(via: CopyVia) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("the profile forbids transport `{}`", transport_name(via)),
    )
    .hint("see who says so: ops config show | grep copy.deny_via")
}
