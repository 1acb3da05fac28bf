//! `ops config set`, `unset` and `use`.

use ops_core::Context;
use ops_profile::edit::{self, NewValue};
use ops_ui::{Error, Exit, Result, hint};

use super::file::{ConfigFile, mistake_reason, team_profiles};

/// Puts `value` under `key`: as text where the key takes text, else as what YAML takes it for.
pub(super) fn set_value(cx: &Context, key: &str, value: &str) -> Result<Exit> {
    let file = ConfigFile::typed(cx)?;
    let before = file.read()?;
    let is_list_or_map = value.starts_with(['[', '{']);
    let (first, second) = match is_list_or_map {
        true => (NewValue::Yaml(value), NewValue::Text(value)),
        // An account of twelve digits is text, and so is a `yes` that is a word.
        false => (NewValue::Text(value), NewValue::Yaml(value)),
    };
    let mut mistakes = Vec::new();
    for value in [first, second] {
        let after = match edit::set(&file.path, &before, key, value) {
            Ok(after) => after,
            Err(error) if mistakes.is_empty() => {
                mistakes.push(error);
                continue;
            }
            Err(_) => continue,
        };
        let found = file.mistakes(cx, &after)?;
        // What was wrong before is not this change's fault, but is not written over either.
        if found.is_empty() {
            file.write(&after)?;
            tell_change(cx, &file, &format!("{key} is set"));
            return Ok(Exit::SUCCESS);
        }
        if mistakes.is_empty() {
            mistakes = found;
        }
    }
    Err(refused_change(
        &file,
        &format!("`{key}` to `{value}`"),
        &mistakes,
    ))
}

/// Takes `key` out.
pub(super) fn unset_value(cx: &Context, key: &str) -> Result<Exit> {
    let file = ConfigFile::typed(cx)?;
    let Some(after) = edit::unset(&file.path, &file.read()?, key)? else {
        tell_change(cx, &file, &format!("{key} was not set"));
        return Ok(Exit::SUCCESS);
    };
    let mistakes = file.mistakes(cx, &after)?;
    if !mistakes.is_empty() {
        return Err(refused_change(
            &file,
            &format!("`{key}` to nothing"),
            &mistakes,
        ));
    }
    file.write(&after)?;
    tell_change(cx, &file, &format!("{key} is not set any more"));
    Ok(Exit::SUCCESS)
}

/// Makes `name` the profile in use where nothing else names one, or none with `none`.
pub(super) fn use_profile(cx: &Context, name: Option<&str>) -> Result<Exit> {
    let file = ConfigFile::own(cx);
    let before = file.read()?;
    let after = match name {
        Some(name) => {
            let is_aws = || {
                cx.settings()
                    .is_ok_and(|settings| settings.aws_files.names().any(|known| known == name))
            };
            if !team_profiles(cx)?.iter().any(|found| found.name == name) && !is_aws() {
                // The error of a team profile that is not there.
                ConfigFile::team(cx, name)?;
            }
            edit::set(&file.path, &before, "profile", NewValue::Text(name))?
        }
        None => edit::unset(&file.path, &before, "profile")?.unwrap_or(before),
    };
    let mistakes = file.mistakes(cx, &after)?;
    if !mistakes.is_empty() {
        return Err(refused_change(&file, "`profile`", &mistakes));
    }
    file.write(&after)?;
    match name {
        Some(name) => tell_change(
            cx,
            &file,
            &format!("{name} is used where -p names no other"),
        ),
        None => tell_change(cx, &file, "no profile is used where -p names none"),
    }
    if cx
        .env()
        .var("OPS_PROFILE")
        .is_some_and(|other| !other.is_empty())
    {
        cx.output()
            .warn("OPS_PROFILE is set here, and comes before it");
    }
    Ok(Exit::SUCCESS)
}

fn tell_change(cx: &Context, file: &ConfigFile, what: &str) {
    cx.output().note(format!("{what}: {}", file.path.display()));
}

/// The first mistake, as the reason why nothing was changed.
fn refused_change(file: &ConfigFile, what: &str, mistakes: &[Error]) -> Error {
    let error = Error::usage(format!("cannot set {what} in {}", file.path.display()));
    let error = match mistakes.first() {
        Some(first) => error.caused_by(mistake_reason(first)),
        None => error,
    };
    let error = match mistakes.first() {
        Some(first) => error.hinted_as(first),
        None => error,
    };
    error.hint(match &file.profile {
        Some(name) => hint!(
            "see every key: ops config schema; by hand: ops config edit {}",
            name
        ),
        None => hint!("see every key: ops config schema --user; by hand: ops config edit"),
    })
}
