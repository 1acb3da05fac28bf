//! Runs one command: its gate, the sandbox under it, signals, and what its end means for the exit
//! status.

use std::{ffi::OsString, time::Duration};

use clap::ArgMatches;
use ops_core::{Context, Entry, Forms};
use ops_ui::{Env, Error, ErrorKind, Exit, Format, Globals, Interrupt, Result};
use tokio::task::JoinHandle;

use crate::{
    plugin::{self, Plugin},
    policy::Policy,
    registry, sandbox,
    signals::{self, Signals},
    trace,
};

/// How long what a command left to finish may take, such as ending its session at the service.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);
/// The same after a second signal: a call or two to the service, for somebody who wants to be gone.
const FORCED_PATIENCE: Duration = Duration::from_secs(1);
/// How long a dropped command may take to let go.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// Runs a built-in command.
pub(crate) fn run(entry: &'static Entry, matches: &ArgMatches, globals: Globals, env: Env) -> Exit {
    trace::start_tracing(globals.verbose);
    let cx = registry::new_context(globals.clone(), env.clone());
    let known = check_format(entry, matches, &globals);
    let result = known.and_then(|()| check_entry(entry, &cx)).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::unexpected("cannot start").caused_by(error))?;
        let result = runtime.block_on(async {
            let mut env = env;
            let laid = sandbox::lay_backend(&globals, &mut env, entry).await?;
            let cx = if laid.is_anything() {
                registry::new_context(globals, env)
            } else {
                cx.clone()
            };
            let result = supervise_entry(entry, matches, &cx).await;
            laid.end().await;
            result
        });
        // A thread may sit in a read of standard input that never returns.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(exit) => exit,
        Err(error) => exit_of_failure(entry, &error, &cx),
    }
}

/// Runs an external command in place of this process; returns only if that fails, or if a sandbox
/// of this process has to stay under it.
///
/// # Errors
/// It cannot be run, or no sandbox can be started.
pub(crate) fn run_external(plugin: &Plugin, arguments: &[OsString], cx: &Context) -> Result<Exit> {
    trace::start_tracing(cx.globals().verbose);
    if !cx.globals().sandbox {
        return Err(plugin::exec_plugin(plugin, arguments, cx));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::unexpected("cannot start").caused_by(error))?;
    runtime.block_on(async {
        let mut env = cx.env().clone();
        let laid = sandbox::lay_for_external(cx.globals(), &mut env).await?;
        let inside = registry::new_context(cx.globals().clone(), env);
        if !laid.is_own() {
            return Err(plugin::exec_plugin(plugin, arguments, &inside));
        }
        let result = plugin::spawn_plugin(plugin, arguments, &inside).await;
        laid.end().await;
        result
    })
}

/// The profile's gate. What is needed to see why a profile is wrong works with a wrong one too.
fn check_entry(entry: &Entry, cx: &Context) -> Result<()> {
    match Policy::load(cx) {
        Ok(policy) => {
            policy.check(entry.name)?;
            tell_of_idle_keys(entry, cx);
            Ok(())
        }
        Err(_) if entry.traits.always_allowed => Ok(()),
        Err(error) => Err(error),
    }
}

/// Notes on keys of the profile that no verb reads so far. Where ssh or a program of ours has the
/// terminal, only those who ask with `-v` see them.
fn tell_of_idle_keys(entry: &Entry, cx: &Context) {
    let Ok(settings) = cx.settings() else { return };
    for (key, at) in settings.keys_without_effect() {
        let note = format!("note: `{key}` ({at}) does nothing so far: no verb reads it");
        if entry.traits.pass_through || entry.traits.hidden {
            cx.output().detail(note);
        } else {
            cx.output().note(note);
        }
    }
}

async fn supervise_entry(entry: &Entry, matches: &ArgMatches, cx: &Context) -> Result<Exit> {
    let interrupt = cx.interrupt().clone();
    let mut signals = Signals::listen()?;
    // A task of its own, so that a signal is seen while the command computes; and a panic in it is
    // caught here.
    let mut work = tokio::spawn((entry.run)(cx.clone(), matches)?);
    let result = loop {
        break tokio::select! {
        result = &mut work => unpack_result(result),
        kind = signals.next() => {
            if kind == ErrorKind::Interrupted && cx.output().has_pager() {
                signals.forget();
                continue;
            }
            cx.output().end_pager();
            interrupt.request(kind);
            if interrupt.is_handled() {
                tokio::select! {
                    result = &mut work => unpack_result(result),
                    // The verb has asked, and is to go on: the next signal is a first one again.
                    () = interrupt.withdrawn() => {
                        signals.forget();
                        continue;
                    }
                    kind = signals.insisting() => {
                        return end_forced(&mut work, kind, &interrupt, &mut signals).await;
                    }
                }
            } else {
                work.abort();
                match tokio::time::timeout(DROP_PATIENCE, &mut work).await {
                    // It was over already: ssh hangs up on its ProxyCommand in the moment in which
                    // that ends too.
                    Ok(Ok(result)) => result,
                    _ => Err(interrupt.wait().await),
                }
            }
        }
        };
    };
    // In this order: what a dropped value left to finish is known only now.
    finish_signals(&interrupt, &mut signals).await;
    ops_ui::terminal::restore();
    result
}

/// A form that a verb does not have is refused, not replaced by another. One that a variable or a
/// file asks for is meant for the verbs that have forms.
fn check_format(entry: &Entry, matches: &ArgMatches, globals: &Globals) -> Result<()> {
    let Some(format) = globals.output else {
        return Ok(());
    };
    let forms = entry.traits.forms;
    let below = matches
        .subcommand_name()
        .filter(|name| entry.traits.without_forms.contains(name));
    if forms == Forms::Nothing || below.is_some() {
        let verb = match below {
            Some(name) => format!("{} {name}", entry.name),
            None => entry.name.to_owned(),
        };
        return match globals.typed_output() {
            Some(_) => Err(Error::usage(format!(
                "`ops {verb}` has no output format `{}`",
                format.name()
            ))
            .caused_by("what it writes has one form only")
            .hint("leave --output out")),
            None => Ok(()),
        };
    }
    let is_there = format.is_general()
        || forms == Forms::Rows
        || (forms == Forms::WithJsonl && format == Format::Jsonl);
    match is_there {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "`ops {}` has no output format `{}`",
            entry.name,
            format.name()
        ))
        .hint("use one of table, wide, json, yaml, name")),
    }
}

async fn finish_signals(interrupt: &Interrupt, signals: &mut Signals) {
    tokio::select! {
        () = interrupt.finished() => {}
        () = tokio::time::sleep(FINISH_PATIENCE) => tracing::debug!("gave up waiting for what was left to finish"),
        _ = signals.insisting() => {}
    }
}

/// Ends now, but for what a dropped command has left to end on servers: nobody could end that
/// later. A third signal does not wait for it either.
async fn end_forced(
    work: &mut JoinHandle<Result<Exit>>,
    kind: ErrorKind,
    interrupt: &Interrupt,
    signals: &mut Signals,
) -> Result<Exit> {
    ops_ui::terminal::restore();
    work.abort();
    let ended = async {
        let _ = work.await;
        interrupt.finished().await;
    };
    tokio::select! {
        () = ended => {}
        () = tokio::time::sleep(FORCED_PATIENCE) => {}
        _ = signals.insisting() => {}
    }
    // Short: on the terminal it stands behind the `^C` of that signal, and still within its line.
    Err(Error::new(kind, "stopped at once").caused_by("a second signal came"))
}

fn unpack_result(result: Result<Result<Exit>, tokio::task::JoinError>) -> Result<Exit> {
    // The panic hook has said what there is to say.
    result.unwrap_or(Ok(Exit::UNEXPECTED))
}

/// Shows the error, as the verb's sort has it, and gives the status.
fn exit_of_failure(entry: &Entry, error: &Error, cx: &Context) -> Exit {
    let kind = error.kind();
    match kind {
        ErrorKind::BrokenPipe => return Exit::SUCCESS,
        // Who pressed Ctrl-C knows.
        ErrorKind::Interrupted if error.why().is_empty() => return Exit::INTERRUPTED,
        _ => {}
    }
    let output = cx.output();
    if entry.traits.pass_through
        && cx.globals().error_format != Some(ops_ui::globals::ErrorFormat::Json)
    {
        output.warn_line(error.one_line());
    } else {
        output.error(error);
    }
    match kind {
        ErrorKind::Interrupted | ErrorKind::Terminated => signals::exit_by_signal(kind),
        _ if entry.traits.pass_through => Exit::PASS_THROUGH,
        _ => kind.exit(),
    }
}
