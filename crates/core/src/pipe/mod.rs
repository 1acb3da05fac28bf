//! Bytes to and from a process on a server, with nothing on the server but a POSIX sh.
//!
//! ```text
//!        Down                                       Up
//! AWS-StartNonInteractiveCommand             AWS-StartInteractiveCommand
//! script | base64  ──► output, no pause      raw terminal ──► read N; head -c N | script
//! messages and exit status ──► error output  credits and messages ◄── the terminal's output
//! ```
//!
//! The agent sends the separated output of a command as fast as it comes, and writes input to a terminal as fast as it is taken; everything else
//! it paces at a kilobyte a millisecond. [`Down`] and [`Up`] each use one of the two; [`Pipe`] joins them at a FIFO in a private folder of the
//! server, so that one process there has both.
//!
//! **What holds back whom.** Down: what is not taken from [`Down::next`] waits in the session's bounded queue, then in the network; the script
//! blocks. Up: bytes go in frames, each announced by its length, and the far side grants credit for the next when it has handed one on; a slow
//! script holds back [`Up::send`], and never more than a frame is under way.
//!
//! **What is left behind.** Nothing: scripts clean up on exit and on the hang-up that the end of a session is to them, and sessions are terminated
//! at the service on every way out.

mod down;
pub mod text;
mod up;

use crate::{
    connect::Document,
    context::Context,
    error::{Error, Result},
    instance::Instance,
};

pub use self::{
    down::{Chunk, Down},
    up::{FRAME_BYTES, Up},
};

/// Where and how scripts of one command run.
#[derive(Clone)]
pub struct Far {
    /// The invocation.
    pub cx: Context,
    /// The server.
    pub instance: Instance,
    /// The user to become, with `sudo -n`.
    pub user: Option<String>,
    /// A document of the profile's for commands, in place of AWS's own.
    pub document: Option<String>,
    /// Why, for the session's history.
    pub reason: Option<String>,
}

impl Far {
    /// The command line that runs `script`, which must hold no single quote.
    fn command(&self, script: &str) -> Result<String> {
        if script.contains('\'') {
            return Err(Error::unexpected(
                "a script for the far side holds a single quote",
            ));
        }
        Ok(match &self.user {
            None => format!("sh -c '{script}'"),
            // Fails at once where a password would be asked for.
            Some(user) => format!("sudo -n -H -u {user} -- sh -c '{script}'"),
        })
    }

    fn interactive(&self, script: &str) -> Result<Document> {
        Ok(Document::Interactive {
            command: self.command(script)?,
        })
    }
}

/// A process on the server with its input and output.
pub struct Pipe {
    /// What it writes.
    pub down: Down,
    /// What it reads.
    pub up: Up,
}

impl Pipe {
    /// Starts `script` with a FIFO as its standard input.
    ///
    /// # Errors
    /// As [`Down::start`] and [`Up::start`]; a server without mkfifo.
    pub async fn start(far: &Far, script: &str) -> Result<Self> {
        // Opening a FIFO waits for the other side, so its place is told first.
        let body = format!(
            "d=$(mktemp -d \"${{TMPDIR:-/tmp}}/ops-pipe.XXXXXX\") || exit 1\n\
             trap \"rm -rf \\\"$d\\\"\" EXIT\n\
             trap \"exit 129\" HUP INT TERM\n\
             mkfifo \"$d/in\" || exit 1\n\
             printf \"!pipe %s\\n\" \"$d/in\" >&6\n\
             {{ {script}\n}} <\"$d/in\"\n"
        );
        let mut down = Down::start(far, &body).await?;
        let path = loop {
            match down.next().await? {
                Some(Chunk::Message(text)) => {
                    if let Some(path) = text.strip_prefix("pipe ") {
                        break path.to_owned();
                    }
                }
                Some(_) => {}
                None => return Err(down.failed("no pipe could be made on the server")),
            }
        };
        // The name comes from the far side and goes back into a script.
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
        if !path.starts_with('/') || !path.bytes().all(harmless) {
            return Err(Error::target("the server named a pipe that cannot be used"));
        }
        let up = Up::start(far, "", &format!("cat >\"{path}\""), "").await?;
        Ok(Self { down, up })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_with_a_single_quote_never_leaves() {
        let cx = Context::new(crate::Globals::default(), crate::Env::default());
        let far = Far {
            cx,
            instance: Instance::bare("i-0123456789abcdef0", "eu-west-1"),
            user: Some("deploy".to_owned()),
            document: None,
            reason: None,
        };
        assert!(far.command("echo 'x'").is_err());
        assert_eq!(
            far.command("id -un").unwrap(),
            "sudo -n -H -u deploy -- sh -c 'id -un'"
        );
    }
}
