//! Which transport moves the files.

use ops_core::{Error, ErrorKind, Result, profile::CopyVia};

use crate::{
    session::Session,
    transport::{Server, Transport},
};

/// What the user and the profile want.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// `--via`, else `copy.via`.
    pub(crate) via: CopyVia,
    /// `copy.deny_via`.
    pub(crate) deny: Vec<CopyVia>,
    /// `copy.document`.
    pub(crate) document: Option<String>,
}

/// In the order in which `auto` tries them.
const ORDER: [CopyVia; 1] = [CopyVia::Session];

/// The transport for `server`; `auto` says with `-v` which it took and why, and once what was not permitted.
///
/// # Errors
/// The one asked for by name is forbidden or does not work; none does.
pub(crate) async fn open(server: &Server, wish: &Wish) -> Result<Box<dyn Transport>> {
    if wish.via != CopyVia::Auto {
        if wish.deny.contains(&wish.via) {
            return Err(forbidden(wish.via));
        }
        return connect(server, wish, wish.via).await;
    }
    let mut failure: Option<Error> = None;
    for via in ORDER.into_iter().filter(|via| !wish.deny.contains(via)) {
        match connect(server, wish, via).await {
            Ok(transport) => {
                let why = reason(via);
                let label = server.instance.label();
                let output = server.cx.output();
                match &failure {
                    Some(error) => {
                        output.note(format!("{label}: {error}; going by {} instead", word(via)));
                    }
                    None => output.detail(format!("{label}: by {}: {why}", word(via))),
                }
                return Ok(transport);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unreachable) => {
                failure.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or_else(|| {
        Error::new(ErrorKind::Refused, "the profile forbids every transport")
            .hint("see who says so: ops config show | grep copy.deny_via")
    }))
}

async fn connect(server: &Server, wish: &Wish, via: CopyVia) -> Result<Box<dyn Transport>> {
    match via {
        CopyVia::Auto | CopyVia::Session => Ok(Box::new(
            Session::open(server, wish.document.clone()).await?,
        )),
        other => Err(Error::usage(format!(
            "this build has no transport `{}`",
            word(other)
        ))),
    }
}

fn reason(via: CopyVia) -> &'static str {
    match via {
        CopyVia::Session => "the fastest, and the server needs neither sshd nor key",
        _ => "the first that is permitted",
    }
}

fn forbidden(via: CopyVia) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("the profile forbids transport `{}`", word(via)),
    )
    .hint("see who says so: ops config show | grep copy.deny_via")
}

/// The transport's name on the command line.
pub(crate) fn word(via: CopyVia) -> &'static str {
    match via {
        CopyVia::Auto => "auto",
        CopyVia::Session => "session",
        CopyVia::Sftp => "sftp",
        CopyVia::S3 => "s3",
    }
}
