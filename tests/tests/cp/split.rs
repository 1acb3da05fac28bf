//! Large files for a server, in parts over several sessions.

use super::*;

/// Enough for two sessions; the last part and the last block are not whole.
const LEN: usize = (65 << 20) + 4711;

/// Sessions that were started so far.
fn sessions(lab: &Lab) -> usize {
    let log = lab.ops(["sandbox", "log"]).output().success();
    log.stdout.matches("StartSession").count()
}

#[test]
fn a_large_file_is_shared_out_over_sessions() {
    let lab = Lab::with_sandbox();
    let (here, far) = (lab.folder("here"), lab.folder("far"));
    // A gap of two parts, and text, so that one lane compresses and one does not.
    let mut bytes = noise(LEN);
    bytes[10 << 20..26 << 20].fill(0);
    put(&here, b"big", &bytes, 0o640);
    let started = ["4", "1"].map(|most| {
        put(&far, b"big", b"old", 0o604);
        let before = sessions(&lab);
        let args = [
            os("--sessions"),
            os(most),
            here.join("big").into(),
            remote(&far),
        ];
        cp(&lab, args).success();
        assert!(fs::read(far.join("big")).unwrap() == bytes);
        // A file that is replaced keeps its mode.
        assert_eq!(
            fs::metadata(far.join("big")).unwrap().mode() & 0o7777,
            0o604
        );
        assert_eq!(tree(&far).len(), 1);
        sessions(&lab) - before
    });
    // A second dialogue: its terminal, and the command that carries its words.
    assert_eq!(started[0], started[1] + 2);
}

#[test]
fn parts_that_are_there_are_not_sent_again() {
    let lab = Lab::with_sandbox();
    let (here, far) = (lab.folder("here"), lab.folder("far"));
    let bytes = noise(LEN);
    fs::write(here.join("big"), &bytes).unwrap();
    let part = far.join(".big.ops-part");
    let args = |more: &[&str]| -> Vec<OsString> {
        more.iter()
            .map(|&arg| os(arg))
            .chain([here.join("big").into(), remote(&far)])
            .collect()
    };
    // Without --resume nothing stays.
    interrupt(&lab, &args(&["--limit-rate", "20MB"]), &|| has_part(&far));
    until("the far end is cleaned up", || tree(&far).is_empty());
    let arrived = |at: usize| {
        fs::read(&part).is_ok_and(|there| there.get(at..at + 4096) == Some(&bytes[at..at + 4096]))
    };
    interrupt(&lab, &args(&["--resume", "--limit-rate", "12MB"]), &|| {
        // The third and the fourth part are begun, by two lanes at most, so that two of the first
        // three are there.
        arrived(17 << 20) && arrived(25 << 20)
    });
    // One that was there is not believed.
    let mut damaged = fs::read(&part).unwrap();
    damaged[..4].fill(0);
    fs::write(&part, &damaged).unwrap();
    let done = cp(&lab, args(&["--resume", "-v"])).success();
    let there: usize = done
        .stderr
        .lines()
        .find_map(|line| line.split_once(" of 9 parts are there already"))
        .and_then(|(head, _)| head.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{done}"));
    assert!((1..9).contains(&there), "{done}");
    assert!(fs::read(far.join("big")).unwrap() == bytes);
    assert_eq!(tree(&far).len(), 1);
}

#[test]
fn sessions_that_are_lost_leave_the_old_file_and_nothing_else() {
    let lab = Lab::with_sandbox();
    let (here, far) = (lab.folder("here"), lab.folder("far"));
    fs::write(here.join("big"), noise(LEN)).unwrap();
    fs::write(far.join("big"), "old").unwrap();
    let fault = [
        "sandbox",
        "fault",
        "cut-after=600",
        "cuts=1",
        "refuse-resume=gone",
    ];
    lab.ops(fault).output().success();
    let done = cp(&lab, [here.join("big").into_os_string(), remote(&far)]).exits(8);
    assert!(done.stderr.contains("1 failed"), "{done}");
    until("the far end is cleaned up", || leftovers(&far).is_empty());
    assert_eq!(fs::read(far.join("big")).unwrap(), b"old");
    // A file that changes meanwhile is not put into place either.
    lab.ops(["sandbox", "fault", "none"]).output().success();
    let args = ["cp", "--limit-rate", "20MB"].map(os);
    let all = args
        .into_iter()
        .chain([here.join("big").into(), remote(&far)]);
    let child = lab.ops(all).spawn();
    until("the copy begins", || has_part(&far));
    fs::OpenOptions::new()
        .write(true)
        .open(here.join("big"))
        .and_then(|file| std::os::unix::fs::FileExt::write_all_at(&file, b"more", 0))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{stderr}");
    assert!(stderr.contains("changed while it was read"), "{stderr}");
    assert_eq!(fs::read(far.join("big")).unwrap(), b"old");
    assert_eq!(tree(&far).len(), 1);
}
