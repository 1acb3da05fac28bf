//! `--script`: a file of this computer, run there and removed.

use ops_tests::Lab;

#[test]
fn a_script_is_run_by_its_first_line_with_its_arguments() {
    let lab = Lab::with_sandbox();
    let path = lab.write(
        "fix.sh",
        "#!/bin/bash\nprintf '<%s>' \"$BASH_VERSION\" \"$@\" | sed 's/^<[0-9][^>]*>/<bash>/'\necho >&2 done\nexit 5\n",
    );
    let path = path.to_str().unwrap();
    let done = lab
        .ops(["exec", "web-1", "--script", path, "--", "a b", "-x", ""])
        .output();
    assert_eq!(
        (done.status, &*done.stdout, &*done.stderr),
        (5, "<bash><a b><-x><>", "done\n")
    );
}

#[test]
fn nothing_of_a_script_is_left() {
    let lab = Lab::with_sandbox();
    let mark = super::odd_seconds();
    let path = lab.write("mark.sh", format!("#!/bin/sh\n# {mark}\necho \"$0\"\n"));
    let done = lab
        .ops(["exec", "web-1", "--script", path.to_str().unwrap()])
        .output()
        .success();
    let there = done.stdout.trim().to_owned();
    assert!(there.starts_with('/'), "{done}");
    super::eventually("the script is removed", || {
        !std::path::Path::new(&there).exists()
    });
}

#[test]
fn a_script_that_cannot_be_read_is_said_before_anything_is_asked() {
    let lab = Lab::new();
    let done = lab.ops(["exec", "web-1", "--script", "/nosuch"]).output();
    assert_eq!(done.status, 255);
    assert!(
        done.stderr
            .starts_with("ops: OPS-E-USAGE: the script `/nosuch` cannot be read"),
        "{done}"
    );
}
