//! Profiles as people write them, right and wrong.

mod extends;
mod refusals;

use std::path::PathBuf;

use ops_ui::Error;

use super::*;

/// A registry in small.
pub(crate) const VERBS: Verbs = Verbs::new(&[
    verb("ls", &["list"]),
    verb("shell", &["sh"]),
    verb("cp", &[]),
    verb("forward", &["fwd"]),
    verb("ssh", &[]),
    Verb {
        ruled_as: Some("ssh"),
        ..verb("ssh-proxy", &[])
    },
    verb("ssh-config", &[]),
    verb("console", &[]),
    Verb {
        is_always_allowed: true,
        ..verb("config", &[])
    },
]);

const fn verb(name: &'static str, aliases: &'static [&'static str]) -> Verb {
    Verb {
        name,
        aliases,
        ruled_as: None,
        is_always_allowed: false,
    }
}

/// A folder of profiles.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(format!("{name}.yaml")), text).expect("a file");
        }
        Self(folder)
    }

    fn load(&self, name: &str) -> Result<Loaded, Error> {
        let all = list(&[self.0.path().to_owned()]).expect("a list");
        let found = all
            .iter()
            .find(|found| found.name == name)
            .expect("the profile");
        Loaded::load(found, &all, None, VERBS)
    }

    fn refusal(&self, name: &str) -> String {
        let error = self.load(name).expect_err("a refusal");
        assert_eq!(error.kind(), ops_ui::ErrorKind::Usage);
        let mut text = format!("error: {}", error.what());
        for why in error.why() {
            text.push_str(&format!("\n  why: {why}"));
        }
        for hint in error.hints() {
            text.push_str(&format!("\n  hint: {hint}"));
        }
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn loaded(text: &str) -> Profile {
    Folder::new(&[("x", text)])
        .load("x")
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
        .profile
}

fn refused(text: &str) -> String {
    Folder::new(&[("x", text)]).refusal("x")
}

/// The first line of why, without the excerpt, and the hint.
fn brief(text: &str) -> String {
    let error = Folder::new(&[("x", text)]).load("x").expect_err(text);
    let why = error.why()[0].lines().next().unwrap_or_default().to_owned();
    let hints = error.hints().join("; ");
    if hints.is_empty() {
        why
    } else {
        format!("{why} | {hints}")
    }
}

#[test]
fn every_key_of_the_schema_is_read() {
    let profile = loaded(
        r#"
description: everything
aws:
  profile: payments
  region: eu-west-1
  regions: [eu-west-1, us-gov-west-1]
  role_arn: "arn:aws:iam::111122223333:role/team/oncall"
  external_id: "42"
  mfa_serial: "arn:aws:iam::111122223333:mfa/me"
  session_name: me@example.com
  duration: 1h30m
  account: "111122223333"
  endpoints: {ssm: "https://ssm.example", ssmmessages: "https://m.example", ec2: "https://e.example", sts: "http://127.0.0.1:1", kms: "https://k.example", ec2_instance_connect: "https://c.example/", s3: "https://s3.example", iam: "https://iam.example", cloudwatch_logs: "https://logs.example", resource_groups: "https://groups.example"}
  endpoint_url: "https://all.example"
select: {tags: {Team: payments, Env: [stag*, dev]}, exclude_tags: {Role: ci}, states: [running, stopped], vpc: vpc-1, platform: linux, hybrid: false}
names: {tag: Name, strip_prefix: pay-}
ssh:
  user: ubuntu
  users: [{match: {platform: "Amazon Linux*"}, user: ec2-user}, {match: {tags: {Os: win}}, user: Administrator}]
  port: 2222
  identity_file: ~/.ssh/id
  auth: agent
  host_prefix: stg-
  host_keys: accept-new
  control_master: true
  options: {Compression: "yes"}
  local_forwards: ["8080:localhost:80", "127.0.0.1:1:[::1]:2"]
shell: {document: Team-Shell, parameters: {a: [x, y], b: z}, as: deploy, login: true, cwd: /srv, notices: title}
session: {reason: optional, reason_pattern: "^x", escape: none}
copy: {via: session, deny_via: [s3], links: safe, document: D, sessions: 4, s3_bucket: b, s3_prefix: p/, s3_above: 100MB}
exec: {via: run-command, document: D, fleet_threshold: 10, parallel: 20, s3_bucket: b, log_group: /ops/runs}
guard: {protect: true, confirm: type-name, max_targets: 5, deny: [cp], color: red}
output: {format: wide, columns: [name, id], sort_by: name, label_columns: Team}
recent: true
hosts:
  bastion: {tags: {role: bastion}, pick: newest, ssh: {user: admin}, shell: {login: false}}
  db: db-1
  old: {target: i-0a1b2c3d4e5f60718}
forwards:
  db: {via: bastion, listen: "127.0.0.1:0", to: "db.internal:3306", open: "http://localhost", group: dev}
  web: {via: web-1, listen: 0, to: 80}
aliases: {errors: "exec 'web-*' -- tail -n 100 /var/log/app.log"}
commands: {enable: [ls, shell], disable: ssh}
"#,
    );
    assert_eq!(profile.aws.regions.len(), 2);
    assert_eq!(
        profile.aws.duration.map(|time| time.0.as_secs()),
        Some(5400)
    );
    assert_eq!(profile.copy.s3_above, Some(values::Size(100_000_000)));
    assert_eq!(
        profile.hosts["db"]
            .target
            .as_ref()
            .map(values::TargetText::as_str),
        Some("db-1")
    );
    assert_eq!(profile.hosts["bastion"].pick, Some(Pick::Newest));
    assert_eq!(
        profile.forwards["web"].to,
        values::Destination {
            host: None,
            port: 80
        }
    );
    assert_eq!(
        profile.aliases["errors"].0,
        [
            "exec",
            "web-*",
            "--",
            "tail",
            "-n",
            "100",
            "/var/log/app.log"
        ]
    );
    assert_eq!(
        profile.ssh.local_forwards[1].to.host.as_deref(),
        Some("::1")
    );
    // What is written is read back the same.
    let text = ops_ui::yaml::to_string(&profile).expect("yaml");
    assert_eq!(loaded(&text), profile, "{text}");
}

#[test]
fn the_first_folder_wins_and_says_what_it_hides() {
    let (near, far) = (
        Folder::new(&[
            ("team", "description: near\n"),
            (".hidden", ""),
            ("-flag", ""),
        ]),
        Folder::new(&[("team", "description: far\n"), ("other", "")]),
    );
    std::fs::write(near.0.path().join("notes.txt"), "x").expect("a file");
    std::fs::create_dir(near.0.path().join("folder.yaml")).expect("a folder");
    let folders: Vec<PathBuf> = vec![
        near.0.path().to_owned(),
        near.0.path().join("nowhere"),
        far.0.path().to_owned(),
    ];
    let all = list(&folders).expect("a list");
    let names: Vec<_> = all
        .iter()
        .map(|found| (found.name.as_str(), found.hides.len()))
        .collect();
    assert_eq!(names, [("other", 0), ("team", 1)]);
    assert!(all[1].path.starts_with(near.0.path()) && all[1].hides[0].starts_with(far.0.path()));
}

#[test]
fn relative_folders_of_the_variable_are_left_out() {
    use ops_ui::{Globals, Source};
    let env: ops_ui::Env = [("HOME", "/home/me")].into_iter().collect();
    let paths = ops_ui::Paths::from_env(&env);
    let mut globals = Globals {
        profiles_dir: Some("profiles:/srv/profiles::.".into()),
        ..Globals::default()
    };
    globals
        .sources
        .insert("profiles_dir", Source::Variable("OPS_PROFILES_DIR".into()));
    let show = |globals: &Globals| -> Vec<String> {
        folders(globals, &paths)
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    };
    assert_eq!(
        show(&globals),
        [
            "/srv/profiles",
            "/home/me/.config/ops/profiles",
            "/etc/ops/profiles"
        ]
    );
    globals
        .sources
        .insert("profiles_dir", Source::Flag("--profiles-dir".into()));
    assert_eq!(show(&globals)[..2], ["profiles", "/srv/profiles"]);
}

#[test]
fn an_alias_is_shown_as_it_is_written_and_means_the_same_when_it_is_read() {
    for text in [
        "exec -it $1 -- top",
        "logs 'web-*' $@",
        "cp $1:/var/log/syslog 'a b'",
        "exec '$1 $2' '$' ''",
    ] {
        let words: crate::values::Words = text.parse().expect("words");
        assert_eq!(words.to_string(), text);
    }
}
