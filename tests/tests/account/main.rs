//! What the account knows of sessions, and whose credentials are in use: `ops sessions`, `ops
//! login`, `ops logout`, `ops whoami`, `ops env`.

mod browser;
mod env;
mod login;
mod logs;
mod sessions;

use std::{path::PathBuf, process::Command};

use ops_tests::service::Service;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");
/// Of the environment, keys outrank every profile that nobody has named.
const KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// What a run has left.
struct Done {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    /// Whether it went well.
    #[track_caller]
    fn succeeds(self) -> Self {
        assert_eq!(self.status, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Whether it ended with `status` and told `words`.
    #[track_caller]
    fn fails(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, Some(status), "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "`{word}`: {}", self.stderr);
        }
        self
    }

    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect(&self.stdout)
    }
}

fn run(command: &mut Command) -> Done {
    let output = command.output().expect("ops runs");
    Done {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `ops` with `args`.
fn ops(service: &Service, args: &[&str]) -> Done {
    run(&mut service.ops(args))
}

/// `ops` with `args` and without keys in its environment.
fn without_keys(service: &Service, args: &[&str]) -> Command {
    let mut command = service.ops(args);
    for key in KEYS {
        command.env_remove(key);
    }
    command
}

/// Writes a file below the home of who runs `ops`.
fn write(service: &Service, path: &str, text: &str) -> PathBuf {
    let path = service.home().join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(&path, text).expect("a file");
    path
}
