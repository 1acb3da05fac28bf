//! What settings come out of files, variables and flags, each test in a home of its own.

use std::path::Path;

use super::*;
use ops_ui::Env;

use crate::tests::VERBS;

/// A home folder and an environment, both empty at first.
struct Home {
    folder: tempfile::TempDir,
    env: Env,
    globals: Globals,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let env = [("HOME", folder.path())].into_iter().collect();
        Self {
            folder,
            env,
            globals: Globals::default(),
        }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
        self
    }

    fn profile(self, name: &str, text: &str) -> Self {
        self.file(&format!(".config/ops/profiles/{name}.yaml"), text)
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.env.set(name, value);
        self
    }

    fn flags(mut self, change: impl FnOnce(&mut Globals)) -> Self {
        change(&mut self.globals);
        self
    }

    fn invocation(&self) -> Invocation {
        Invocation::new(self.globals.clone(), self.env.clone())
    }

    fn settings(&self) -> Result<Settings> {
        Settings::load(&self.invocation(), VERBS)
    }

    fn named(self, name: &str) -> Self {
        let name = name.to_owned();
        self.flags(|globals| globals.profile = Some(name))
    }

    /// What the user reads, with the home folder as `~`.
    fn refusal(&self) -> String {
        let error = self.settings().expect_err("an error");
        assert_eq!(error.kind(), ops_ui::ErrorKind::Usage);
        self.show(&error)
    }

    fn show(&self, error: &Error) -> String {
        let mut text = format!("error: {}", error.what());
        for why in error.why() {
            text.push_str(&format!("\nwhy: {why}"));
        }
        for hint in error.hints() {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text.replace(&self.path().display().to_string(), "~")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn rows(&self) -> Vec<String> {
        show(&self.invocation(), &self.settings().expect("settings"))
            .expect("settings")
            .into_iter()
            .filter(|row| row.source != "default")
            .map(|row| {
                format!("{} = {} ({})", row.name, row.value, row.source)
                    .replace(&self.path().display().to_string(), "~")
            })
            .collect()
    }
}

const STAGING: &str = "\
extends: base
aws: { profile: payments-staging, region: eu-west-1, account: \"111122223333\" }
select: { tags: { Team: payments, Env: staging } }
ssh: { user: ubuntu, auth: instance-connect }
";
const BASE: &str = "\
ssh:
  host_keys: ssm
session:
  escape: none
guard: { confirm: yes, max_targets: 20 }
";

#[test]
fn no_file_at_all_is_a_complete_configuration() {
    let home = Home::new();
    let settings = home.settings().expect("settings");
    assert_eq!(settings.output.value, Format::Table);
    assert_eq!(settings.region.value, None);
    assert_eq!(settings.profile(), &Profile::default());
    assert!(home.rows().is_empty(), "{:?}", home.rows());
}

#[test]
fn each_value_says_where_it_came_from() {
    let home = Home::new()
        .profile("base", BASE)
        .profile("stg", STAGING)
        .file(
            ".config/ops/config.yaml",
            "profile: stg\noutput: json\nssh:\n  user: me\n  port: 2222\n",
        )
        .variable("AWS_REGION", "us-east-1")
        .flags(|globals| {
            globals.color = Some(ColorChoice::Never);
            globals
                .sources
                .insert("color", Source::Variable("OPS_COLOR".into()));
        });
    insta::assert_snapshot!(home.rows().join("\n"), @r#"
    profile = "stg" (user configuration ~/.config/ops/config.yaml:1)
    aws-profile = "payments-staging" (team profile ~/.config/ops/profiles/stg.yaml:2)
    region = "eu-west-1" (team profile ~/.config/ops/profiles/stg.yaml:2)
    regions = ["eu-west-1"] (team profile ~/.config/ops/profiles/stg.yaml:2)
    output = "json" (user configuration ~/.config/ops/config.yaml:2)
    color = "never" (environment OPS_COLOR)
    session.escape = "none" (team profile ~/.config/ops/profiles/base.yaml:4)
    guard.confirm = "yes" (team profile ~/.config/ops/profiles/base.yaml:5)
    guard.max_targets = 20 (team profile ~/.config/ops/profiles/base.yaml:5)
    aws.account = "111122223333" (team profile ~/.config/ops/profiles/stg.yaml:2)
    select.tags.Team = "payments" (team profile ~/.config/ops/profiles/stg.yaml:3)
    select.tags.Env = "staging" (team profile ~/.config/ops/profiles/stg.yaml:3)
    ssh.port = 2222 (user configuration ~/.config/ops/config.yaml:5)
    ssh.host_keys = "ssm" (team profile ~/.config/ops/profiles/base.yaml:2)
    ssh.user = "ubuntu" (team profile ~/.config/ops/profiles/stg.yaml:4)
    ssh.auth = "instance-connect" (team profile ~/.config/ops/profiles/stg.yaml:4)
    "#);
}

#[test]
fn flag_beats_variable_beats_profile_beats_aws_beats_own_default() {
    let region = |home: &Home| {
        let region = &home.settings().expect("settings").region;
        (
            region.value.clone().unwrap_or_default(),
            region
                .origin
                .to_string()
                .replace(&home.path().display().to_string(), "~"),
        )
    };
    let home = Home::new().file(".config/ops/config.yaml", "region: eu-south-1\n");
    assert_eq!(
        region(&home),
        (
            "eu-south-1".into(),
            "user configuration ~/.config/ops/config.yaml:1".into()
        )
    );
    let home = home.file(
        ".aws/config",
        "[default]\nregion = eu-north-1\n[profile dev]\nregion=sa-east-1\n",
    );
    assert_eq!(
        region(&home),
        (
            "eu-north-1".into(),
            "AWS configuration ~/.aws/config:2 [default]".into()
        )
    );
    let home = home.variable("AWS_REGION", "us-east-1");
    assert_eq!(
        region(&home),
        ("us-east-1".into(), "environment AWS_REGION".into())
    );
    let dev = home.named("dev");
    assert_eq!(
        region(&dev),
        (
            "sa-east-1".into(),
            "AWS configuration ~/.aws/config:4 [dev]".into()
        )
    );
    let home = dev.profile("dev", "aws: {region: eu-west-3}\n");
    assert_eq!(
        region(&home),
        (
            "eu-west-3".into(),
            "team profile ~/.config/ops/profiles/dev.yaml:1".into()
        )
    );
    let home = home.flags(|globals| {
        globals.region = vec!["ap-south-1".into()];
        globals
            .sources
            .insert("region", Source::Variable("OPS_REGION".into()));
    });
    assert_eq!(
        region(&home),
        ("ap-south-1".into(), "environment OPS_REGION".into())
    );
}

#[test]
fn a_name_is_a_team_profile_then_an_aws_profile_then_an_error_with_both_kinds() {
    let home = Home::new()
        .profile("payments", "description: x\n")
        .file(".aws/config", "[profile legacy]\n[default]\n")
        .file(".aws/credentials", "[payments]\n");
    let settings = |name: &str| {
        let mut globals = home.globals.clone();
        globals.profile = Some(name.to_owned());
        let settings = Settings::load(&Invocation::new(globals, home.env.clone()), VERBS);
        settings.map(|s| (s.profile.value, s.aws_profile.value))
    };
    assert_eq!(
        settings("payments").expect("team"),
        (Some("payments".into()), None)
    );
    assert_eq!(
        settings("legacy").expect("aws"),
        (None, Some("legacy".into()))
    );
    let home = home.named("paymets");
    insta::assert_snapshot!(home.refusal(), @r"
    error: there is no profile `paymets`
    why: it was asked for by flag --profile
    why: team profiles: `payments`
    why: AWS profiles: `default`, `legacy`, `payments`
    hint: did you mean `payments`? see them all: ops config profiles
    ");
    let home = home.named("../../etc/passwd");
    assert!(home.refusal().starts_with("error: there is no profile"));
}

/// The profiles that come with the source.
fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../profiles")
}

#[test]
fn every_profile_in_the_repository_loads() {
    let all = crate::list(&[examples()]).expect("a folder");
    let names: Vec<_> = all.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "base",
            "platform-production",
            "platform-staging",
            "web-production",
            "web-staging"
        ]
    );
    for found in &all {
        let loaded =
            Loaded::load(found, &all, None, VERBS).unwrap_or_else(|error| panic!("{error:?}"));
        let production = found.name.ends_with("production");
        assert_eq!(
            loaded.profile.guard.confirmation() > crate::Confirm::None,
            production,
            "{}",
            found.name
        );
    }
}

#[test]
fn production_is_staging_with_other_tags_and_a_guard() {
    let all = crate::list(&[examples()]).expect("a folder");
    let load = |name: &str| {
        let found = all.iter().find(|found| found.name == name).expect(name);
        Loaded::load(found, &all, None, VERBS).expect(name).profile
    };
    let web = load("web-production");
    assert_eq!(web.select.tags["Team"][0].as_str(), "web");
    assert_eq!(web.select.tags["Env"][0].as_str(), "production");
    assert_eq!(web.forwards.keys().collect::<Vec<_>>(), ["site"]);
    assert_eq!(web.guard.max_targets, Some(5));
    assert_eq!(web.ssh.host_prefix, None);
    assert!(web.session.check_reason(None).is_err());
    assert!(web.session.check_reason(Some("CHG-1 deploy")).is_ok());
    let platform = load("platform-production");
    assert!(platform.guard.check_verb("cp", VERBS).is_err());
    assert!(platform.commands.check_verb("console", VERBS).is_err());
    assert_eq!(platform.select.exclude_tags["Role"].len(), 1);
}

/// The paths of all keys in a schema, `*` for the names that a team chooses.
fn keys(schema: &serde_json::Value) -> Vec<String> {
    fn walk(
        node: &serde_json::Value,
        root: &serde_json::Value,
        path: &str,
        found: &mut Vec<String>,
    ) {
        if let Some(name) = node.get("$ref").and_then(|name| name.as_str()) {
            let target = root.pointer(name.trim_start_matches('#')).expect(name);
            return walk(target, root, path, found);
        }
        for branch in node
            .get("anyOf")
            .and_then(|list| list.as_array())
            .into_iter()
            .flatten()
        {
            walk(branch, root, path, found);
        }
        let join = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        for (key, child) in node
            .get("properties")
            .and_then(|map| map.as_object())
            .into_iter()
            .flatten()
        {
            let path = join(key);
            found.push(path.clone());
            // These two are written out once, at the top.
            let known = path.starts_with("hosts.") && (key == "ssh" || key == "shell");
            if !known && path != "ssh.options" {
                walk(child, root, &path, found);
            }
        }
        if let Some(child) = node
            .get("additionalProperties")
            .filter(|child| child.is_object())
        {
            walk(child, root, &join("*"), found);
        }
    }
    let mut found = Vec::new();
    walk(schema, schema, "", &mut found);
    found
}

#[test]
fn the_readme_explains_every_key_of_the_schema_and_no_other() {
    let readme = std::fs::read_to_string(examples().join("README.md")).expect("a README");
    let explained: std::collections::BTreeSet<String> = readme
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .filter(|key| !key.starts_with('$') && !key.starts_with('-'))
        .collect();
    let sections = [
        "aws", "select", "names", "ssh", "shell", "session", "copy", "exec", "guard", "output",
        "commands",
    ];
    let expected: std::collections::BTreeSet<String> = keys(&schema())
        .into_iter()
        .filter(|key| !sections.contains(&key.as_str()))
        .collect();
    assert!(expected.len() > 60, "{expected:?}");
    let missing: Vec<_> = expected.difference(&explained).collect();
    let stray: Vec<_> = explained
        .difference(&expected)
        .filter(|key| !key.contains('/'))
        .collect();
    assert!(
        missing.is_empty() && stray.is_empty(),
        "missing {missing:?}, stray {stray:?}"
    );
}

#[test]
fn the_configuration_in_the_readme_is_valid() {
    let readme = std::fs::read_to_string(examples().join("README.md")).expect("a README");
    let text = readme
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("an example");
    let home = Home::new()
        .file(".config/ops/config.yaml", text)
        .profile("web-staging", "");
    home.settings().expect("settings");
    // Nothing in it is left out of the example.
    for key in keys(&user_schema()).iter().filter(|key| !key.contains('.')) {
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
}

#[test]
fn the_schema_denies_unknown_keys_as_ops_does() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    for name in ["Aws", "Guard", "Ssh", "Forward", "Host", "Select"] {
        assert_eq!(
            schema["$defs"][name]["additionalProperties"], false,
            "{name}"
        );
    }
    assert!(
        schema["properties"]["guard"]["description"]
            .as_str()
            .expect("text")
            .contains("stricter")
    );
}

#[test]
fn a_list_of_profiles_shows_the_broken_one_and_what_is_hidden() {
    let home = Home::new()
        .profile("good", "description: fine\naws: {region: eu-west-1}\n")
        .profile("bad", "gaurd: {}\n")
        .file("other/good.yaml", "description: other\n")
        .file(
            ".aws/config",
            "[profile good]\n[profile plain]\nregion = us-east-1\n",
        );
    let other = home.path().join("other");
    let home = home
        .flags(|globals| globals.profiles_dir = Some(other.into()))
        .named("good");
    let rows = profiles(&home.invocation(), VERBS, home.settings().ok().as_ref()).expect("rows");
    let text: Vec<_> = rows
        .iter()
        .map(|row| {
            format!(
                "{:?} {} {:?} active={} hides={} hidden={} {:?}",
                row.kind,
                row.name,
                row.description,
                row.active,
                row.hides.len(),
                row.hidden_by.is_some(),
                row.problem
            )
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    Team bad None active=false hides=0 hidden=false Some("line 1, column 1: unknown key `gaurd`")
    Team good Some("other") active=true hides=1 hidden=false None
    Aws good None active=false hides=0 hidden=true None
    Aws plain None active=false hides=0 hidden=false None
    "#);
}

#[test]
fn validate_names_each_file_and_takes_files_too() {
    let home = Home::new()
        .profile("good", "extends: base\n")
        .profile("base", "")
        .file(".config/ops/config.yaml", "colour: red\n")
        .file("elsewhere/new.yaml", "extends: near\nssh: {port: x}\n")
        .file("elsewhere/near.yaml", "");
    let invocation = home.invocation();
    let all = validate(&invocation, VERBS, &[], &|_| false).expect("results");
    let found: Vec<_> = all
        .iter()
        .map(|check| (check.name.as_str(), check.problems.is_empty()))
        .collect();
    assert_eq!(
        found,
        [("config.yaml", false), ("base", true), ("good", true)]
    );
    let file = home.path().join("elsewhere/new.yaml").display().to_string();
    let one = validate(&invocation, VERBS, &[file], &|_| false).expect("a result");
    assert!(
        home.show(one[0].problems.first().expect("a problem"))
            .contains("line 2, column 13")
    );
    let error =
        validate(&invocation, VERBS, &["god".to_owned()], &|_| false).expect_err("no such profile");
    assert_eq!(error.hints(), ["did you mean `good`?"]);
}

#[test]
fn validate_tells_of_aliases_that_lead_in_a_circle() {
    let home = Home::new().profile(
        "many",
        "aliases:\n  a: b\n  b: a\n  c: nosuch x\n  d: mine\n  e: ls -o wide\n",
    );
    let all = validate(&home.invocation(), VERBS, &[], &|verb| verb == "mine").expect("results");
    let told: Vec<String> = all[0]
        .problems
        .iter()
        .map(|problem| {
            problem
                .why()
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        })
        .map(|why| why.lines().next().unwrap_or_default().to_owned())
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    line 2, column 3: the aliases lead in a circle: a -> b -> a
    line 4, column 3: the alias `c` means `nosuch`, which is no command
    ");
}

/// What `config validate` says of the profile `many`, a line for each mistake.
fn told_of(home: &Home, name: &str) -> Vec<String> {
    let all = validate(&home.invocation(), VERBS, &[], &|_| false).expect("results");
    let one = all
        .iter()
        .find(|one| one.name == name)
        .expect("it is there");
    let why = |problem: &Error| {
        problem
            .why()
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let lines = one.problems.iter().map(why);
    lines
        .map(|why| why.lines().next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn validate_tells_of_every_mistake_and_of_none_that_another_one_makes() {
    let home = Home::new()
        .profile("base", "aws: { regoin: eu-west-1 }\nextends: nosuch\n")
        .profile(
            "many",
            "extends: base\n\
             gaurd: {}\n\
             ssh:\n  port: 0\n  prot: 22\n\
             hosts:\n  a: { target: 5 }\n  b: { pick: some }\n\
             forwards:\n  db: { to: x y }\n\
             aliases:\n  x: y\n  y: x\n  ls: describe\n  z: nosuch\n",
        )
        .file(
            ".config/ops/config.yaml",
            "colour: red\noutput: tabel\nssh: { port: 0, nosuch: 1 }\n",
        );
    insta::assert_snapshot!(told_of(&home, "many").join("\n"), @r"
    line 2, column 1: unknown key `gaurd`
    line 5, column 3: unknown key `prot`
    line 7, column 16: expected text, found the number `5`
    line 8, column 14: expected one of only, newest, oldest, any, found the text `some`
    line 10, column 13: `x y` is no destination; write PORT or HOST:PORT, ports from 1 to 65535
    line 1, column 8: unknown key `regoin`
    line 2, column 10: there is no profile `nosuch` to extend
    line 4, column 9: `ssh.port` is at least 1
    line 14, column 3: the alias `ls` would hide the verb `ls`
    line 12, column 3: the aliases lead in a circle: x -> y -> x
    line 15, column 3: the alias `z` means `nosuch`, which is no command
    ");
    insta::assert_snapshot!(told_of(&home, "config.yaml").join("\n"), @r"
    line 1, column 1: unknown key `colour`
    line 2, column 9: expected one of table, wide, json, yaml, name, jsonl, csv, found the text `tabel`
    line 3, column 17: unknown key `nosuch`
    line 3, column 14: `ssh.port` is at least 1
    ");
}

#[test]
fn an_invalid_own_configuration_is_an_error_of_its_own() {
    let home = Home::new().file(".config/ops/config.yaml", "profile: x\ncolor: purple\n");
    insta::assert_snapshot!(home.refusal(), @"
    error: `~/.config/ops/config.yaml` is not a configuration file that can be used
    why: line 2, column 8: expected one of auto, always, never, found the text `purple`
          --> ~/.config/ops/config.yaml:2:8
        2 | color: purple
          |        ^^^^^^
    ");
}

#[test]
fn a_profile_named_by_the_own_configuration_and_missing_says_who_named_it() {
    let home = Home::new().file(".config/ops/config.yaml", "# mine\nprofile: gone\n");
    insta::assert_snapshot!(home.refusal(), @"
    error: there is no profile `gone`
    why: it was asked for by user configuration ~/.config/ops/config.yaml:2
    why: team profiles: none
    why: AWS profiles: none
    hint: see where profiles are looked for: ops config path
    ");
}

#[test]
fn own_ssh_settings_lie_under_those_of_the_team() {
    let home = Home::new()
        .file(".config/ops/config.yaml", "ssh: {user: me, port: 2222}\n")
        .profile("team", "ssh: {user: deploy}\n");
    let ssh = |home: &Home| {
        let settings = home.settings().expect("settings");
        let ssh = &settings.profile().ssh;
        (
            ssh.user.as_ref().map(|user| user.as_str().to_owned()),
            ssh.port,
        )
    };
    assert_eq!(ssh(&home), (Some("me".into()), Some(2222)));
    assert_eq!(
        ssh(&home.named("team")),
        (Some("deploy".into()), Some(2222))
    );
}

#[test]
fn the_working_directory_holds_no_profiles() {
    // A test's working directory is its crate; a profile there would be found as `./src/…` if
    // anything looked.
    let home = Home::new();
    for folder in crate::folders(&home.globals, &home.invocation().paths) {
        assert!(folder.is_absolute(), "{}", folder.display());
    }
}

#[test]
fn no_key_is_without_a_reader() {
    let home = Home::new()
        .profile(
            "payments",
            "aws: {endpoints: {kms: \"https://kms.example\"}}\nexec: {parallel: 3, fleet_threshold: 9}\n",
        )
        .named("payments");
    let settings = home.settings().expect("settings");
    // Every key has its reader by now.
    assert_eq!(settings.keys_without_effect().count(), 0);
}
