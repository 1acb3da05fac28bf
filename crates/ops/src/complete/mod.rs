//! Completion: the shell calls `ops` with `OPS_COMPLETE` set, as the script of `ops completion`
//! tells it to.
//!
//! Whatever happens, nothing but candidates reaches the terminal, and they come within [`LIMIT`].

mod external;
mod line;
mod regions;
mod tree;
mod values;

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use ops_core::{
    Context,
    cache::{self, Patience, REFRESH, REFRESH_FOLDER, REFRESH_SESSIONS, VARIABLE},
};
use ops_ui::{
    Env, Globals,
    text::{escape, is_unprintable},
};

use crate::{registry, sandbox, shells};

/// The longest time from the key to candidates, the start of this process and its output included.
const LIMIT: Duration = Duration::from_millis(1400);

/// Answers a shell's request for candidates, or refreshes the cache behind one, if this is one of
/// them. Never an error on the terminal.
pub(crate) fn answer_completion() -> bool {
    let Some(asked) = std::env::var_os(VARIABLE) else {
        return false;
    };
    let patience = Patience {
        until: Instant::now() + LIMIT,
    };
    let mut env = Env::from_process();
    // What this process starts is no request.
    env.remove(VARIABLE);
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "--") {
        words.remove(0);
    }
    let asked = asked.to_string_lossy();
    if asked == REFRESH {
        // Why it failed shows with the next command.
        run_behind_request(&words, &env, async |cx| {
            drop(cache::refresh(cx, false).await);
        });
    } else if asked == REFRESH_SESSIONS {
        run_behind_request(&words, &env, async |cx| {
            cmd_sessions::keep_open_sessions(cx).await;
        });
    } else if asked == REFRESH_FOLDER {
        // The place stands behind a `--`, and the options before that.
        if let Some(place) = words.pop().and_then(|place| place.into_string().ok()) {
            words.pop();
            run_behind_request(&words, &env, async |cx| {
                cmd_cp::complete::keep_folder(cx, &place).await;
            });
        }
    } else if let Some(form) = shells::form_named(&asked)
        && let Some(asked) = form.read(&words, &env)
    {
        let mut candidates = line::line_candidates(&asked.request, env, patience);
        show_safely(&mut candidates);
        shells::write_answer(&form.show(&asked, &candidates));
    }
    true
}

/// Leaves out values that could not be typed, or would do something to the terminal, and escapes
/// what they are: whatever candidates come from, such as tags, a profile or an external command,
/// they all pass here.
fn show_safely(candidates: &mut Vec<shells::Candidate>) {
    candidates.retain(|one| !one.value.contains(is_unprintable));
    for one in candidates {
        if one.about.contains(is_unprintable) {
            one.about = escape(&one.about);
        }
    }
}

/// The process behind a request: it belongs to no terminal any more, and says nothing.
fn run_behind_request(words: &[OsString], env: &Env, work: impl AsyncFnOnce(&Context)) {
    #[cfg(unix)]
    // It fails for a leader of a process group, which this process is not when a request has
    // started it; nothing depends on it then.
    let _ = rustix::process::setsid();
    let globals = Globals {
        no_input: true,
        quiet: true,
        // Nobody has been asked.
        yes: false,
        // A name that is known costs no call.
        cached: true,
        ..tree::globals_in_words(None, words)
    };
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    else {
        return;
    };
    runtime.block_on(async {
        let mut env = env.clone();
        let Ok(laid) = sandbox::lay_for_external(&globals, &mut env).await else {
            return;
        };
        let cx = registry::new_context(globals, env);
        work(&cx).await;
        laid.end().await;
    });
    runtime.shutdown_background();
}
