//! How a process of ours finds its way back to the same account and region, and values of options.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use ops_core::Context;
use ops_profile::{HostKeys, Origin};
use ops_ui::{Error, Result};

/// The words that start this program again with the same profile, account and region, from the
/// environment it has now.
pub(crate) fn program_words(cx: &Context, region: &str) -> Result<Vec<String>> {
    words_for(
        cx,
        region,
        cx.globals().profile.as_deref(),
        cx.globals().aws_profile.as_deref(),
    )
}

/// As [`program_words`], for a file: what the environment and the user's own configuration say now
/// is fixed too.
pub(crate) fn lasting_words(cx: &Context, region: &str) -> Result<Vec<String>> {
    let settings = cx.settings()?;
    let team = settings.profile.value.as_deref();
    let aws = match settings.aws_profile.origin {
        // The team profile, fixed above, says it.
        Origin::Profile(_) => None,
        // Keys in the environment count more than this: naming a profile now would make it stronger
        // than they are.
        Origin::Variable(_) if cx.env().var("AWS_ACCESS_KEY_ID").is_some() => None,
        _ => settings.aws_profile.value.as_deref(),
    };
    words_for(cx, region, team, aws)
}

fn words_for(
    cx: &Context,
    region: &str,
    profile: Option<&str>,
    aws_profile: Option<&str>,
) -> Result<Vec<String>> {
    let program = cx.program()?;
    let program = program.into_os_string().into_string().map_err(|path| {
        Error::unexpected(format!(
            "ops lies at `{}`, which is no UTF-8",
            path.to_string_lossy().escape_debug()
        ))
    })?;
    let globals = cx.globals();
    let mut words = vec![program];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    if let Some(folders) = globals.profiles_dir.as_ref().and_then(|dirs| dirs.to_str()) {
        option("--profiles-dir", folders);
    }
    if let Some(profile) = profile {
        option("--profile", profile);
    }
    if let Some(profile) = aws_profile {
        option("--aws-profile", profile);
    }
    option("--region", region);
    if globals.sandbox {
        words.push("--sandbox".to_owned());
    }
    Ok(words)
}

/// Reads `accept-new`, `ssm` and `off`.
pub(crate) fn host_keys_parser() -> impl clap::builder::TypedValueParser<Value = HostKeys> {
    PossibleValuesParser::new(["accept-new", "ssm", "off"]).map(|text| match text.as_str() {
        "ssm" => HostKeys::Ssm,
        "off" => HostKeys::Off,
        _ => HostKeys::AcceptNew,
    })
}
