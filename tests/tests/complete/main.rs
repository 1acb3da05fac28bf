//! Completion in the real shells, and the cache behind it.

mod cache;
mod candidates;
mod shells;

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use ops_tests::service::Service;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

/// Names that each shell has to quote in its own way.
const FLEET: &str = r#"
region: eu-west-1
account: "123456789012"
instances:
  - { name: web-1, id: i-0a1b2c3d4e5f60718, type: t3.medium, tags: { Team: web shop, "x:y": "a:b=c" } }
  - { name: web-2, tags: { Team: web } }
  - { name: web-3, state: stopped }
  - { name: my server 1 }
  - { name: my server 2 }
  - { name: "it's here" }
  - { name: 'say "hi"' }
  - { name: cost$5 }
  - { name: "ns:web:1" }
  - { name: "ns:web:2" }
  - { name: größe-✓ }
  - { name: 'back\slash' }
  - { name: semi;colon & co }
  - { name: bang!here }
  - { name: dup }
  - { name: dup }
"#;

/// A user with a fleet, a profile, an external command, and an `ops` in PATH that completes, and
/// says with what it was called otherwise.
fn user(faults: &str) -> Service {
    let service = Service::start_with(OPS, |options| {
        let fleet = options
            .state_dir
            .parent()
            .expect("a home")
            .join("fleet.yaml");
        std::fs::write(&fleet, FLEET).expect("a fleet");
        options.fleet = Some(fleet);
        options.faults = faults.parse().expect("faults that exist");
    });
    let script = format!(
        "#!/bin/sh\n[ -n \"$OPS_COMPLETE\" ] || [ \"$1\" = completion ] && exec {OPS} \"$@\"\nprintf '<%s>' called \"$@\"; echo\n"
    );
    write(&service, "bin/ops", &script);
    write(
        &service,
        ".local/share/ops/plugins/bin/ops-greet",
        "#!/bin/sh\ncase $1 in\n--ops-plugin-info) echo '{\"apiVersion\":\"ops.plugin/v1\",\"about\":\"Say hello\",\"completes\":true}';;\n__complete) printf 'alice\\tthe first\\nbob & co\\tthe second\\n';;\nesac\n",
    );
    write(
        &service,
        ".config/ops/profiles/shop.yaml",
        "description: The shop\nhosts:\n  bastion: web-1\nforwards:\n  reports: { via: bastion, to: \"db:3306\", group: dev }\naliases:\n  web: ls --tag Team=web*\n",
    );
    service
}

fn write(service: &Service, path: &str, text: &str) -> PathBuf {
    let path = service.home().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    path
}

/// The environment with our `ops` first in PATH.
fn environment(service: &Service) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let mut env = service.environment();
    for (name, value) in &mut env {
        if name == "PATH" {
            *value = format!(
                "{}:/usr/local/bin:/usr/bin:/bin",
                service.home().join("bin").display()
            )
            .into();
        }
    }
    env
}

/// Candidates for the last of `words`, one a line.
fn complete(service: &Service, words: &[&str]) -> Vec<String> {
    let output = plain(service, words).output().expect("ops runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
        .collect()
}

fn plain(service: &Service, words: &[&str]) -> Command {
    let mut command = service.ops(&[]);
    command
        .arg("--")
        .args(words)
        .envs(environment(service))
        .env("OPS_COMPLETE", "plain");
    command
}

fn count(service: &Service, action: &str) -> usize {
    service
        .calls()
        .iter()
        .filter(|call| *call == action)
        .count()
}
