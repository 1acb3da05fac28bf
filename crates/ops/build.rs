//! What `ops version` tells of how the program was built.

use std::{env, process::Command};

fn main() {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    // Sources from a package have no history.
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let compiler = env::var("RUSTC")
        .ok()
        .and_then(|rustc| said(&rustc, &["--version"]))
        .and_then(|line| Some(line.split_whitespace().nth(1)?.to_owned()));
    let target = env::var("TARGET").ok();
    for (name, value) in [
        ("OPS_COMMIT", commit),
        ("OPS_COMPILER", compiler),
        ("OPS_TARGET", target),
    ] {
        println!("cargo::rustc-env={name}={}", value.unwrap_or_default());
    }
    if let Some(head) = said("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={head}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
