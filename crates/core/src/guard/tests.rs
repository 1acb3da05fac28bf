//! The guard without a terminal: what passes, what is refused, and which flag is named.

use ops_profile::{InstanceState, Kind, Ping, Verb, Verbs};

use super::*;

use ops_ui::{Env, Globals};

const VERBS: Verbs = Verbs::new(&[
    verb("ls", &["list"]),
    verb("shell", &["sh"]),
    verb("ssh", &[]),
    Verb {
        ruled_as: Some("ssh"),
        ..verb("ssh-proxy", &[])
    },
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

fn instance(name: &str) -> Instance {
    Instance {
        id: format!("i-{name:0>17}").replace(|c: char| !c.is_ascii_hexdigit() && c != '-', "0"),
        name: Some(name.to_owned()),
        kind: Kind::Ec2,
        state: InstanceState::Running,
        ping: Ping::Online,
        region: "eu-west-1".to_owned(),
        zone: None,
        instance_type: None,
        private_ip: None,
        private_dns: None,
        public_ip: None,
        vpc: None,
        platform: None,
        agent_version: None,
        image: None,
        launched: None,
        tags: std::collections::BTreeMap::new(),
    }
}

struct Case {
    _home: tempfile::TempDir,
    cx: Context,
}

impl Case {
    fn new(profile: &str) -> Self {
        Self::with(profile, |_| {})
    }

    fn with(profile: &str, change: impl FnOnce(&mut Globals)) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join(".config/ops/profiles");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("prod.yaml"), profile).expect("a file");
        let env: Env = [("HOME", home.path())].into_iter().collect();
        let mut globals = Globals {
            profile: Some("prod".to_owned()),
            no_input: true,
            ..Globals::default()
        };
        change(&mut globals);
        Self {
            cx: Context::new(globals, env, VERBS),
            _home: home,
        }
    }

    /// `ok`, or the refusal in one line.
    async fn guard(&self, verb: &str, count: usize, reason: Option<&str>) -> String {
        let instances: Vec<_> = (1..=count).map(|n| instance(&format!("web-{n}"))).collect();
        match self.cx.guard(verb, &instances, reason).await {
            Ok(()) => "ok".to_owned(),
            Err(error) => {
                assert_eq!(error.kind().exit().code(), 9, "{error:?}");
                format!(
                    "{} | {} | {}",
                    error.what(),
                    error.why().join("; "),
                    error.hints().join("; ")
                )
            }
        }
    }
}

#[tokio::test]
async fn an_empty_profile_refuses_nothing() {
    assert_eq!(Case::new("").guard("shell", 100, None).await, "ok");
}

#[tokio::test]
async fn a_denied_verb_is_refused_and_others_are_not() {
    let case = Case::new("guard: {deny: [cp, exec]}\n");
    insta::assert_snapshot!(case.guard("cp", 1, None).await, @"profile `prod` refuses `cp` | `guard.deny` of the profile names `cp` | see who says so: ops config show | grep guard.deny");
    assert_eq!(case.guard("shell", 1, None).await, "ok");
}

#[tokio::test]
async fn another_spelling_of_a_denied_verb_is_denied_too() {
    let case = Case::new("guard: {deny: [sh, ssh]}\n");
    for verb in ["shell", "ssh", "ssh-proxy"] {
        assert!(
            case.guard(verb, 1, None).await.contains("guard.deny"),
            "{verb}"
        );
    }
    let case = Case::new("commands: {enable: [ssh]}\n");
    assert_eq!(case.guard("ssh-proxy", 1, None).await, "ok");
}

#[tokio::test]
async fn commands_enable_leaves_the_rest_out() {
    let case = Case::new("commands: {enable: [ls, shell], disable: [shell]}\n");
    assert_eq!(case.guard("ls", 1, None).await, "ok");
    insta::assert_snapshot!(case.guard("shell", 1, None).await, @"profile `prod` refuses `shell` | `commands.disable` of the profile leaves it out | see who says so: ops config show | grep commands.disable");
    assert!(
        case.guard("forward", 1, None)
            .await
            .starts_with("profile `prod` refuses")
    );
    assert_eq!(case.guard("config", 1, None).await, "ok");
}

#[tokio::test]
async fn more_targets_than_allowed_are_refused() {
    let case = Case::new("guard: {max_targets: 2}\n");
    assert_eq!(case.guard("exec", 2, None).await, "ok");
    insta::assert_snapshot!(case.guard("exec", 3, None).await, @"profile `prod` refuses `exec` | 3 servers, and `guard.max_targets` of the profile allows 2 | name fewer servers, or ask who keeps the profile");
}

#[tokio::test]
async fn a_reason_is_demanded_and_has_to_fit() {
    let case = Case::new("session: {reason: required, reason_pattern: \"^(INC|CHG)-[0-9]+\"}\n");
    insta::assert_snapshot!(case.guard("shell", 1, None).await, @"profile `prod` refuses `shell` | `session.reason` of the profile demands a reason that matches `^(INC|CHG)-[0-9]+` | give one: --reason TEXT");
    insta::assert_snapshot!(case.guard("shell", 1, Some("because")).await, @"profile `prod` refuses `shell` | `because` does not match `^(INC|CHG)-[0-9]+` | give one: --reason TEXT");
    assert!(
        case.guard("shell", 1, Some("   "))
            .await
            .contains("demands a reason")
    );
    assert_eq!(
        case.guard("shell", 1, Some("INC-4711 disk full")).await,
        "ok"
    );
    let long = format!("INC-1 {}", "x".repeat(256));
    assert!(
        case.guard("shell", 1, Some(&long))
            .await
            .contains("at most 256")
    );
}

#[tokio::test]
async fn without_a_terminal_a_question_is_a_refusal_that_names_the_flag() {
    for profile in [
        "guard: {confirm: yes}\n",
        "guard: {protect: true}\n",
        "guard: {confirm: type-name}\n",
    ] {
        let refused = Case::new(profile).guard("shell", 1, None).await;
        assert!(
            refused.contains("shell on `web-1`") && refused.ends_with("--yes"),
            "{refused}"
        );
        let answered = Case::with(profile, |globals| globals.yes = true);
        assert_eq!(answered.guard("shell", 1, None).await, "ok");
    }
    // Yes answers a question; it does not lift a ban.
    let banned = Case::with("guard: {deny: shell}\n", |globals| globals.yes = true);
    assert!(banned.guard("shell", 1, None).await.contains("guard.deny"));
}

#[tokio::test]
async fn a_forgotten_guard_is_made_up_for_when_a_session_opens() {
    let case = Case::new("guard: {confirm: yes}\n");
    let web = instance("web-1");
    assert!(case.cx.ensure_guarded(&web, None).await.is_err());
    let case = Case::with(
        "guard: {confirm: yes}\nsession: {reason: required}\n",
        |globals| globals.yes = true,
    );
    case.cx
        .guard("shell", std::slice::from_ref(&web), Some("x"))
        .await
        .expect("passes");
    case.cx
        .ensure_guarded(&web, Some("x"))
        .await
        .expect("is cleared");
    // Cleared for the question, not for a session without a reason.
    assert!(case.cx.ensure_guarded(&web, None).await.is_err());
}

#[tokio::test]
async fn a_session_of_an_enabled_command_opens() {
    let case = Case::new("commands: {enable: [forward]}\n");
    case.cx
        .ensure_guarded(&instance("web-1"), None)
        .await
        .expect("the verb was checked before");
}

#[test]
fn a_long_command_is_cut_with_a_mark() {
    let line = |length: usize| {
        let word = "x".repeat(length);
        let (label, text) = words_line("command:", &Hint::command(["echo", &word]));
        assert_eq!(label, "command:");
        text.to_string()
    };
    assert_eq!(line(395).chars().count(), 400);
    let cut = line(100_000);
    assert!(cut.chars().count() < SHOWN_COLUMNS + 100, "{cut}");
    assert!(
        cut.ends_with("xx… (cut here: it has 100005 characters)"),
        "{cut}"
    );
}

#[test]
fn servers_that_are_called_alike_are_confirmed_with_their_ids() {
    let named = |id: &str, name: &str| Instance {
        name: (!name.is_empty()).then(|| name.to_owned()),
        ..Instance::bare(id, "eu-west-1")
    };
    let instances = [
        named("i-00000001", "web-1"),
        named("i-00000002", "twin"),
        named("i-00000003", "twin"),
        named("i-00000004", "web-2, web-3"),
        named("i-00000005", ""),
    ];
    assert_eq!(
        names_to_confirm(&instances),
        [
            "web-1",
            "twin (i-00000002)",
            "twin (i-00000003)",
            "web-2, web-3 (i-00000004)",
            "i-00000005",
        ]
    );
}
