//! Profiles that extend others: what is merged, and chains that lead nowhere.

use super::*;

#[test]
fn a_circle_of_extends_names_its_chain() {
    let folder = Folder::new(&[
        ("a", "extends: b\n"),
        ("b", "extends: [plain, c]\n"),
        ("c", "description: c\nextends: a\n"),
        ("plain", ""),
    ]);
    insta::assert_snapshot!(folder.refusal("a"), @"
    error: `c.yaml` is not a team profile that can be used
      why: line 2, column 10: `extends` leads in a circle: a -> b -> c -> a
          --> c.yaml:2:10
        2 | extends: a
          |          ^
      hint: remove `a` from one of them
    ");
    insta::assert_snapshot!(Folder::new(&[("me", "extends: me\n")]).refusal("me"), @"
    error: `me.yaml` is not a team profile that can be used
      why: line 1, column 10: `extends` leads in a circle: me -> me
          --> me.yaml:1:10
        1 | extends: me
          |          ^^
      hint: remove `me` from one of them
    ");
}

#[test]
fn what_is_extended_has_to_be_there() {
    let folder = Folder::new(&[("x", "extends: bse\n"), ("base", "")]);
    insta::assert_snapshot!(folder.refusal("x"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 1, column 10: there is no profile `bse` to extend
          --> x.yaml:1:10
        1 | extends: bse
          |          ^^^
      hint: did you mean `base`?
    ");
}

#[test]
fn an_error_in_what_is_extended_points_at_that_file_even_when_it_is_overridden() {
    let folder = Folder::new(&[
        ("x", "extends: base\nssh: {port: 22}\n"),
        ("base", "# shared\nssh: {port: high}\n"),
    ]);
    insta::assert_snapshot!(folder.refusal("x"), @"
    error: `base.yaml` is not a team profile that can be used
      why: line 2, column 13: expected a whole number, found the text `high`
          --> base.yaml:2:13
        2 | ssh: {port: high}
          |             ^^^^
    ");
}

#[test]
fn the_example_of_two_profiles_merges_as_described() {
    let folder = Folder::new(&[
        ("base", "names: {strip_prefix: pay-}\nguard: {max_targets: 20, deny: [cp]}\nselect: {exclude_tags: {Role: ci}}\n"),
        ("payments-staging", "
description: Payments, staging
extends: base
aws: { profile: payments-staging, region: eu-west-1, account: \"111122223333\" }
select: { tags: { Team: payments, Env: staging } }
hosts:
  bastion: { tags: { role: bastion }, pick: newest }
forwards:
  db:    { via: bastion, listen: 3307, to: \"db.stg.pay.internal:3306\", group: dev }
  redis: { via: bastion, listen: 6380, to: \"redis.stg.pay.internal:6379\", group: dev }
"),
        ("payments-prod", "
extends: payments-staging
aws: { profile: payments-prod, account: \"444455556666\", role_arn: \"arn:aws:iam::444455556666:role/oncall\" }
select: { tags: { Env: production } }
session: { reason: required, reason_pattern: \"^(INC|CHG)-[0-9]+\" }
guard: { protect: true, confirm: type-name, max_targets: 50, deny: [exec], color: red }
forwards:
  db: { via: bastion, listen: 3308, to: \"db.prod.pay.internal:3306\" }
  redis: null
"),
    ]);
    let loaded = folder.load("payments-prod").expect("a profile");
    let names: Vec<_> = loaded
        .files
        .iter()
        .filter_map(|file| file.file_stem()?.to_str())
        .collect();
    assert_eq!(names, ["base", "payments-staging", "payments-prod"]);
    let profile = loaded.profile;
    assert_eq!(
        profile.aws.region.as_ref().map(values::Region::as_str),
        Some("eu-west-1")
    );
    let tags: Vec<_> = profile
        .select
        .tags
        .iter()
        .map(|(key, globs)| (key.as_str(), globs[0].as_str()))
        .collect();
    assert_eq!(tags, [("Env", "production"), ("Team", "payments")]);
    assert!(profile.select.exclude_tags.contains_key("Role"));
    assert_eq!(profile.forwards.keys().collect::<Vec<_>>(), ["db"]);
    // A map merges by key: `group` of staging stays, as nothing removes it.
    assert_eq!(profile.forwards["db"].group.as_deref(), Some("dev"));
    assert_eq!(
        profile.forwards["db"]
            .listen
            .as_ref()
            .map(|listen| listen.port),
        Some(3308)
    );
    // The guard keeps the stricter of two values.
    assert_eq!(profile.guard.max_targets, Some(20));
    assert_eq!(*profile.guard.deny, ["cp".to_owned(), "exec".to_owned()]);
    assert_eq!(profile.guard.confirmation(), Confirm::TypeName);
}

#[test]
fn a_guard_is_never_relaxed_whatever_the_order() {
    let strict = "guard: {protect: true, confirm: type-name, max_targets: 2, deny: [cp]}\n";
    let lax = "guard: {protect: false, confirm: none, max_targets: 100, deny: []}\n";
    for (first, second, own) in [
        (strict, lax, ""),
        (lax, strict, ""),
        (strict, "", lax),
        (lax, "", strict),
        (strict, "", "guard: null\n"),
        (
            strict,
            "",
            "guard: {protect: null, confirm: null, max_targets: null, deny: null}\n",
        ),
        (
            "guard: {protect: null, confirm: null, max_targets: null, deny: null}\n",
            strict,
            "",
        ),
    ] {
        let own = format!("extends: [a, b]\n{own}");
        let folder = Folder::new(&[("a", first), ("b", second), ("x", &own)]);
        let guard = folder.load("x").expect("a profile").profile.guard;
        assert_eq!(guard.protect, Some(true), "{first}{second}{own}");
        assert_eq!(
            guard.confirm,
            Some(Confirm::TypeName),
            "{first}{second}{own}"
        );
        assert_eq!(guard.max_targets, Some(2), "{first}{second}{own}");
        assert_eq!(*guard.deny, ["cp".to_owned()], "{first}{second}{own}");
    }
}

#[test]
fn null_removes_what_any_profile_before_it_says() {
    let folder = Folder::new(&[
        ("a", "ssh: {user: a, port: 1}\naliases: {x: ls}\n"),
        ("b", "ssh: {user: null}\n"),
        ("x", "extends: [a, b]\naliases: null\n"),
    ]);
    let profile = folder.load("x").expect("a profile").profile;
    assert_eq!((profile.ssh.user, profile.ssh.port), (None, Some(1)));
    assert!(profile.aliases.is_empty());
}

#[test]
fn lists_replace() {
    let folder = Folder::new(&[
        ("a", "aws: {regions: [eu-west-1, eu-west-2]}\n"),
        ("x", "extends: a\naws: {regions: us-east-1}\n"),
    ]);
    assert_eq!(
        folder
            .load("x")
            .expect("a profile")
            .profile
            .aws
            .regions
            .len(),
        1
    );
}
