//! What a server may be called, where it is looked for, and what is proposed when it is not found.

use std::path::Path;

use ops_tests::{Done, Lab, service::Service, terminal::Terminal};

fn odd_names() -> Lab {
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fleet/odd-names.yaml");
    Lab::new().serve(["--fleet", fleet.to_str().expect("UTF-8")])
}

/// Two regions with a fleet of their own; `twin` is in both.
fn two_regions() -> Lab {
    let lab = Lab::new();
    let fleet = lab.write(
        "fleet.yaml",
        "region: eu-west-1\ninstances:\n  - { name: here }\n  - { name: twin }\n  - { name: there, region: eu-central-1 }\n  - { name: twin, region: eu-central-1 }\n",
    );
    let lab = lab.serve(["--fleet", fleet.to_str().expect("UTF-8")]);
    lab.profile("wide", "aws: { regions: [eu-west-1, eu-central-1] }\n");
    lab
}

#[track_caller]
fn id_of(lab: &Lab, arguments: &[&str]) -> String {
    let done = lab.ops(arguments).output().success();
    let items = done.json()["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(items.len(), 1, "{done}");
    items[0]["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn reaches(lab: &Lab, target: &str, id: &str) {
    let done = lab
        .ops(["console", "--print", "--", target])
        .output()
        .success();
    assert!(done.stdout.contains(id), "{target}: {done}");
}

#[track_caller]
fn says(done: &Done, words: &[&str], not: &[&str]) {
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in {done}");
    }
    for word in not {
        assert!(!done.stderr.contains(word), "{word:?} in {done}");
    }
}

#[test]
fn a_name_with_a_backslash_is_found_in_every_way() {
    let lab = odd_names();
    let by_tag = id_of(&lab, &["ls", "-o", "json", "--tag", r"Name=back\slash"]);
    assert_eq!(id_of(&lab, &["ls", "-o", "json", r"back\slash"]), by_tag);
    assert_eq!(
        id_of(&lab, &["ls", "-o", "json", r"tag:Name=back\slash"]),
        by_tag
    );
    assert_eq!(id_of(&lab, &["ls", "-o", "json", r"back\sl*"]), by_tag);
    reaches(&lab, r"back\slash", &by_tag);
}

#[test]
fn a_name_that_could_be_taken_apart_is_found_where_it_can_mean_only_this() {
    let lab = odd_names();
    for name in ["bracket[1]", "user@name"] {
        let id = id_of(&lab, &["ls", "-o", "json", name]);
        reaches(&lab, name, &id);
    }
    // A shell could be for that user.
    let done = lab.ops(["shell", "user@name"]).output().exits(3);
    says(&done, &["tag:Name=user@name"], &["did you mean"]);
    // Here it can mean two.
    let lab = Lab::new();
    let fleet = lab.write(
        "fleet.yaml",
        "instances:\n  - { name: bracket }\n  - { name: 'bracket[1]' }\n",
    );
    let lab = lab.serve(["--fleet", fleet.to_str().expect("UTF-8")]);
    let done = lab
        .ops(["console", "--print", "bracket[1]"])
        .output()
        .exits(6);
    says(&done, &["bracket[1][1]"], &[]);
    let literal = id_of(&lab, &["ls", "-o", "json", "bracket[1]"]);
    reaches(&lab, "bracket[1][1]", &literal);
}

#[test]
fn what_is_proposed_is_near_and_not_what_was_typed() {
    let lab = odd_names();
    for nothing_near in ["a", "bb"] {
        let done = lab
            .ops(["console", "--print", nothing_near])
            .output()
            .exits(3);
        says(&done, &[], &["did you mean"]);
    }
    let done = lab.ops(["console", "--print", "plain-2"]).output().exits(3);
    says(
        &done,
        &["did you mean `plain-1`", "searched region `eu-west-1`"],
        &["select"],
    );
}

#[test]
fn ids_are_known_in_capitals_with_blanks_and_as_arns() {
    let lab = odd_names();
    let id = id_of(&lab, &["ls", "-o", "json", "plain-1"]);
    for text in [
        id.to_uppercase(),
        format!(" {id} "),
        format!("arn:aws:ec2:eu-west-1:123456789012:instance/{id}"),
    ] {
        reaches(&lab, &text, &id);
    }
}

#[test]
fn a_name_is_looked_for_in_every_region_of_the_profile() {
    let lab = two_regions();
    let there = id_of(&lab, &["-p", "wide", "ls", "-o", "json", "there"]);
    let done = lab
        .ops(["-p", "wide", "console", "--print", "there"])
        .output()
        .success();
    assert!(
        done.stdout.contains("eu-central-1") && done.stdout.contains(&there),
        "{done}"
    );
    let done = lab
        .ops(["-p", "wide", "shell", "there"])
        .stdin("echo $HOSTNAME\n")
        .output();
    assert!(done.stdout.contains("there"), "{done}");
    let done = lab
        .ops(["-p", "wide", "console", "--print", "twin"])
        .output()
        .exits(6);
    says(&done, &["eu-west-1", "eu-central-1", "--region"], &[]);
    // One region alone does not have it, and tells where else to look.
    let done = lab.ops(["console", "--print", "there"]).output().exits(3);
    says(&done, &["ops ls --all-regions there"], &[]);
    let done = lab
        .ops(["ls", "--all-regions", "there", "-o", "name"])
        .output()
        .success();
    assert_eq!(done.stdout, "there\n");
}

/// Commands of ours in hints and notes.
fn commands(told: &str) -> Vec<Vec<String>> {
    told.lines()
        .filter_map(|line| line.trim().split_once("hint: "))
        .flat_map(|(_, hint)| {
            hint.match_indices("ops ")
                .map(|(at, _)| &hint[at..])
                .collect::<Vec<_>>()
        })
        .map(|command| {
            let end = ["`", " (", ")", "; ", ", or "]
                .iter()
                .filter_map(|end| command.find(end))
                .min()
                .unwrap_or(command.len());
            let mut words = Vec::new();
            let mut word = String::new();
            let mut quoted = false;
            for char in command[..end].trim_end_matches(['…', ' ']).chars() {
                match char {
                    '\'' => quoted = !quoted,
                    ' ' if !quoted => words.push(std::mem::take(&mut word)),
                    other => word.push(other),
                }
            }
            words.push(word);
            words
        })
        .collect()
}

#[test]
fn every_command_in_a_hint_runs_as_it_stands() {
    let lab = Lab::new();
    lab.profile("shop", "aws: { region: eu-west-1 }\n");
    let mut run = 0;
    for failing in [
        &["--sandbox", "console", "--print", "nosuch"][..],
        &["--sandbox", "-p", "shop", "console", "--print", "nosuch"],
        &[
            "--sandbox",
            "--region",
            "eu-west-1",
            "wait",
            "--timeout",
            "1s",
            "nosuch",
        ],
        &["--sandbox", "console", "--print", "i-0123456789abcdef0"],
        &["--sandbox", "console", "--print", "web-9"],
        &["--sandbox", "forward", "web-1", "nosuch"],
        &["-p", "nosuch", "ls"],
        &["ls"],
        &["--sandbox", "cp", "nosuch:x", "here"],
        // What is like no verb may be a server.
        &["--sandbox", "web-1"],
        &["ls", "--nosuch"],
        &["--sandbox", "plugin", "run", "nosuch"],
        &["config", "validate", "nosuch"],
    ] {
        let done = lab.ops(failing).output();
        assert_ne!(done.status, 0, "{failing:?}: {done}");
        for command in commands(&done.stderr) {
            let again = lab.ops(&command[1..]).output();
            // It may have nothing to show, but it is a command, and of the same account.
            let is_login = again.status == 4 && !failing.contains(&"--sandbox");
            assert!(
                again.status == 0 || is_login,
                "{command:?}, proposed for {failing:?}: {again}"
            );
            run += 1;
        }
    }
    assert!(run > 10, "{run}");
}

#[test]
fn a_local_file_with_a_colon_is_named() {
    let lab = Lab::with_sandbox();
    lab.write("2022-03-10T09:49:23.txt", "x");
    let done = lab
        .ops(["cp", "2022-03-10T09:49:23.txt", "web-1:/tmp/"])
        .output();
    says(&done, &["./2022-03-10T09:49:23.txt"], &[]);
    assert_eq!(done.status, 3, "{done}");
}

#[test]
fn what_reorders_text_is_never_shown_raw() {
    let fleet = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fleet/odd-names.yaml"),
    )
    .expect("a fleet");
    let service = Service::start_with(env!("CARGO_BIN_EXE_ops-under-test"), |options| {
        let path = options.state_dir.with_file_name("fleet.yaml");
        std::fs::write(&path, fleet).expect("a file");
        options.fleet = Some(path);
    });
    let mut terminal = Terminal::start(&service, &["ls", "-o", "name", "--no-pager"]);
    assert_eq!(terminal.wait(), Some(0));
    let shown = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(
        shown.contains("plain-1") && !shown.contains('\u{202e}'),
        "{shown}"
    );
}
