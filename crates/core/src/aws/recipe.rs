//! What credentials are made from, and whether anybody may be asked for what they lack.

use std::{path::PathBuf, sync::Arc};

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::SdkConfig;
use ops_profile::aws_files::AwsFiles;
use ops_ui::{Env, Interrupt, Output};

use super::options::AwsOptions;

/// What a provider works from.
pub(super) struct Recipe {
    pub(super) options: AwsOptions,
    pub(super) env: Env,
    pub(super) http: SharedHttpClient,
    /// Empty in the sandbox.
    pub(super) files: Arc<AwsFiles>,
    pub(super) region: Option<String>,
    pub(super) sts_endpoint: Option<String>,
    pub(super) cache: PathBuf,
    pub(super) home: PathBuf,
    pub(super) output: Output,
    /// Whoever wants to end is asked nothing any more.
    pub(super) interrupt: Interrupt,
    /// For services that take no credentials.
    pub(super) base: SdkConfig,
}

/// Whether what credentials need may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aws) enum Asking {
    /// Somebody waits for it.
    Allowed,
    /// By surprise: a session is open, and nobody has to do with the terminal now.
    Anew,
    /// Nobody is there to ask, or nobody wants to be asked.
    Never,
    /// A session is open and nobody can be asked any more: it has the terminal, there is none, or
    /// there was no answer.
    Over,
}

impl Asking {
    pub(in crate::aws) fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed | Self::Anew)
    }
}
