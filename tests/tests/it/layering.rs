//! Who may import whom, and what a command may not touch.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;

fn workspace() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON of cargo metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let ours: Vec<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let used = dependencies
                .iter()
                .map(name)
                .filter(|name| ours.contains(name));
            (name(package), used.collect())
        })
        .collect()
}

/// What the commands and the binary stand on.
const CLIENT: [&str; 4] = ["ops-ui", "ops-profile", "ops-core", "ops-remote"];

#[test]
fn every_crate_imports_only_what_the_architecture_allows() {
    let workspace = workspace();
    assert!(workspace.len() > 6, "{workspace:?}");
    for (package, used) in &workspace {
        let allowed = |other: &str| match package.as_str() {
            // Whatever has tests may say what they need.
            _ if other == "ops-test-needs" => true,
            "ops-session" | "ops-sftp" | "ops-ui" | "ops-test-needs" => false,
            "ops-profile" => other == "ops-ui",
            "ops-core" => ["ops-profile", "ops-session", "ops-ui"].contains(&other),
            "ops-remote" => ["ops-core", "ops-profile", "ops-session", "ops-ui"].contains(&other),
            "ops-sandbox" => ["ops-session", "ops-sftp"].contains(&other),
            "ops" => CLIENT.contains(&other) || other == "ops-sandbox" || other.starts_with("cmd-"),
            "ops-tests" | "ops-bench" => {
                ["ops", "ops-tests", "ops-sandbox", "ops-session"].contains(&other)
            }
            // What reads foreign bytes is private to its crate, which hands it out for this one
            // alone.
            "ops-fuzzing" => {
                ["ops", "ops-profile", "ops-session", "cmd-cp", "cmd-forward"].contains(&other)
            }
            // What somebody builds outside of here stands on what a command stands on.
            "example-dispatcher" => other == "ops" || other.starts_with("example-cmd-"),
            command if command.starts_with("cmd-") || command.starts_with("example-cmd-") => {
                CLIENT.contains(&other) || ["ops-session", "ops-sftp"].contains(&other)
            }
            _ => panic!("{package} has no place in the architecture: give it one here"),
        };
        for other in used {
            assert!(allowed(other), "{package} must not depend on {other}");
        }
    }
}

/// The names in Cargo.lock: whatever the workspace may draw in with any feature on any system, so
/// more than is ever built.
fn locked() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let text = fs::read_to_string(path).expect("Cargo.lock");
    text.lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn there_is_one_tls_stack_so_that_a_static_build_is_possible() {
    let locked = locked();
    let count = |wanted: &str| locked.iter().filter(|name| *name == wanted).count();
    for (stack, why) in [
        ("openssl-sys", "links a library of the system"),
        ("native-tls", "is OpenSSL on Linux"),
        ("boring-sys", "is a second stack"),
    ] {
        assert_eq!(count(stack), 0, "{stack} {why}; see: cargo tree -i {stack}");
    }
    assert_eq!((count("rustls"), count("aws-lc-rs")), (1, 1), "one of each");
}

/// Every line of a command crate's sources outside of tests, with its place.
fn command_sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, lines: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, lines);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let numbered = code.lines().enumerate().map(|(index, line)| {
                    (format!("{}:{}", path.display(), index + 1), line.to_owned())
                });
                lines.extend(numbered);
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut lines = Vec::new();
    for entry in fs::read_dir(crates).expect("the crates") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if name.starts_with("cmd-") {
            walk(&path.join("src"), &mut lines);
        }
    }
    assert!(lines.len() > 100);
    lines
}

#[test]
fn a_command_reaches_terminal_environment_and_aws_through_its_context_alone() {
    let forbidden = [
        "println!",
        "print!(",
        "eprintln!",
        "eprint!(",
        "std::env",
        "env::var",
        "aws_sdk_",
        "aws_config",
        "aws_smithy",
        "io::stdout",
        "io::stderr",
        "process::exit",
    ];
    let found: Vec<String> = command_sources()
        .into_iter()
        .filter(|(_, line)| {
            let code = line.split("//").next().unwrap_or_default();
            forbidden.iter().any(|word| code.contains(word))
        })
        .map(|(place, line)| format!("{place}: {}", line.trim()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
