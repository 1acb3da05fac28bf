//! How a process of ours finds its way back to the same account and region, and values of options.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use ops_core::{Context, Error, Result, profile::HostKeys, resolve::Choice};

/// The words that start this program again with the same profile, account and region.
pub(crate) fn program_words(cx: &Context, region: &str) -> Result<Vec<String>> {
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
    if let Some(profile) = &globals.profile {
        option("--profile", profile);
    }
    if let Some(profile) = &globals.aws_profile {
        option("--aws-profile", profile);
    }
    option("--region", region);
    if globals.sandbox {
        words.push("--sandbox".to_owned());
    }
    Ok(words)
}

/// What `--first` and `--newest` ask for.
pub(crate) fn choice(first: bool, newest: bool) -> Choice {
    match (first, newest) {
        (true, _) => Choice::First,
        (_, true) => Choice::Newest,
        _ => Choice::Ask,
    }
}

/// Reads `accept-new`, `ssm` and `off`.
pub(crate) fn host_keys_parser() -> impl clap::builder::TypedValueParser<Value = HostKeys> {
    PossibleValuesParser::new(["accept-new", "ssm", "off"]).map(|text| match text.as_str() {
        "ssm" => HostKeys::Ssm,
        "off" => HostKeys::Off,
        _ => HostKeys::AcceptNew,
    })
}
