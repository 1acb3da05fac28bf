//! A verb that needs a server and was given none asks which, where somebody is there to answer.

use std::ffi::OsString;

use clap::ArgMatches;
use ops_core::{Context, Entry};
use ops_ui::{Error, Globals, Result, hint};

use crate::{cli, globals, registry, sandbox, signals::Signals};

/// What a verb asks where no target was given.
struct PickQuestion {
    verb: &'static str,
    /// What its picker says.
    purpose: &'static str,
    /// The question for a path on that server, of a verb that needs one; what is there comes here.
    path: Option<&'static str>,
}

const fn target_question(verb: &'static str, purpose: &'static str) -> PickQuestion {
    PickQuestion {
        verb,
        purpose,
        path: None,
    }
}

const ASKING: [PickQuestion; 6] = [
    target_question("shell", "a shell on which server?"),
    target_question("ssh", "ssh to which server?"),
    target_question("console", "the console of which server?"),
    target_question("wait", "wait for which server?"),
    target_question("describe", "which server?"),
    PickQuestion {
        verb: "cp",
        purpose: "copy from which server?",
        path: Some("Which file there? "),
    },
];
/// Stands for a target while the rest of the line is read.
const PLACEHOLDER: &str = "target";

/// The line with a target that was chosen; `None` where the verb at `place` takes none, something
/// else is missing too, or nobody can be asked.
///
/// # Errors
/// Those of a list; nothing was chosen.
pub(crate) fn words_with_choice(
    words: &[OsString],
    place: usize,
    env: &ops_ui::Env,
) -> Result<Option<Vec<OsString>>> {
    let verb = words[place].to_string_lossy();
    let Some(entry) = registry::find_entry(&verb) else {
        return Ok(None);
    };
    let Some(asking) = ASKING.iter().find(|asking| asking.verb == entry.name) else {
        return Ok(None);
    };
    // Behind `--` a target is none any more: it goes in front.
    let end = words[place..]
        .iter()
        .position(|word| word == "--")
        .map_or(words.len(), |at| place + at);
    let with = |answers: Vec<String>| {
        let mut line = words.to_vec();
        line.splice(end..end, answers.into_iter().map(OsString::from));
        line
    };
    let placeholder = vec![PLACEHOLDER.to_owned()];
    let line = std::iter::once(OsString::from("ops")).chain(with(placeholder));
    let Ok(matches) = cli::root_command().try_get_matches_from(line) else {
        return Ok(None);
    };
    let Some(globals) = globals_of(&matches) else {
        return Ok(None);
    };
    let cx = registry::new_context(globals.clone(), env.clone());
    if !cx.output().may_ask() || !cx.output().stdout_is_terminal() {
        return Ok(None);
    }
    let chosen = choose_answers(entry, globals, env, asking)?;
    Ok(Some(with(chosen)))
}

fn globals_of(matches: &ArgMatches) -> Option<Globals> {
    let (_, below) = matches.subcommand()?;
    Some(globals::merge_globals(&[matches, below]))
}

/// The words that were missing: the id of the instance that is picked, or a path there and the
/// current folder.
fn choose_answers(
    entry: &'static Entry,
    globals: Globals,
    env: &ops_ui::Env,
    asking: &'static PickQuestion,
) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::unexpected("cannot start").caused_by(error))?;
    let chosen = runtime.block_on(async {
        let mut env = env.clone();
        let laid = sandbox::lay_backend(&globals, &mut env, entry).await?;
        let cx = registry::new_context(globals, env);
        let mut signals = Signals::listen()?;
        // Whatever ends this gives the terminal back.
        let answers = tokio::select! {
            answers = ask_picker(&cx, asking) => answers,
            kind = signals.next() => {
                ops_ui::terminal::restore();
                Err(Error::new(kind, "interrupted before a server was chosen"))
            }
        };
        laid.end().await;
        answers
    });
    // A thread may sit in a read of standard input that never returns.
    runtime.shutdown_background();
    chosen
}

async fn ask_picker(cx: &Context, asking: &PickQuestion) -> Result<Vec<String>> {
    let id = cx.pick_server(asking.purpose).await?.id;
    let Some(question) = asking.path else {
        return Ok(vec![id]);
    };
    let path = cx.output().ask(question).await?.unwrap_or_default();
    match path.trim() {
        "" => Err(Error::usage("no file was named")
            .hint(hint!("see what it takes: ops {} --help", asking.verb))),
        path => Ok(vec![format!("{id}:{path}"), ".".to_owned()]),
    }
}
