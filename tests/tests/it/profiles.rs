//! What a team profile says about verbs.

use ops_tests::Lab;

#[test]
fn an_alias_is_another_line_of_ops() {
    let lab = Lab::new();
    lab.profile(
        "team",
        "aliases: { v: 'version -o json', loop: 'loop2', loop2: 'loop' }\n",
    );
    let done = lab.ops(["-p", "team", "v"]).output().success();
    assert_eq!(done.json()["version"], env!("CARGO_PKG_VERSION"));
    // The profile may come after it.
    lab.ops(["v", "-p", "team"]).output().success();
    lab.ops(["v"]).output().exits(2);
    let help = lab.ops(["-p", "team", "-h"]).output().success().stdout;
    assert!(help.contains("ops version -o json"), "{help}");
}

#[test]
fn what_a_profile_denies_or_leaves_out_is_refused_built_in_or_not() {
    let lab = Lab::new();
    lab.profile("deny", "guard: { deny: [sh, mine] }\n");
    lab.profile("only", "commands: { enable: [ls] }\n");
    lab.profile("less", "commands: { disable: [shell] }\n");
    let path = format!("{}:/usr/bin:/bin", lab.home().join("bin").display());
    lab.write_program("bin/ops-mine", "#!/bin/sh\necho mine\n");
    let lab = lab.env("PATH", path);
    for (profile, verb) in [
        ("deny", "shell"),
        ("deny", "mine"),
        ("only", "shell"),
        ("only", "mine"),
        ("less", "sh"),
    ] {
        let done = lab
            .ops(["-p", profile, "--sandbox", verb, "web-1"])
            .output()
            .exits(9);
        assert!(
            done.stderr
                .contains(&format!("the profile `{profile}` does not allow")),
            "{done}"
        );
    }
    lab.ops(["-p", "deny", "plugin", "run", "mine"])
        .output()
        .exits(9);
    lab.ops(["-p", "less", "mine"]).output().success();
    // What shows why is always there.
    lab.ops(["-p", "only", "config", "show"]).output().success();
}

#[test]
fn a_slip_in_a_profile_is_shown_with_its_place() {
    let lab = Lab::new();
    lab.profile("team", "guard:\n  protct: true\n");
    let done = lab.ops(["-p", "team", "ls"]).output().exits(2);
    assert!(
        done.stderr.contains("team.yaml")
            && done.stderr.contains("protct")
            && done.stderr.contains("protect"),
        "{done}"
    );
    let done = lab.ops(["-p", "tema", "ls"]).output().exits(2);
    assert!(done.stderr.contains("did you mean `team`"), "{done}");
    // These show what is wrong: they must work.
    lab.ops(["-p", "team", "version"]).output().success();
    lab.ops(["config", "validate", "team"]).output().exits(2);
}

#[test]
fn what_the_selection_leaves_out_is_named_with_its_id_and_never_proposed_again() {
    let lab = Lab::with_sandbox();
    lab.profile("base", "select: { tags: { Team: platform } }\n");
    let done = lab.ops(["-p", "base", "shell", "web-1"]).output().exits(3);
    assert!(
        done.stderr
            .contains("its id reaches it all the same: i-0a1b2c3d4e5f60718"),
        "{done}"
    );
    assert!(!done.stderr.contains("did you mean"), "{done}");
    let done = lab
        .ops(["-p", "base", "shell", "bastoin"])
        .output()
        .exits(3);
    assert!(done.stderr.contains("did you mean `bastion`?"), "{done}");
}

#[test]
fn arguments_of_an_alias_go_where_its_numbers_stand() {
    let lab = Lab::with_sandbox();
    lab.profile(
        "team",
        "aliases:\n  say: exec $1 -- echo one=$1 all $@\n  at: exec $1 -- echo\n  own: exec $1 --shell 'set -- of-sh; echo $$1 $HOME'\n",
    );
    let run = |line: &[&str]| lab.ops(["-p", "team"].iter().chain(line)).output();
    let said = |line: &[&str]| run(line).success().stdout;
    assert_eq!(
        said(&["say", "web-1", "two three"]),
        "one=web-1 all web-1 two three\n"
    );
    assert_eq!(said(&["at", "web-1", "a  b", "-v"]), "a  b\n");
    // An option of ops is none of the arguments, wherever it stands; behind two dashes it is one.
    assert_eq!(said(&["at", "--region", "eu-west-1", "web-1", "a"]), "a\n");
    assert_eq!(said(&["at", "web-1", "--", "--region"]), "-- --region\n");
    // What the shell on the server reads stays.
    let own = said(&["own", "web-1"]);
    assert!(own.starts_with("of-sh ~/"), "{own}");
    let lacking = run(&["at"]).exits(2);
    for part in ["the alias `at` takes 1 argument", "exec $1 -- echo"] {
        assert!(lacking.stderr.contains(part), "{lacking}");
    }
    let help = lab.ops(["-p", "team", "-h"]).output().success().stdout;
    assert!(help.contains("at   ops exec $1 -- echo\n"), "{help}");
}
