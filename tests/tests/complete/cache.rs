//! The cache that names come from.

use std::{path::Path, process::Stdio};

use super::{shells::bash, *};

/// The files of the cache with this ending.
pub(crate) fn files(service: &Service, ending: &str) -> Vec<PathBuf> {
    let folder = service.home().join(".cache/ops/fleet");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .collect()
}

/// Makes a fleet older: its time is a number behind its texts, in the section that a digest
/// protects.
fn grow_old(path: &Path, milliseconds: u64) {
    let mut bytes = std::fs::read(path).expect("a fleet");
    let len = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
    let (from, to) = (44, 44 + len);
    let number = |bytes: &[u8], at: &mut usize| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
        }
    };
    let mut at = from;
    let text = |at: &mut usize| {
        let len = number(&bytes, at) as usize;
        *at += len;
    };
    for _ in 0..3 {
        text(&mut at);
    }
    let regions = number(&bytes, &mut at);
    for _ in 0..regions {
        text(&mut at);
    }
    let begin = at;
    let mut value = number(&bytes, &mut at) - milliseconds;
    for byte in &mut bytes[begin..at] {
        let more = *byte & 0x80;
        *byte = (value & 0x7f) as u8 | more;
        value >>= 7;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes[from..to]);
    bytes[12..44].copy_from_slice(digest.as_ref());
    std::fs::write(path, bytes).expect("a fleet");
}

#[test]
fn a_fresh_cache_is_asked_and_the_service_is_not() {
    let service = user("");
    assert_eq!(
        complete(&service, &["ops", "shell", "we"]),
        ["web-1", "web-2"]
    );
    assert_eq!(count(&service, "DescribeInstances"), 1);
    assert_eq!(
        complete(&service, &["ops", "console", "web-"]),
        ["web-1", "web-2"]
    );
    assert_eq!(complete(&service, &["ops", "shell", "du"]), ["dup"]);
    assert_eq!(count(&service, "DescribeInstances"), 1);
    let fleets = files(&service, "fleet");
    let [fleet] = fleets.as_slice() else {
        panic!("{fleets:?}")
    };
    let mode = fleet.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Another region is another fleet.
    assert!(complete(&service, &["ops", "--region", "us-east-1", "shell", "we"]).is_empty());
    assert_eq!(files(&service, "fleet").len(), 2);
}

#[test]
fn what_is_damaged_or_not_ones_own_is_as_good_as_not_there() {
    let service = user("");
    complete(&service, &["ops", "shell", "we"]);
    let fleet = files(&service, "fleet").remove(0);
    let whole = std::fs::read(&fleet).expect("a fleet");
    // Among the names: what is not read may be damaged unseen.
    let middle = 230;
    let mut calls = 1;
    for bytes in [
        Vec::new(),
        whole[..middle].to_vec(),
        [&whole[..middle], &[whole[middle] ^ 1], &whole[middle + 1..]].concat(),
        b"not a fleet at all".repeat(100),
    ] {
        std::fs::write(&fleet, bytes).expect("a file");
        assert_eq!(
            complete(&service, &["ops", "shell", "we"]),
            ["web-1", "web-2"]
        );
        calls += 1;
        assert_eq!(count(&service, "DescribeInstances"), calls);
    }
    std::fs::set_permissions(&fleet, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    complete(&service, &["ops", "shell", "we"]);
    assert_eq!(count(&service, "DescribeInstances"), calls + 1);
}

#[test]
fn an_old_one_is_shown_at_once_and_refreshed_behind() {
    let service = user("");
    complete(&service, &["ops", "shell", "we"]);
    let fleet = files(&service, "fleet").remove(0);
    grow_old(&fleet, 120_000);
    service.change_instance("web-2", r#"{"state": "stopped"}"#);
    // The service does not answer in time: what is shown is the old one. That the output ends
    // proves that the process behind does not hold it, nor another descriptor that the shell has
    // open.
    service.set_faults("slow=ec2:DescribeInstances/3s");
    let output = Command::new("sh")
        .args(["-c", "exec \"$@\" 9>&2", "sh"])
        .arg(OPS)
        .args(["--", "ops", "shell", "we"])
        .env_clear()
        .envs(environment(&service))
        .env("OPS_COMPLETE", "plain")
        .stdin(Stdio::null())
        .output()
        .expect("ops runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("web-1\t") && text.contains("web-2\t"),
        "{text}"
    );
    let busy = std::fs::File::open(files(&service, "lock").remove(0)).expect("a lock");
    // Waits for the process behind, which holds it while it works; what it has found is then there.
    service.wait_for_calls("DescribeInstances", 2);
    busy.lock().expect("its turn");
    service.set_faults("");
    assert_eq!(complete(&service, &["ops", "shell", "we"]), ["web-1"]);
    assert_eq!(count(&service, "DescribeInstances"), 2);
    // Too old to be shown.
    grow_old(&fleet, 700_000);
    service.set_faults("slow=ec2:DescribeInstances/3s");
    assert!(complete(&service, &["ops", "shell", "we"]).is_empty());
}

#[test]
fn without_permission_or_credentials_nothing_is_shown_and_nobody_asked_again_for_a_while() {
    let service = user("deny=ec2:DescribeInstances");
    assert!(complete(&service, &["ops", "shell", "we"]).is_empty());
    let calls = service.calls().len();
    assert!(complete(&service, &["ops", "shell", "we"]).is_empty());
    assert_eq!(service.calls().len(), calls);
    // A login that has ended is not begun anew.
    write(
        &service,
        ".aws/config",
        "[profile sso]\nregion = eu-west-1\nsso_session = x\nsso_account_id = 123456789012\nsso_role_name = dev\n[sso-session x]\nsso_region = eu-west-1\nsso_start_url = https://sso.example.invalid/start\n",
    );
    assert_eq!(complete(&service, &["ops", "--aws-profile", "ss"]), ["sso"]);
    assert!(complete(&service, &["ops", "--aws-profile", "sso", "shell", "we"]).is_empty());
    // Neither is there anything on the terminal.
    let terminal = bash(&service, "");
    let from = terminal.wait_for("ready> ");
    terminal.send("ops shell we\t\t1\r");
    let end = terminal.wait_for_after(from, "<called>");
    let text = String::from_utf8_lossy(&terminal.output()[from..end]).into_owned();
    assert!(
        !text.contains("error") && !text.contains("denied"),
        "{text}"
    );
}

#[test]
fn many_shells_at_once_ask_the_service_once() {
    let service = user("slow=ec2:DescribeInstances/300ms");
    let shells: Vec<_> = (0..8)
        .map(|_| {
            plain(&service, &["ops", "shell", "we"])
                .spawn()
                .expect("ops starts")
        })
        .collect();
    for shell in shells {
        let output = shell.wait_with_output().expect("ops ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    }
    assert_eq!(count(&service, "DescribeInstances"), 1);
}
