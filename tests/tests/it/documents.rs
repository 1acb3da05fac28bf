//! Documents of a team's own, in place of AWS's.

use ops_tests::service::Service;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

#[test]
fn a_copy_goes_by_a_document_that_is_more_than_its_parameter() {
    let service = Service::start(OPS, "");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    // Its commands are `nice -n 1 {{ command }}`: the agent takes what is put there for a template.
    std::fs::write(
        profiles.join("nice.yaml"),
        "copy: { document: Sandbox-CommandNice, deny_via: [sftp, s3] }\n",
    )
    .expect("a profile");
    let text = "$HOME costs $$5, and ${x}\n".repeat(100);
    std::fs::write(service.home().join("far"), &text).expect("a file");
    let from = format!("web-1:{}", service.home().join("far").display());
    let output = service
        .ops(&["cp", "--profile", "nice", &from, "near"])
        .current_dir(service.home())
        .output()
        .expect("ops runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let near = std::fs::read_to_string(service.home().join("near")).expect("a copy");
    assert_eq!(near, text);
    // Its document is read once, however many sessions there are.
    let reads = service
        .calls()
        .iter()
        .filter(|call| *call == "GetDocument")
        .count();
    assert_eq!(reads, 1);
}
