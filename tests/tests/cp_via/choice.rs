//! Which way is taken.

use std::fs;

use ops_test_needs::needs;
use ops_tests::service::Service;

use crate::scene::{
    BUCKET, CONNECT, fail, no_objects, noise, remote, run, same_trees, service, succeed, text,
    write_profile,
};

#[test]
fn what_is_denied_is_gone_round_once_or_said_with_the_statement() {
    needs!("curl");
    let denied = "deny=ssm:StartSession/AWS-StartNonInteractiveCommand";
    let service = service(denied, &format!("{CONNECT}{BUCKET}"));
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "x").unwrap();
    let here = folder.path().join("here");
    let copy = |args: &[&str]| {
        let (from, to) = (remote(&there), text(&here).to_owned());
        let all: Vec<&str> = args
            .iter()
            .copied()
            .chain([from.as_str(), to.as_str()])
            .collect();
        run(&service, &all)
    };
    let output = copy(&[]);
    succeed(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("going by sftp instead").count(), 1, "{said}");
    for via in ["session", "s3"] {
        let statement =
            r#""Action":"ssm:StartSession","Resource":["arn:aws:ec2:eu-west-1:*:instance/"#;
        fail(
            &copy(&["--via", via]),
            5,
            &[statement, "document/AWS-StartNonInteractiveCommand\""],
        );
    }
    service.set_faults("deny=ssm:StartSession/AWS-StartSSHSession");
    fail(
        &copy(&["--via", "sftp"]),
        5,
        &["document/AWS-StartSSHSession\"]}"],
    );
    service.set_faults("deny=s3:PutObject");
    fail(&copy(&["--via", "s3"]), 8, &["403"]);
    no_objects(&service.home().join("sandbox"));

    service.set_faults("");
    write_profile(
        &service,
        &format!("{CONNECT}copy: {{ deny_via: [session, s3], s3_bucket: ops-sandbox-copies }}\n"),
    );
    let output = copy(&["-v"]);
    succeed(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("by sftp"));
    fail(
        &copy(&["--via", "session"]),
        9,
        &["the profile forbids transport `session`"],
    );
    fail(
        &copy(&["--via", "s3"]),
        9,
        &["the profile forbids transport `s3`"],
    );
}

#[test]
fn only_large_files_take_the_way_over_the_bucket_where_it_is_not_asked_for() {
    needs!("curl");
    let copy = "copy: { s3_bucket: ops-sandbox-copies, s3_above: 1MiB }\n";
    let service = service("", copy);
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::create_dir(&here).unwrap();
    fs::write(here.join("large"), noise(1_500_000)).unwrap();
    fs::write(here.join("small"), "x").unwrap();
    succeed(&run(&service, &["-rp", text(&here), &remote(&there)]));
    same_trees(&here, &there);
    let puts = |service: &Service| {
        let calls = service.calls();
        calls.iter().filter(|call| *call == "PutObject").count()
    };
    assert_eq!(puts(&service), 1);
    // Without the bucket it goes all the same.
    let missing = copy.replace("ops-sandbox-copies", "no-such-bucket");
    write_profile(&service, &missing);
    let output = run(
        &service,
        &["-rp", &remote(&there), text(&folder.path().join("back"))],
    );
    succeed(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        said.matches("going by session instead").count(),
        1,
        "{said}"
    );
    same_trees(&here, &folder.path().join("back"));
}
