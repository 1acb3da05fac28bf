//! Starting an external command: arguments and streams as they are, its exit status ours.

use std::{ffi::OsString, io, process::Command};

use ops_core::Context;
use ops_ui::{Error, ErrorKind, Exit, Paths, Result, hint};

use super::{Cache, Plugin, environment};

/// Puts the plugin in the place of this process. Returns only if that fails.
pub(crate) fn exec_plugin(plugin: &Plugin, arguments: &[OsString], cx: &Context) -> Error {
    let prepared =
        match check_plugin(plugin, cx).and_then(|()| environment::prepare_environment(cx)) {
            Ok(prepared) => prepared,
            Err(error) => return error,
        };
    let mut command = Command::new(&plugin.path);
    command
        .args(arguments)
        .env_clear()
        .envs(prepared.env.iter());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        let error = command.exec();
        drop(prepared.context);
        cannot_run(plugin, &error)
    }
    #[cfg(not(unix))]
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => cannot_run(plugin, &error),
    }
}

/// Runs the plugin beside this process, which has a sandbox to keep.
///
/// # Errors
/// It cannot be run.
pub(crate) async fn spawn_plugin(
    plugin: &Plugin,
    arguments: &[OsString],
    cx: &Context,
) -> Result<Exit> {
    check_plugin(plugin, cx)?;
    let prepared = environment::prepare_environment(cx)?;
    // The terminal's signals reach the plugin by themselves: both are in one process group. We stay
    // until it ends.
    let mut signals = crate::signals::Signals::listen()?;
    let mut child = tokio::process::Command::new(&plugin.path)
        .args(arguments)
        .env_clear()
        .envs(prepared.env.iter())
        .spawn()
        .map_err(|error| cannot_run(plugin, &error))?;
    drop(prepared.context);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            kind = signals.next() => relay_signal(&child, kind),
        }
    };
    let status =
        status.map_err(|error| Error::unexpected("cannot wait for the plugin").caused_by(error))?;
    Ok(exit_of(status))
}

/// Passes on what was sent to us alone.
fn relay_signal(child: &tokio::process::Child, kind: ErrorKind) {
    #[cfg(unix)]
    if kind == ErrorKind::Terminated
        && let Some(pid) = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
    {
        // It may have ended this very moment.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    #[cfg(not(unix))]
    let _ = (child, kind);
}

fn exit_of(status: std::process::ExitStatus) -> Exit {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Exit::of(u8::try_from(128 + signal).unwrap_or(1));
    }
    Exit::of(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    )
}

/// A plugin that others may change is not run, nor one that speaks another version of the
/// interface. Only those that may be asked are.
fn check_plugin(plugin: &Plugin, cx: &Context) -> Result<()> {
    plugin.refuse_exposed()?;
    if !plugin.may_be_probed {
        return Ok(());
    }
    let mut cache = Cache::load(&Paths::from_env(cx.env()));
    match cache.ask(&plugin.path, cx.env()) {
        Some(info) if !info.is_spoken() => Err(Error::new(
            ErrorKind::PluginNotFound,
            format!(
                "`{}` is made for another version of ops",
                plugin.path.display()
            ),
        )
        .caused_by(format!(
            "it speaks {}, this ops speaks {}",
            info.api_version,
            super::API_VERSION
        ))
        .hint("see its versions: ops plugin list")),
        _ => Ok(()),
    }
}

fn cannot_run(plugin: &Plugin, error: &io::Error) -> Error {
    let ours = Error::new(
        ErrorKind::PluginNotFound,
        format!("cannot run `{}`", plugin.path.display()),
    );
    match error.kind() {
        // The file was there a moment ago: the system means the interpreter.
        io::ErrorKind::NotFound => ours
            .caused_by("the interpreter that its first line names does not exist")
            .hint(hint!("see its first line: head -1 {}", plugin.path)),
        _ if error.raw_os_error() == Some(8) => ours
            .caused_by(
                "it is neither a program of this system nor a script that names its interpreter",
            )
            .hint("write the interpreter into its first line, such as #!/bin/sh"),
        _ => ours.caused_by(error),
    }
}
