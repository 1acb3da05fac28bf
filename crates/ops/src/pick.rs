//! A verb that needs a server and was given none asks which, where somebody is there to answer.

use std::ffi::OsString;

use clap::ArgMatches;
use ops_core::Entry;
use ops_ui::{Error, Globals, Result};

use crate::{cli, globals, registry, sandbox};

/// The verbs, each with what its picker says.
const VERBS: [(&str, &str); 5] = [
    ("shell", "a shell on which server?"),
    ("ssh", "ssh to which server?"),
    ("console", "the console of which server?"),
    ("wait", "wait for which server?"),
    ("describe", "which server?"),
];
/// Stands for a target while the rest of the line is read.
const PLACEHOLDER: &str = "target";

/// The line with a target that was chosen; `None` where the verb at `place` takes none, something
/// else is missing too, or nobody can be asked.
///
/// # Errors
/// Those of a list; nothing was chosen.
pub(crate) fn completed(
    words: &[OsString],
    place: usize,
    env: &ops_ui::Env,
) -> Result<Option<Vec<OsString>>> {
    let verb = words[place].to_string_lossy();
    let Some(entry) = registry::find(&verb) else {
        return Ok(None);
    };
    let Some((_, purpose)) = VERBS.into_iter().find(|(name, _)| *name == entry.name) else {
        return Ok(None);
    };
    // Behind `--` a target is none any more: it goes in front.
    let end = words[place..]
        .iter()
        .position(|word| word == "--")
        .map_or(words.len(), |at| place + at);
    let with = |target: &str| {
        let mut line = words.to_vec();
        line.insert(end, target.into());
        line
    };
    let line = std::iter::once(OsString::from("ops")).chain(with(PLACEHOLDER));
    let Ok(matches) = cli::root().try_get_matches_from(line) else {
        return Ok(None);
    };
    let Some(globals) = globals_of(&matches) else {
        return Ok(None);
    };
    let cx = registry::context(globals.clone(), env.clone());
    if !cx.output().may_ask() || !cx.output().stdout_is_terminal() {
        return Ok(None);
    }
    let chosen = chosen(entry, globals, env, purpose)?;
    Ok(Some(with(&chosen)))
}

fn globals_of(matches: &ArgMatches) -> Option<Globals> {
    let (_, below) = matches.subcommand()?;
    Some(globals::merge(&[matches, below]))
}

/// The id of the instance that is picked.
fn chosen(
    entry: &'static Entry,
    globals: Globals,
    env: &ops_ui::Env,
    purpose: &'static str,
) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::unexpected("cannot start").caused_by(error))?;
    let chosen = runtime.block_on(async {
        let mut env = env.clone();
        let laid = sandbox::lay(&globals, &mut env, entry).await?;
        let cx = registry::context(globals, env);
        let instance = cx.pick_server(purpose).await;
        laid.end().await;
        instance.map(|instance| instance.id)
    });
    // A thread may sit in a read of standard input that never returns.
    runtime.shutdown_background();
    chosen
}
