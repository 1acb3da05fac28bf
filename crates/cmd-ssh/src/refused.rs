//! What helps where a server lets nobody in: who was tried, with which keys, and what to try next.

use std::ffi::{OsStr, OsString};

use ops_core::Context;
use ops_profile::{Instance, Kind};
use ops_remote::ssh::image_user;
use ops_ui::{Text, hint, text::named};
use tokio::process::Command;

use crate::openssh;

/// Says that `instance` has refused the login that ssh was started for with `words`. `pushed` is
/// whether EC2 Instance Connect had pushed a key for it.
pub(crate) async fn tell_refused(
    cx: &Context,
    instance: &Instance,
    words: &[OsString],
    pushed: bool,
) {
    let tried = Tried::of(cx, words).await;
    let output = cx.output();
    let label = instance.label();
    let user = tried.user.as_deref().unwrap_or("that user");
    if pushed {
        output.note(format!(
            "ops: {label} did not let {user} in with the key of the moment that EC2 Instance Connect pushed: the user must exist there, as must the package ec2-instance-connect"
        ));
    } else if tried.keys.is_empty() {
        output.note(format!(
            "ops: {label} did not let {user} in: no SSH key was found to offer, neither a file nor in an agent"
        ));
    } else {
        output.note(format!(
            "ops: {label} did not let {user} in with any of: {}",
            tried.keys.join(", ")
        ));
    }
    output.note(login_proposal(cx, instance, tried.user.as_deref(), pushed).await);
}

/// What to try next. The image's user is proposed where another one was tried.
async fn login_proposal(
    cx: &Context,
    instance: &Instance,
    tried: Option<&str>,
    pushed: bool,
) -> Text {
    let word = instance.target_word();
    let of_image = image_user::of_instance(cx, instance).await;
    let user = match of_image.filter(|user| tried != Some(*user)) {
        Some(user) => hint!(
            "ops: try the user of its image: ops ssh {}@{} (for good: `ssh.user` of the profile)",
            user,
            word
        ),
        None => hint!(
            "ops: try another user: ops ssh USER@{} (for good: `ssh.user` of the profile)",
            word
        ),
    };
    let text = Text::from(user).then("; another key: -i FILE");
    if pushed || instance.kind == Kind::Hybrid {
        return text
            .then("; or do without ssh: ")
            .then(hint!("ops shell {}", word));
    }
    text.then("; a key for the moment, without a file: --instance-connect")
}

/// What ssh has tried to log in with.
#[derive(Default)]
struct Tried {
    user: Option<String>,
    /// Files that are there, and keys of the agent, as they are shown.
    keys: Vec<String>,
}

impl Tried {
    /// Asks ssh itself, with the user's configuration, what `words` mean to it (`-G`), and the
    /// agent for its keys.
    async fn of(cx: &Context, words: &[OsString]) -> Self {
        let asked = [&[OsString::from("-G")], words].concat();
        let Some(said) = output_of(cx, "ssh", &asked, None).await else {
            return Self::default();
        };
        let mut tried = Self::default();
        let (mut agent, mut is_agent_asked) = (None, true);
        for line in said.lines() {
            match line.split_once(' ') {
                Some(("user", user)) => tried.user = Some(user.to_owned()),
                // Those of ssh's own defaults that are not there were not offered.
                Some(("identityfile", file)) if cx.paths().expand(file).exists() => {
                    tried.keys.push(file.to_owned());
                }
                Some(("identityagent", "none")) | Some(("identitiesonly", "yes")) => {
                    is_agent_asked = false;
                }
                Some(("identityagent", socket)) if socket != "SSH_AUTH_SOCK" => {
                    agent = Some(cx.paths().expand(socket).into_os_string());
                }
                _ => {}
            }
        }
        if is_agent_asked {
            tried.keys.extend(agent_keys(cx, agent.as_deref()).await);
        }
        tried
    }
}

/// The keys in the ssh agent at `socket`, or at `SSH_AUTH_SOCK`, by their comments.
async fn agent_keys(cx: &Context, socket: Option<&OsStr>) -> Vec<String> {
    let Some(said) = output_of(cx, "ssh-add", &["-l".into()], socket).await else {
        return Vec::new();
    };
    // `256 SHA256:… comment (ED25519)`
    let comment = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').skip(2).collect();
        words.pop();
        format!("the agent's key {}", named(&words.join(" ")))
    };
    said.lines().map(comment).collect()
}

/// What a program prints, if it succeeds.
async fn output_of(
    cx: &Context,
    program: &str,
    words: &[OsString],
    agent: Option<&OsStr>,
) -> Option<String> {
    let mut command = Command::new(openssh::find_program(cx, program)?);
    command
        .args(words)
        .env_clear()
        .envs(cx.env().iter())
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true);
    if let Some(agent) = agent {
        command.env("SSH_AUTH_SOCK", agent);
    }
    // An agent that hangs must not keep the message back.
    let output = tokio::time::timeout(std::time::Duration::from_secs(2), command.output());
    let output = output.await.ok()?.ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
