//! A user whom the system does not know by name: a container that was given a number to run as, for
//! which `/etc/passwd` has no line.
//!
//! OpenSSH asks the user database before it reads an option or opens a log, and ends with one line
//! when nobody is found there, whatever `USER` says. `ops` has no use for that database itself, so
//! ssh is asked once more, where it has failed without a reason that was told.

use ops_core::Context;
use ops_profile::Instance;
use ops_ui::{Text, hint};
use tokio::process::Command;

use crate::openssh;

/// The words of OpenSSH's `main` for it, in all of its programs.
const NO_NAME: &str = "No user exists for uid";

/// Says what to do where that is why ssh has ended; nothing where it is not.
pub(crate) async fn tell_nameless(cx: &Context, instance: &Instance) {
    if !is_nameless(cx).await {
        return;
    }
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    let output = cx.output();
    output.note(format!(
        "ops: ssh runs for nobody whom the system has no name for, and user id {uid} has none"
    ));
    output.note(
        Text::from(hint!(
            "ops: give it one, as root: echo {} >> /etc/passwd",
            format!("me:x:{uid}:{gid}::/tmp:/bin/sh")
        ))
        .then("; or do without ssh: ")
        .then(hint!("ops shell {}", instance.target_word()))
        .then(", ops exec, ops cp"),
    );
}

/// Whether ssh ends at once for want of a name. It prints what options mean (`-G`) in no time, and
/// connects to nobody.
async fn is_nameless(cx: &Context) -> bool {
    let Some(program) = openssh::find_program(cx, "ssh") else {
        return false;
    };
    let mut command = Command::new(program);
    command
        .args(["-G", "-F", "none", "localhost"])
        .env_clear()
        .envs(cx.env().iter())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true);
    let told = tokio::time::timeout(std::time::Duration::from_secs(2), command.output()).await;
    matches!(told, Ok(Ok(output)) if String::from_utf8_lossy(&output.stderr).contains(NO_NAME))
}
