//! `ops version`

use ops_core::{Command, Context, Traits};
use ops_ui::{Exit, Format, Result};
use serde::Serialize;

use super::linked_libc::LinkedLibc;

/// Show the version of ops
///
/// With `-o json`: version, commit, target, the compiler, what was built in, and the C library,
/// with the oldest glibc that is new enough.
#[derive(clap::Args, Debug)]
pub(crate) struct Version {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct About {
    api_version: &'static str,
    version: &'static str,
    /// The commit of the sources; none for those of a package.
    commit: Option<&'static str>,
    /// The triple it was built for.
    target: &'static str,
    platform: String,
    /// The compiler it was built with.
    rust_version: &'static str,
    sandbox: bool,
    /// The features of Cargo that were on.
    features: &'static [&'static str],
    libc: LinkedLibc,
}

impl Command for Version {
    const NAME: &'static str = "version";
    const TRAITS: Traits = Traits {
        always_allowed: true,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops version", "the version"),
        ("ops version -o json", "how it was built"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let about = About {
            api_version: "ops.version/v1",
            version: env!("CARGO_PKG_VERSION"),
            commit: Some(env!("OPS_COMMIT")).filter(|commit| !commit.is_empty()),
            target: env!("OPS_TARGET"),
            platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            rust_version: env!("OPS_COMPILER"),
            sandbox: cfg!(feature = "sandbox"),
            features: if cfg!(feature = "sandbox") {
                &["sandbox"]
            } else {
                &[]
            },
            libc: LinkedLibc::of(ops_ui::program::path().ok().as_deref()),
        };
        let output = cx.output();
        match output.format() {
            Format::Json => output.json(&about)?,
            Format::Yaml => output.yaml(&about)?,
            Format::Wide => output.line(format!("ops {} ({})", about.version, about.platform))?,
            _ => output.line(format!("ops {}", about.version))?,
        }
        Ok(Exit::SUCCESS)
    }
}
