//! The user's browser: what `BROWSER` names, else the desktop's own.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::{env::Env, output::Output};

/// An opener that is still running after this has a window of its own.
const OPENER_PATIENCE: Duration = Duration::from_secs(5);

/// A way to open a page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opener {
    /// Program and arguments; `%s` stands for the URL, which comes last where it is missing.
    words: Vec<String>,
    /// Belongs to the user, who may want to read in this very terminal.
    is_own: bool,
}

impl Opener {
    fn command(&self, url: &str) -> Vec<String> {
        let mut words: Vec<String> = self
            .words
            .iter()
            .map(|word| word.replace("%s", url).replace("%%", "%"))
            .collect();
        if !self.words.iter().any(|word| word.contains("%s")) {
            words.push(url.to_owned());
        }
        words
    }
}

/// The ways to open a page, best first. None where there is no display and `BROWSER` names nothing.
fn openers(env: &Env) -> Vec<Opener> {
    let own = env
        .var("BROWSER")
        .unwrap_or_default()
        .split(':')
        .filter_map(|text| shell_words::split(text).ok())
        .filter(|words| !words.is_empty())
        .map(|words| Opener {
            words,
            is_own: true,
        });
    let mut openers: Vec<Opener> = own.collect();
    let of_desktop: &[&str] = if cfg!(target_os = "macos") {
        &["open"]
    } else if env.var("WSL_DISTRO_NAME").is_some() {
        &["wslview", "xdg-open"]
    } else if env.var("DISPLAY").is_some() || env.var("WAYLAND_DISPLAY").is_some() {
        &["xdg-open"]
    } else {
        &[]
    };
    openers.extend(of_desktop.iter().map(|program| Opener {
        words: vec![(*program).to_owned()],
        is_own: false,
    }));
    openers
}

/// Whether there is any way to open a page.
pub fn is_there(env: &Env) -> bool {
    !openers(env).is_empty()
}

/// Opens `url`. False: no way worked. `url` is seen by every user of this machine in the list of
/// processes.
pub async fn open(env: &Env, output: &Output, url: &str) -> bool {
    for opener in openers(env) {
        let words = opener.command(url);
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(env.iter())
            // stdout is for results.
            .stdout(Stdio::null());
        if opener.is_own {
            // A browser in the terminal draws on it.
            if output.stdout_is_terminal() {
                command.stdout(Stdio::inherit());
            }
        } else {
            command.stdin(Stdio::null()).stderr(Stdio::null());
        }
        let Ok(mut child) = command.spawn() else {
            output.detail(format!("`{program}` cannot be started"));
            continue;
        };
        let status = if opener.is_own {
            let _held = output.hold();
            child.wait().await
        } else {
            match timeout(OPENER_PATIENCE, child.wait()).await {
                Ok(status) => status,
                Err(_) => return true,
            }
        };
        if status.is_ok_and(|status| status.success()) {
            return true;
        }
        output.detail(format!("`{program}` has failed"));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_names_several_each_with_arguments() {
        let env: Env = [("BROWSER", "firefox -new-tab %s:w3m"), ("DISPLAY", ":0")]
            .into_iter()
            .collect();
        let openers = openers(&env);
        assert_eq!(openers[0].command("u"), ["firefox", "-new-tab", "u"]);
        assert_eq!(openers[1].command("u"), ["w3m", "u"]);
        assert!(!openers[2].is_own);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_a_display_there_is_no_browser() {
        assert!(!is_there(&Env::default()));
    }
}
