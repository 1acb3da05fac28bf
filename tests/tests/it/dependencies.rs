//! What the manifests declare: nothing that no code uses, and nothing that needs a newer compiler
//! than we promise.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

/// Declared although no code names them: crate, dependency, reason.
const UNNAMED: &[(&str, &str, &str)] = &[(
    "ops-core",
    "tokio-util",
    "one feature set for every selection of packages",
)];

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--offline", "--format-version", "1"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON of cargo metadata")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// All sources below `folder`, one after the other, without comments.
fn sources(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, code);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            for line in text.lines() {
                code.push_str(line.split("//").next().unwrap_or_default());
                code.push('\n');
            }
        }
    }
}

/// Whether `code` has `name` as a word of its own that a path, a macro or a `use` goes on from.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].trim_start();
        let begins = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        let is_import = code[..at].ends_with("use ") && after.starts_with([';', ' ', 'a']);
        begins && (after.starts_with("::") || after.starts_with('!') || is_import)
    })
}

/// Packages whose library has a name of its own.
const LIBRARIES: &[(&str, &str)] = &[("rustls-webpki", "webpki")];

#[test]
fn every_declared_dependency_is_used() {
    let metadata = metadata(&["--no-deps"]);
    let mut unused = Vec::new();
    let mut declared = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let folder = Path::new(text(package, "manifest_path"))
            .parent()
            .expect("a folder");
        let mut code = String::new();
        sources(folder, &mut code);
        let package_name = text(package, "name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let name = text(dependency, "name");
            declared.insert(name.to_owned());
            let is_excused = UNNAMED
                .iter()
                .any(|(of, what, _)| *of == package_name && *what == name);
            let library = LIBRARIES.iter().find(|(package, _)| *package == name);
            let library = library.map_or(name, |(_, library)| *library);
            let is_used = names(&code, &library.replace('-', "_"));
            if is_used == is_excused {
                unused.push(format!("{package_name}: {name}"));
            }
        }
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("the workspace's manifest");
    let table = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .expect("a table of dependencies");
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, _)) = line.split_once(" = ")
            && !declared.contains(name)
        {
            unused.push(format!("workspace: {name}"));
        }
    }
    assert!(declared.len() > 40, "{declared:?}");
    assert!(
        unused.is_empty(),
        "declared and not used, or used and excused: {unused:#?}"
    );
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_the_workspace_promises() {
    /// `1.94.1` as numbers; a missing part is 0.
    fn version(text: &str) -> Vec<u64> {
        let mut parts: Vec<u64> = text
            .split('.')
            .map(|part| part.parse().expect("a number"))
            .collect();
        parts.resize(3, 0);
        parts
    }
    // Of the platform that this runs on: a package of another one need not be here.
    let platform = Command::new("rustc")
        .arg("-vV")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .expect("rustc runs");
    let platform = platform
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("a platform");
    let metadata = metadata(&["--filter-platform", platform]);
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages
        .iter()
        .find(|package| package["name"] == "ops")
        .map(|package| version(text(package, "rust_version")))
        .expect("a promise");
    let newer: Vec<String> = packages
        .iter()
        .filter(|package| package["rust_version"].is_string())
        .filter(|package| version(text(package, "rust_version")) > ours)
        .map(|package| {
            format!(
                "{} {}",
                text(package, "name"),
                text(package, "rust_version")
            )
        })
        .collect();
    assert!(packages.len() > 200);
    assert!(newer.is_empty(), "{newer:#?}");
}

/// The names of packages that a section of a manifest, such as `profile.dev.package`, has lines
/// for.
fn lines_of_section<'a>(manifest: &'a str, section: &str) -> BTreeSet<&'a str> {
    let header = format!("[{section}]");
    let lines = manifest.lines().skip_while(|line| *line != header).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_sdk_crate_has_its_line_in_each_build_profile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let (manifest, lock) = (read("Cargo.toml"), read("Cargo.lock"));
    let locked: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .filter(|name| name.starts_with("aws-sdk-"))
        .collect();
    assert!(locked.contains("aws-sdk-ec2"), "{locked:?}");
    for profile in ["dev", "release", "dist"] {
        let section = format!("profile.{profile}.package");
        let mut told = lines_of_section(&manifest, &section);
        told.retain(|name| name.starts_with("aws-sdk-"));
        assert_eq!(told, locked, "[{section}] of Cargo.toml");
    }
}
