//! The file's form, and what is made of one that is not as it should be.

use std::{path::Path, time::Duration};

use ops_profile::{Instance, InstanceState};
use ops_ui::paths::replace_private;

use super::{
    FRESH, FleetFile, STALE,
    file::{self, Head},
    now_ms,
    view::View,
};

fn instances() -> Vec<Instance> {
    let named = |id: &str, name: Option<&str>| Instance {
        name: name.map(str::to_owned),
        instance_type: Some("t3.micro".to_owned()),
        launched: Some("2025-01-02T03:04:05.678Z".parse().expect("a time")),
        tags: name
            .map(|name| ("Name".to_owned(), name.to_owned()))
            .into_iter()
            .chain([("Team".to_owned(), "größe ✓".to_owned())])
            .collect(),
        ..Instance::bare(id, "eu-west-1")
    };
    vec![
        named("i-00000002", Some("web-2")),
        named("i-00000001", None),
        named("mi-0000003", Some("depot")),
    ]
}

fn fleet_file(folder: &Path) -> FleetFile {
    FleetFile {
        folder: folder.to_owned(),
        key: "k".repeat(64),
        account: None,
    }
}

fn written(fleet: &FleetFile, age: Duration) -> Vec<u8> {
    let head = Head {
        key: fleet.key.clone(),
        account: "123456789012".to_owned(),
        profile: "default".to_owned(),
        regions: vec!["eu-west-1".to_owned()],
        created_ms: now_ms() - u64::try_from(age.as_millis()).expect("small"),
        count: 3,
    };
    let bytes = file::encode(&head, &mut instances()).expect("a file");
    replace_private(&fleet.file(), &bytes).expect("written");
    bytes
}

#[test]
fn what_is_kept_comes_back_sorted_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = fleet_file(folder.path());
    written(&fleet, Duration::ZERO);
    let view = || View::of(&fleet, FRESH).expect("a fleet");
    let names = view().names().expect("names");
    let ids: Vec<&str> = names
        .rows()
        .expect("rows")
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(ids, ["mi-0000003", "i-00000002", "i-00000001"]);
    let tags = view().tags().expect("tags");
    let tags = tags.rows().expect("rows");
    assert_eq!(tags[0].values, [("depot", 1), ("web-2", 1)]);
    assert_eq!(
        (tags[1].key, &*tags[1].values),
        ("Team", &[("größe ✓", 3)][..])
    );
    let found = view()
        .instances(|row| row.state == InstanceState::Running)
        .expect("instances");
    let mut wanted = instances();
    wanted.sort_by(|a, b| (a.name.is_none(), &a.name).cmp(&(b.name.is_none(), &b.name)));
    assert_eq!(found, wanted);
}

#[test]
fn one_that_is_too_old_or_of_another_account_or_key_is_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = fleet_file(folder.path());
    written(&fleet, Duration::from_secs(300));
    assert!(View::of(&fleet, FRESH).is_none());
    assert!(View::of(&fleet, STALE).is_some());
    let account = |account: &str| FleetFile {
        account: Some(account.to_owned()),
        ..fleet.clone()
    };
    assert!(View::of(&account("123456789012"), STALE).is_some());
    assert!(View::of(&account("210987654321"), STALE).is_none());
    let other = FleetFile {
        key: "x".repeat(64),
        ..fleet.clone()
    };
    std::fs::copy(fleet.file(), other.file()).expect("copied");
    assert!(View::of(&other, STALE).is_none());
}

#[test]
fn no_cut_and_no_changed_byte_gives_anything_but_the_truth() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = fleet_file(folder.path());
    let whole = written(&fleet, Duration::ZERO);
    let read = |bytes: &[u8]| {
        replace_private(&fleet.file(), bytes).expect("written");
        let rows = View::of(&fleet, STALE)?.names()?;
        Some(rows.rows()?.len())
    };
    assert_eq!(read(&whole), Some(3));
    for len in 0..whole.len() {
        assert_eq!(read(&whole[..len]), None, "cut to {len}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        assert!(matches!(read(&bytes), None | Some(3)), "byte {at}");
    }
}
