//! `--sandbox`: the embedded stand-in for AWS under a command, its environment laid over the
//! command's own.

pub(crate) mod admin;

use std::path::PathBuf;

use ops_core::Entry;
use ops_sandbox::{
    Access, Faults, Options, Pace, RunningSandbox, Sandbox, StartError, UNSET, discover,
};
use ops_ui::{Env, Error, ErrorKind, Globals, Paths, Result, hint};

use ops_core::cache::EMBEDDED;
pub(crate) use ops_core::cache::SANDBOX_STATE as STATE;

/// What lies under a command.
pub(crate) enum CommandBackend {
    /// The environment as it was: AWS itself.
    Nothing,
    /// A sandbox that another process runs.
    Shared,
    /// A sandbox in this process.
    Own(Box<RunningSandbox>),
}

impl CommandBackend {
    /// Whether the environment was changed.
    pub(crate) fn is_anything(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Whether the sandbox runs in this process and ends with it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Ends a sandbox of this process.
    pub(crate) async fn end(self) {
        if let Self::Own(running) = self {
            running.stop().await;
        }
    }
}

/// Where machines' folders and the state file of a served sandbox are kept.
pub(crate) fn state_dir(paths: &Paths) -> PathBuf {
    paths.state.join("sandbox")
}

/// Puts a sandbox under `entry` if one is wanted.
///
/// # Errors
/// None can be started, or the one of the starting command has ended.
pub(crate) async fn lay_backend(
    globals: &Globals,
    env: &mut Env,
    entry: &Entry,
) -> Result<CommandBackend> {
    // `ops sandbox` is about the one that is served; `version` and the like reach nothing.
    if entry.name == "sandbox" {
        return Ok(CommandBackend::Nothing);
    }
    if entry.traits.always_allowed {
        return lay_for_show(globals, env, entry);
    }
    lay_for_external(globals, env).await
}

/// For `config`, which reaches nothing: the environment that another command would have, as far as
/// it is known without starting a sandbox.
///
/// # Errors
/// The fleet file is wrong.
fn lay_for_show(globals: &Globals, env: &mut Env, entry: &Entry) -> Result<CommandBackend> {
    if entry.name != "config" || !globals.sandbox {
        return Ok(CommandBackend::Nothing);
    }
    lay_served(globals, env);
    if env.var(EMBEDDED).is_some() {
        let options = sandbox_options(env, state_dir(&Paths::from_env(env)))?;
        let region = ops_sandbox::region(&options).map_err(|error| cannot_start(&error))?;
        for name in UNSET {
            env.remove(name);
        }
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            env.set(name, &region);
        }
    }
    Ok(CommandBackend::Shared)
}

/// Puts a sandbox under an external command if one is wanted: that of the command which started
/// this one, else a served one, else one of our own.
///
/// # Errors
/// As [`lay_backend`].
pub(crate) async fn lay_for_external(globals: &Globals, env: &mut Env) -> Result<CommandBackend> {
    if !globals.sandbox {
        return Ok(CommandBackend::Nothing);
    }
    let paths = Paths::from_env(env);
    if let Some(file) = env.path(STATE) {
        let access = Access::read(&file)
            .ok()
            .filter(Access::is_alive)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unreachable,
                    "the sandbox of the command that started this one has ended",
                )
                .caused_by(format!(
                    "`{STATE}` names {}, and nothing answers there",
                    file.display()
                ))
                .hint(hint!(
                    "start one of its own: env -u {} ops --sandbox ls",
                    STATE
                ))
            })?;
        overlay_environment(env, &access);
        env.remove(EMBEDDED);
        return Ok(CommandBackend::Shared);
    }
    let state = state_dir(&paths);
    if let Some(access) = discover(&state) {
        overlay_environment(env, &access);
        env.set(STATE, ops_sandbox::served_file(&state));
        env.remove(EMBEDDED);
        return Ok(CommandBackend::Shared);
    }
    let mut options = sandbox_options(env, state)?;
    let file = paths
        .private_dir_for("the way to the sandbox", &paths.runtime)?
        .join(format!("sandbox-{}.json", std::process::id()));
    options.access_file = Some(file.clone());
    let running = start_sandbox(options, &paths).await?;
    overlay_environment(env, running.access());
    env.set(STATE, file);
    env.set(EMBEDDED, "1");
    Ok(CommandBackend::Own(Box::new(running)))
}

/// Lays a sandbox that another process runs over `env`, if one is wanted; otherwise says that one
/// of the process's own is meant, without starting it.
pub(crate) fn lay_served(globals: &Globals, env: &mut Env) {
    if !globals.sandbox {
        return;
    }
    let access = match env.path(STATE) {
        Some(file) => Access::read(&file).ok().filter(Access::is_alive),
        None => discover(&state_dir(&Paths::from_env(env))),
    };
    match access {
        Some(access) => {
            overlay_environment(env, &access);
            env.remove(EMBEDDED);
        }
        None => env.set(EMBEDDED, "1"),
    }
}

/// Starts it.
///
/// # Errors
/// With the way to a fleet that is right, a free port, or a folder that can be written to.
pub(crate) async fn start_sandbox(options: Options, paths: &Paths) -> Result<RunningSandbox> {
    Sandbox::start(options).await.map_err(|error| match &error {
        StartError::State { path, source } => {
            paths.cannot_keep("the sandbox's machines", path, source)
        }
        _ => cannot_start(&error),
    })
}

fn cannot_start(error: &StartError) -> Error {
    let kind = match error {
        StartError::Fleet(_) => ErrorKind::Usage,
        _ => ErrorKind::Unexpected,
    };
    let mut ours = Error::new(kind, "cannot start the sandbox").caused_by(error);
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        ours = ours.caused_by(cause);
        source = cause.source();
    }
    ours.hint("see what it takes: ops sandbox serve --help")
}

/// What the environment says about a sandbox: the variables of `ops sandbox serve`'s options.
fn sandbox_options(env: &Env, state: PathBuf) -> Result<Options> {
    let mut options = Options::new(state);
    options.fleet = env.path("OPS_SANDBOX_FLEET");
    if let Some(text) = env.var("OPS_SANDBOX_FLEET_SIZE") {
        options.fleet_size = text.parse().map_err(|_| {
            Error::usage(format!("`OPS_SANDBOX_FLEET_SIZE` is no number: `{text}`"))
        })?;
    }
    if let Some(text) = env.var("OPS_SANDBOX_PACE") {
        options.pace = match text {
            "real" => Pace::Real,
            "none" => Pace::Unpaced,
            _ => {
                return Err(Error::usage(format!(
                    "`OPS_SANDBOX_PACE` is real or none, not `{text}`"
                )));
            }
        };
    }
    if let Some(text) = env.var("OPS_SANDBOX_FAULT") {
        options.faults = parse_faults([text])?;
    }
    Ok(options)
}

/// Faults from their texts.
///
/// # Errors
/// There is no such fault.
pub(crate) fn parse_faults<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Faults> {
    let mut faults = Faults::default();
    for text in texts {
        faults.add(text).map_err(|error| {
            Error::usage(format!("`{text}` is no fault of the sandbox"))
                .caused_by(error)
                .hint("see them all: ops sandbox fault --help")
        })?;
    }
    Ok(faults)
}

/// The variables with which every AWS client uses the sandbox, and none beside them that would lead
/// it elsewhere.
fn overlay_environment(env: &mut Env, access: &Access) {
    for name in UNSET {
        env.remove(name);
    }
    for (name, value) in access.environment() {
        env.set(name, value);
    }
    env.set("OPS_SANDBOX", "1");
    // A proxy would be asked for loopback addresses too.
    for name in ["NO_PROXY", "no_proxy"] {
        let before = env
            .var(name)
            .map(|value| format!("{value},"))
            .unwrap_or_default();
        env.set(name, format!("{before}127.0.0.1,localhost"));
    }
}
