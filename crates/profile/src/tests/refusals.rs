//! What is refused, and the words that the user reads.

use super::*;

#[test]
fn an_unknown_key_is_shown_in_its_line_with_the_nearest_one() {
    insta::assert_snapshot!(refused("description: x\ngaurd:\n  protect: true\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 2, column 1: unknown key `gaurd`
          --> x.yaml:2:1
        2 | gaurd:
          | ^^^^^
      hint: did you mean `guard`?
    ");
}

#[test]
fn an_unknown_key_within_a_section_is_compared_with_that_section() {
    insta::assert_snapshot!(refused("ssh:\n  user: ubuntu\n  identity_fiel: ~/.ssh/id\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 3, column 3: unknown key `identity_fiel`
          --> x.yaml:3:3
        3 |   identity_fiel: ~/.ssh/id
          |   ^^^^^^^^^^^^^
      hint: did you mean `identity_file`?
    ");
}

#[test]
fn a_key_like_no_other_comes_with_all_there_are() {
    insta::assert_snapshot!(brief("names: {banana: 1}\n"), @"line 1, column 9: unknown key `banana` | the keys here are tag, strip_prefix");
}

#[test]
fn an_unknown_key_with_nothing_in_it_is_no_better() {
    insta::assert_snapshot!(brief("gaurd:\n"), @"line 1, column 1: unknown key `gaurd` | did you mean `guard`?");
}

#[test]
fn a_value_of_the_wrong_type_says_what_is_wanted() {
    insta::assert_snapshot!(refused("aws:\n  region: [eu-west-1]\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 2, column 11: expected text, found a list
          --> x.yaml:2:11
        2 |   region: [eu-west-1]
          |           ^
    ");
    insta::assert_snapshot!(brief("guard: {max_targets: many}\n"), @"line 1, column 22: expected a whole number, found the text `many`");
    insta::assert_snapshot!(brief("guard: {max_targets: -1}\n"), @"line 1, column 22: expected a whole number from 0 to 4294967295, found the number `-1`");
    insta::assert_snapshot!(brief("ssh: {port: 99999}\n"), @"line 1, column 13: expected a whole number from 0 to 65535, found the number `99999`");
    insta::assert_snapshot!(brief("ssh: {control_master: sometimes}\n"), @"line 1, column 23: expected `true` or `false`, found the text `sometimes`");
    insta::assert_snapshot!(brief("ssh: [user]\n"), @"line 1, column 6: expected a map, found a list");
    insta::assert_snapshot!(brief("select: {hybrid: 1}\n"), @"line 1, column 18: expected `true` or `false`, found a whole number (`1`)");
    insta::assert_snapshot!(brief("- a\n- b\n"), @"line 1, column 1: expected a map, found a list");
}

#[test]
fn a_word_that_is_none_of_the_choices_is_shown_them() {
    insta::assert_snapshot!(brief("guard: {confirm: typename}\n"), @"line 1, column 18: expected one of none, yes, type-name, found the text `typename` | did you mean `type-name`?");
    insta::assert_snapshot!(brief("ssh: {auth: instance_connect}\n"), @"line 1, column 13: expected one of key, agent, instance-connect, found the text `instance_connect` | did you mean `instance-connect`?");
    insta::assert_snapshot!(brief("copy: {deny_via: [s3, scp]}\n"), @"line 1, column 23: expected one of auto, session, sftp, s3, found the text `scp`");
    insta::assert_snapshot!(brief("select: {states: runing}\n"), @"line 1, column 18: expected one of pending, running, stopping, stopped, shutting-down, terminated, found the text `runing` | did you mean `running`?");
    insta::assert_snapshot!(brief("output: {format: jsn}\n"), @"line 1, column 18: expected one of table, wide, json, yaml, name, jsonl, csv, found the text `jsn` | did you mean `json`?");
}

#[test]
fn a_number_where_an_account_is_text_is_refused() {
    insta::assert_snapshot!(refused("aws: { account: 012345678901 }\n"), @r#"
    error: `x.yaml` is not a team profile that can be used
      why: line 1, column 17: expected text, found the number `012345678901`
          --> x.yaml:1:17
        1 | aws: { account: 012345678901 }
          |                 ^^^^^^^^^^^^
      hint: put it in quotes: "012345678901"
    "#);
    insta::assert_snapshot!(brief("aws: {account: \"1234\"}\n"), @"line 1, column 16: `1234` is no AWS account: an account has twelve digits");
}

#[test]
fn a_number_where_text_is_expected_is_to_be_quoted() {
    insta::assert_snapshot!(brief("select: {tags: {Version: 2}}\n"), @"line 1, column 26: expected text or a list of texts, found the number `2`");
    insta::assert_snapshot!(brief("ssh: {local_forwards: [5432]}\n"), @r#"line 1, column 24: expected text, found the number `5432` | put it in quotes: "5432""#);
    insta::assert_snapshot!(brief("ssh: {local_forwards: 1:2}\n"), @"line 1, column 23: `1:2` is no local forward; write PORT:HOST:PORT or ADDRESS:PORT:HOST:PORT");
    insta::assert_snapshot!(brief("description: 1.5\n"), @r#"line 1, column 14: expected text, found the number `1.5` | put it in quotes: "1.5""#);
}

#[test]
fn an_unquoted_no_or_on_is_no_text() {
    insta::assert_snapshot!(refused("aws:\n  profile: no\n"), @r#"
    error: `x.yaml` is not a team profile that can be used
      why: line 2, column 12: expected text, found the truth value `no`
          --> x.yaml:2:12
        2 |   profile: no
          |            ^^
      hint: put it in quotes: "no"
    "#);
    insta::assert_snapshot!(brief("select: {tags: {Backup: on}}\n"), @r#"line 1, column 25: expected text or a list of texts, found the truth value `on` | put it in quotes: "on""#);
    insta::assert_snapshot!(brief("select: {tags: {on: x}}\n"), @r#"line 1, column 17: expected a key, found the truth value `on` | put it in quotes: "on""#);
    insta::assert_snapshot!(brief("ssh: {options: {ForwardAgent: yes}}\n"), @r#"line 1, column 31: expected text in quotes, or a whole number, found the truth value `yes` | put it in quotes: "yes""#);
    insta::assert_snapshot!(brief("extends: [no]\n"), @r#"line 1, column 11: expected text, found the truth value `no` | put it in quotes: "no""#);
    // Where a truth value is meant, there is one spelling.
    insta::assert_snapshot!(brief("guard: {protect: yes}\n"), @"line 1, column 18: expected `true` or `false`, found a truth value (`yes`) | write true");
}

#[test]
fn words_that_yaml_takes_for_truth_values_stand_where_only_a_word_can() {
    let profile = loaded("guard: {confirm: yes}\nssh: {host_keys: off}\n");
    assert_eq!(profile.guard.confirm, Some(Confirm::Yes));
    assert_eq!(profile.ssh.host_keys, Some(HostKeys::Off));
}

#[test]
fn a_key_twice_is_refused() {
    insta::assert_snapshot!(refused("aws:\n  region: eu-west-1\nssh: {}\naws:\n  region: us-east-1\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 4, column 1: the key `aws` is here a second time
          --> x.yaml:4:1
        4 | aws:
          | ^^^
      hint: keep one of the two; YAML alone would drop one without a word
    ");
}

#[test]
fn a_second_document_is_refused() {
    insta::assert_snapshot!(refused("description: a\n---\ndescription: b\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 3, column 1: a second document begins here
          --> x.yaml:3:1
        3 | description: b
          | ^
      hint: one file is one document: remove the `---` or make it another file
    ");
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    insta::assert_snapshot!(refused("aws:\n\tregion: eu-west-1\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 2, column 2: tabs disallowed within this context (block indentation)
          --> x.yaml:2:2
        2 |  region: eu-west-1
          |  ^
    ");
    insta::assert_snapshot!(brief("aws: {region: \"eu-west-1\n"), @"line 1, column 15: unclosed quote");
    insta::assert_snapshot!(brief("aws: {region: eu-west-1\nssh: {}\n"), @"line 2, column 4: while parsing a flow mapping, did not find expected ',' or '}'");
    insta::assert_snapshot!(brief("aws: *nowhere\n"), @"line 1, column 6: alias references unknown anchor");
    insta::assert_snapshot!(brief("description: !include secrets.yaml\n"), @"line 1, column 23: unsupported tag `!include`");
}

#[test]
fn aliases_that_expand_without_end_are_refused() {
    let mut bomb = String::from("aliases:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for n in 1..9 {
        let list = vec![format!("*a{}", n - 1); 10].join(",");
        bomb.push_str(&format!("  a{n}: &a{n} [{list}]\n"));
    }
    assert!(
        brief(&bomb).contains("expand to too much"),
        "{}",
        brief(&bomb)
    );
    assert!(brief("aws: &a {profile: *a}\n").starts_with("line 1, column"));
    let deep = "[".repeat(10_000);
    assert!(brief(&format!("description: {deep}\n")).starts_with("line 1, column"));
}

#[test]
fn anchors_within_reason_are_fine() {
    let profile = loaded(
        "forwards:\n  db: &db {via: bastion, listen: 3307, to: \"db:3306\"}\n  copy: {<<: *db, listen: 3308}\n",
    );
    assert_eq!(
        profile.forwards["copy"].listen.as_ref().map(|l| l.port),
        Some(3308)
    );
    assert_eq!(profile.forwards["copy"].to, profile.forwards["db"].to);
}

#[test]
fn a_file_larger_than_a_mebibyte_is_not_read() {
    let text = format!("# {}\n", "x".repeat(1024 * 1024));
    insta::assert_snapshot!(refused(&text), @"
    error: cannot read `x.yaml`
      why: it is larger than 1 MiB
    ");
    let folder = Folder::new(&[]);
    std::fs::write(folder.0.path().join("x.yaml"), b"description: \xff\n").expect("a file");
    insta::assert_snapshot!(folder.refusal("x"), @"
    error: cannot read `x.yaml`
      why: it is not UTF-8 from byte 13 on
    ");
}

#[test]
fn a_bad_glob_is_refused() {
    insta::assert_snapshot!(refused("select:\n  tags:\n    Name: [web-*, \"db-[0-9\"]\n"), @r#"
    error: `x.yaml` is not a team profile that can be used
      why: line 3, column 19: bad glob `db-[0-9`: `[` has no meaning in one, only `*` and `?` have
          --> x.yaml:3:19
        3 |     Name: [web-*, "db-[0-9"]
          |                   ^^^^^^^^^
    "#);
    insta::assert_snapshot!(brief("select: {exclude_tags: {Env: \"\"}}\n"), @"line 1, column 30: an empty pattern matches nothing; write `*` for anything");
}

#[test]
fn a_bad_regular_expression_is_refused() {
    insta::assert_snapshot!(refused("session:\n  reason: required\n  reason_pattern: \"^(INC|CHG\"\n"), @r#"
    error: `x.yaml` is not a team profile that can be used
      why: line 3, column 19: `^(INC|CHG` is no regular expression: unclosed group
          --> x.yaml:3:19
        3 |   reason_pattern: "^(INC|CHG"
          |                   ^^^^^^^^^^^
    "#);
}

#[test]
fn values_with_a_form_of_their_own_are_checked() {
    insta::assert_snapshot!(brief("aws: {region: Ireland}\n"), @"line 1, column 15: `Ireland` is no region; one looks like eu-west-1");
    insta::assert_snapshot!(brief("aws: {role_arn: oncall}\n"), @"line 1, column 17: `oncall` is no role | one looks like arn:aws:iam::111122223333:role/oncall");
    insta::assert_snapshot!(brief("aws: {duration: 1m}\n"), @"line 1, column 17: a role's credentials last from 15m to 12h, not 1m");
    insta::assert_snapshot!(brief("aws: {duration: soon}\n"), @"line 1, column 17: `soon` is no time; write 30s, 2m, 1h or 500ms");
    insta::assert_snapshot!(brief("aws: {session_name: \"a b\"}\n"), @"line 1, column 21: `a b` is no name of a role session: 2 to 64 of A-Z a-z 0-9 _+=,.@-");
    insta::assert_snapshot!(brief("aws: {endpoint_url: \"file:///etc\"}\n"), @"line 1, column 21: `file:///etc` is no endpoint; one looks like https://vpce-0123.ssm.eu-west-1.vpce.amazonaws.com");
    insta::assert_snapshot!(brief("aws: {account: \"111122223333\", role_arn: \"arn:aws:iam::444455556666:role/x\"}\n"), @"line 1, column 16: the account `111122223333` is not that of `aws.role_arn`, which is in `444455556666` | every session would stop: make them the same account");
    insta::assert_snapshot!(brief("copy: {s3_above: big}\n"), @"line 1, column 18: `big` is no size; write 500MB or 64MiB");
    insta::assert_snapshot!(brief("copy: {sessions: 0}\n"), @"line 1, column 18: `copy.sessions` is at least 1");
    insta::assert_snapshot!(brief("ssh: {user: \"-oProxyCommand=x\"}\n"), @"line 1, column 13: `-oProxyCommand=x` is no user name");
    insta::assert_snapshot!(brief("ssh: {users: [{match: {platform: \"Ubuntu*\"}}]}\n"), @"line 1, column 15: the key `user` is missing here");
    insta::assert_snapshot!(brief("session: {escape: \"~~\"}\n"), @"line 1, column 19: `~~` is no escape character; write one visible character, or none");
}

#[test]
fn an_ssh_option_that_runs_or_leads_elsewhere_is_refused() {
    insta::assert_snapshot!(refused("ssh:\n  options:\n    ServerAliveInterval: 30\n    ProxyCommand: \"nc %h %p\"\n"), @r#"
    error: `x.yaml` is not a team profile that can be used
      why: line 4, column 5: `ProxyCommand` is no option a profile may set: only those that run nothing on this machine and lead nowhere else
          --> x.yaml:4:5
        4 |     ProxyCommand: "nc %h %p"
          |     ^^^^^^^^^^^^
    "#);
    for key in [
        "LocalCommand",
        "localcommand",
        "PermitLocalCommand",
        "KnownHostsCommand",
        "ProxyJump",
        "HostName",
        "Include",
        "PKCS11Provider",
        "XAuthLocation",
        "Match",
    ] {
        assert!(
            brief(&format!("ssh: {{options: {{{key}: \"x\"}}}}\n"))
                .contains("is no option a profile may set"),
            "{key}"
        );
    }
    insta::assert_snapshot!(brief("ssh: {options: {identityfile: \"x\"}}\n"), @"line 1, column 17: `identityfile` is not set here but with `ssh.identity_file`");
    insta::assert_snapshot!(brief("ssh: {options: {ServerAliveIntervall: 30}}\n"), @"line 1, column 17: `ServerAliveIntervall` is no option a profile may set; did you mean `ServerAliveInterval`?");
    insta::assert_snapshot!(brief("ssh: {options: {SendEnv: \"A\\nProxyCommand x\"}}\n"), @r"line 1, column 26: `A\nProxyCommand x` cannot be the value of an ssh option");
    let profile = loaded("ssh: {options: {serveraliveinterval: 30, ForwardAgent: \"yes\"}}\n");
    let options: Vec<_> = profile.ssh.options.iter().collect();
    assert_eq!(
        options,
        [("ForwardAgent", "yes"), ("ServerAliveInterval", "30")]
    );
}

#[test]
fn hosts_forwards_and_aliases_are_checked_as_a_whole() {
    insta::assert_snapshot!(refused("forwards:\n  db:\n    via: bastion\n    listen: 3307\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 2, column 3: the forward `db` does not say where it leads
          --> x.yaml:2:3
        2 |   db:
          |   ^^
      hint: add to: PORT of the server itself, or to: HOST:PORT
    ");
    insta::assert_snapshot!(brief("forwards: {db: {via: b, to: \"db:0\"}}\n"), @"line 1, column 29: `db:0` is no destination; write PORT or HOST:PORT, ports from 1 to 65535");
    insta::assert_snapshot!(brief("forwards: {db: {via: b, to: \"db internal:3306\"}}\n"), @"line 1, column 29: `db internal:3306` is no destination; write PORT or HOST:PORT, ports from 1 to 65535");
    insta::assert_snapshot!(brief("forwards: {db: {via: b, listen: \"x:y\", to: 80}}\n"), @"line 1, column 33: `x:y` is nothing to listen on; write PORT or ADDRESS:PORT, where port 0 is any free one");
    insta::assert_snapshot!(brief("hosts: {bastion: {pick: newest}}\n"), @"line 1, column 9: the host `bastion` has neither `target` nor `tags`");
    insta::assert_snapshot!(brief("hosts: {bastion: {target: b-1, tags: {a: b}}}\n"), @"line 1, column 9: the host `bastion` has both `target` and `tags` | remove one of them; `tags: null` removes what another profile says");
    insta::assert_snapshot!(brief("hosts: {i-0a1b2c3d4e5f60718: web-1}\n"), @"line 1, column 9: `i-0a1b2c3d4e5f60718` is an instance id, which always means that instance");
    insta::assert_snapshot!(brief("hosts: {b: {tgas: {a: b}}}\n"), @"line 1, column 13: unknown key `tgas` | did you mean `tags`?");
    insta::assert_snapshot!(brief("aliases: {ls: \"shell web-1\"}\n"), @"line 1, column 11: the alias `ls` would hide the verb `ls` | give it another name");
    insta::assert_snapshot!(brief("logs: {/x: /var/log/x}\n"), @"line 1, column 8: `/x` cannot be the name of a log | use a word that does not begin with / ~ or -");
    insta::assert_snapshot!(brief("logs: {app: app.log}\n"), @"line 1, column 13: `app.log` is neither a file nor a unit | write /var/log/syslog, ~/app.log or unit:nginx");
    insta::assert_snapshot!(brief("aliases: {play: \"ls --online\"}\n"), @"line 1, column 11: the alias `play` takes a name that is kept for the verb `play` | give it another name");
    insta::assert_snapshot!(brief("aliases: {logs: \"exec 'web-*\"}\n"), @r"line 1, column 17: a quote is not closed in `exec \'web-*`");
    insta::assert_snapshot!(brief("aliases: {Logs: \"exec x\"}\n"), @"line 1, column 11: `Logs` cannot be the name of an alias | use small letters, digits and single dashes, a letter first");
    insta::assert_snapshot!(brief("aliases: {logs: \"ops exec x\"}\n"), @"line 1, column 17: leave `ops` out: an alias begins with a verb of ops");
}

#[test]
fn a_slip_in_a_list_of_verbs_is_refused_as_it_would_protect_nothing() {
    insta::assert_snapshot!(refused("guard:\n  deny:\n    - cp\n    - shel\n"), @"
    error: `x.yaml` is not a team profile that can be used
      why: line 4, column 7: `shel` is no verb of ops
          --> x.yaml:4:7
        4 |     - shel
          |       ^^^^
      hint: did you mean `shell`?
    ");
    insta::assert_snapshot!(brief("commands: {disable: [\"rm -rf\"]}\n"), @"line 1, column 22: `rm -rf` is no verb of ops | the verbs: ops help");
    // A verb from outside has a name of its own.
    loaded("guard: {deny: [db-dump, cp]}\ncommands: {disable: kubernetes}\n");
}
