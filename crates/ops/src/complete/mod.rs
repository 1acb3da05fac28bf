//! Completion: the shell calls `ops` with `OPS_COMPLETE` set, as the script of `ops completion` tells it to.
//!
//! Whatever happens, nothing but candidates reaches the terminal, and they come within [`LIMIT`].

mod external;
mod line;
mod quote;
mod regions;
pub(crate) mod shell;
mod tree;
mod values;

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use ops_core::{
    Env, Globals,
    cache::{Patience, REFRESH, VARIABLE},
};

use crate::{registry, sandbox};

/// The longest time from the key to candidates, the start of this process and its output included.
const LIMIT: Duration = Duration::from_millis(1400);

/// Something to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The whole word it would make of the one being typed, unquoted.
    pub(crate) value: String,
    /// What it is, in one line; may be empty.
    pub(crate) about: String,
    /// More of the same word follows, so no space is wanted behind it.
    pub(crate) open: bool,
}

impl Candidate {
    /// A candidate that is a whole word.
    pub(crate) fn new(value: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            about: about.into(),
            open: false,
        }
    }

    /// A candidate that more follows.
    pub(crate) fn open(value: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            open: true,
            ..Self::new(value, about)
        }
    }
}

/// The line up to the cursor, without quotes: the words behind the program's name, and the one that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) words: Vec<OsString>,
    pub(crate) current: String,
    /// Of more candidates the shell does not show what each is.
    pub(crate) described: usize,
}

/// Answers a shell's request for candidates, or refreshes the cache behind one, if this is one of them. Never an error on the terminal.
pub(crate) fn answer() -> bool {
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
        refresh(&words, &env);
    } else if let Some(form) = shell::named(&asked)
        && let Some(asked) = form.read(&words, &env)
    {
        let candidates = line::candidates(&asked.request, env, patience);
        shell::write(&form.show(&asked, &candidates));
    }
    true
}

/// The process behind a request: it belongs to no terminal any more, and says nothing.
fn refresh(words: &[OsString], env: &Env) {
    #[cfg(unix)]
    // It fails for a leader of a process group, which this process is not when a request has started it; nothing depends on it then.
    let _ = rustix::process::setsid();
    let globals = Globals {
        no_input: true,
        quiet: true,
        ..tree::globals(None, words)
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
        let cx = registry::context(globals, env);
        // Why it failed shows with the next command.
        let _ = cx.refresh_fleet(false).await;
        laid.end().await;
    });
    runtime.shutdown_background();
}
