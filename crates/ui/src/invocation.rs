//! One invocation of `ops`: what it was started with, how it speaks, and how it is stopped.

use crate::{env::Env, globals::Globals, interrupt::Interrupt, output::Output, paths::Paths};

/// What one invocation was started with; cheap to share behind a reference, made once by the
/// dispatcher.
pub struct Invocation {
    /// The global options as typed.
    pub globals: Globals,
    /// The environment, with what the dispatcher laid over it.
    pub env: Env,
    /// The folders of this user.
    pub paths: Paths,
    /// The way to stdout and stderr.
    pub output: Output,
    /// How a signal reaches this invocation, and what has to end before the process does.
    pub interrupt: Interrupt,
}

impl Invocation {
    /// The invocation with `globals` in `env`. Reads no file and asks nobody; until
    /// [`Output::settle`] the form and the colour of results are those of the options alone.
    pub fn new(globals: Globals, env: Env) -> Self {
        Self {
            paths: Paths::from_env(&env),
            output: Output::new(&globals, &env),
            interrupt: Interrupt::default(),
            globals,
            env,
        }
    }
}
