//! In place of the sandbox in a build without it.

use ops_core::Entry;
use ops_ui::{Env, Error, Globals, Result};

/// Nothing ever lies under a command here.
pub(crate) struct CommandBackend;

impl CommandBackend {
    pub(crate) fn is_anything(&self) -> bool {
        false
    }

    pub(crate) fn is_own(&self) -> bool {
        false
    }

    pub(crate) async fn end(self) {}
}

pub(crate) async fn lay_backend(
    globals: &Globals,
    env: &mut Env,
    _entry: &Entry,
) -> Result<CommandBackend> {
    lay_for_external(globals, env).await
}

pub(crate) async fn lay_for_external(globals: &Globals, _env: &mut Env) -> Result<CommandBackend> {
    if globals.sandbox {
        return Err(Error::usage("this build of ops has no sandbox")
            .hint("build it in: cargo build --features sandbox"));
    }
    Ok(CommandBackend)
}

/// Nothing is served here.
pub(crate) fn lay_served(_globals: &Globals, _env: &mut Env) {}
