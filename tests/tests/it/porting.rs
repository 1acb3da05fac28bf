//! docs/porting.md names every file that asks which system it is on, or uses what only one has.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Words of shipped code that mean something else, or nothing, on another system. Source:
/// rustix's documentation (what is "Linux only" there) and the manual pages of section 2 that say
/// "Linux-specific" under STANDARDS.
const OF_ONE_SYSTEM: &[&str] = &[
    "target_os",
    "target_vendor",
    "\"/proc/",
    "\"/proc\"",
    "\"/sys/",
    "/dev/fd/{}",
    "netlink",
    "set_parent_process_death_signal",
    "OFlags::PATH",
    "OFlags::TMPFILE",
    "openat2",
    "renameat_with",
    "memfd_create",
    "epoll",
    "signalfd",
    "eventfd",
    "inotify",
    "statx",
    "copy_file_range",
    "fallocate",
    "pipe_with",
    "pidfd",
    "peer_cred",
    "from_abstract_name",
    "mkfifoat",
    "mknodat",
    "tcp_user_timeout",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Sources below `folder` that are shipped: no files of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "shells.rs" {
            found.push(path);
        }
    }
}

/// The code of `text` without comments, and without the tests at its end.
fn is_of_one_system(text: &str) -> bool {
    text.lines()
        .map(str::trim_start)
        .take_while(|line| *line != "mod tests {")
        .filter(|line| !line.starts_with("//"))
        // A test's own `cfg` is no branch of the program.
        .filter(|line| !line.starts_with("#[cfg(all(test"))
        .any(|line| OF_ONE_SYSTEM.iter().any(|word| line.contains(word)))
}

#[test]
fn every_branch_for_a_system_is_on_the_page() {
    let root = root();
    let mut all = Vec::new();
    for entry in fs::read_dir(root.join("crates")).expect("crates") {
        sources(&entry.expect("an entry").path().join("src"), &mut all);
    }
    assert!(all.len() > 200, "{} sources", all.len());
    let found: BTreeSet<String> = all
        .into_iter()
        .filter(|path| is_of_one_system(&fs::read_to_string(path).expect("UTF-8")))
        .map(|path| {
            let below = path.strip_prefix(&root).expect("below the root");
            below.to_string_lossy().into_owned()
        })
        .collect();
    let page = fs::read_to_string(root.join("docs/porting.md")).expect("the page");
    let told: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(file, _)| file.to_owned())
        .collect();
    assert_eq!(found, told, "found, and on the page");
}

#[test]
fn files_that_a_port_has_to_change_are_there() {
    let page = fs::read_to_string(root().join("docs/porting.md")).expect("the page");
    let files: Vec<&str> = page
        .split('`')
        .filter(|word| word.starts_with("crates/"))
        .collect();
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        assert!(root().join(file).is_file(), "there is no {file}");
    }
}
