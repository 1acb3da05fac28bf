//! What the user and the profile say about transports.

use ops_profile::CopyVia;
use ops_remote::ssh::client::Login;

/// What the user and the profile want.
#[derive(Clone, Debug)]
pub(crate) struct TransportOptions {
    /// `--via`, else `copy.via`.
    pub(crate) via: CopyVia,
    /// `copy.deny_via`.
    pub(crate) deny: Vec<CopyVia>,
    /// `copy.document`.
    pub(crate) document: Option<String>,
    /// How `sftp` logs in.
    pub(crate) login: Login,
}

/// The transport's name on the command line.
pub(crate) fn transport_name(via: CopyVia) -> &'static str {
    match via {
        CopyVia::Auto => "auto",
        CopyVia::Session => "session",
        CopyVia::Sftp => "sftp",
        CopyVia::S3 => "s3",
    }
}
