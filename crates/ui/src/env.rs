//! The environment as it was when the program started, with what the dispatcher lays over it.
//!
//! Commands never read the process environment themselves, so that a test or the sandbox can give
//! them another.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// An environment: names and values, owned.
#[derive(Clone, Debug, Default)]
pub struct Env {
    vars: BTreeMap<OsString, OsString>,
}

impl Env {
    /// The environment of this process. Where `HOME` is not set, as in jobs of cron and units of
    /// systemd, or is empty, it is what the user database says: an empty one would mean the root of
    /// the file system to all that reads it, the programs that are started from here too.
    pub fn from_process() -> Self {
        let mut env = Self {
            vars: std::env::vars_os().collect(),
        };
        if env.path("HOME").is_none()
            && let Some(home) = std::env::home_dir()
        {
            env.set("HOME", home);
        }
        env
    }

    /// The value of `name` if it is set, not empty, and UTF-8.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars
            .get(OsStr::new(name))
            .and_then(|value| value.to_str())
            .filter(|value| !value.is_empty())
    }

    /// The value of `name` as a path, if it is set and not empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.vars
            .get(OsStr::new(name))
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// The value of a variable that has two spellings, such as `HTTPS_PROXY`, and the spelling that
    /// is set. Of two the lower-case one wins, as in curl.
    pub fn either_case(&self, name: &str) -> Option<(&str, String)> {
        [name.to_ascii_lowercase(), name.to_owned()]
            .into_iter()
            .find_map(|name| Some((self.var(&name)?, name)))
    }

    /// The raw value of `name`.
    pub fn var_os(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Sets or replaces a variable, for this program and the processes it starts.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.vars.insert(name.into(), value.into());
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        self.vars.remove(OsStr::new(name));
    }

    /// The name of the user who runs this: `USER`, `LOGNAME`, else what the user database says,
    /// which is asked by `id` since that knows every kind of database that the system has. Services
    /// and containers often set neither variable.
    pub fn user_name(&self) -> Option<String> {
        self.var("USER")
            .or_else(|| self.var("LOGNAME"))
            .map(str::to_owned)
            .or_else(|| {
                let mut id = std::process::Command::new("id");
                let answer = id.arg("-un").stderr(std::process::Stdio::null()).output();
                let name = String::from_utf8(answer.ok()?.stdout).ok()?;
                Some(name.trim().to_owned()).filter(|name| !name.is_empty())
            })
    }

    /// Every variable, for starting a child process with exactly this environment.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self {
            vars: iter
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}
