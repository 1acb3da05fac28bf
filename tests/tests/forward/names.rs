//! Forwards that the team profile names.

use std::io::Read as _;

use crate::tunnel::{Forward, ops, service, text};

#[test]
fn named_forwards_and_groups_come_from_the_profile() {
    let service = service();
    let folder = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(
        folder.join("team.yaml"),
        "forwards:\n  reporting-db: { via: bastion, listen: 0, to: \"db-reporting:3306\", group: dev }\n  site: { via: web-1, listen: 0, to: 80, group: dev }\n  other: { via: web-2, to: 80 }\n",
    )
    .expect("a profile");
    let forward = Forward::start(&service, &["-p", "team", "reporting-db"]);
    let mut greeting = [0; 8];
    forward
        .connect()
        .read_exact(&mut greeting)
        .expect("the server speaks first");
    assert_eq!(greeting[4], 10, "the protocol version of MySQL");
    forward.end();
    let group = Forward::start(&service, &["-p", "team", "--group", "dev"]);
    let names: Vec<_> = group.rows.iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["reporting-db", "site"]);
    group.end();
    let list = ops(&service, &["-p", "team", "forward", "--list"]);
    assert!(text(&list.stdout).contains("reporting-db  bastion"));
    let mixed = ops(&service, &["-p", "team", "forward", "reporting-db", "0:80"]);
    assert!(
        text(&mixed.stderr).contains("takes no SPEC: ops -p team forward reporting-db"),
        "{}",
        text(&mixed.stderr)
    );
    let wrong = ops(&service, &["-p", "team", "forward", "reporting-bd"]);
    assert!(text(&wrong.stderr).contains("did you mean: ops -p team forward reporting-db"));
}
