//! Standard output, and whoever reads it.

use std::{io::Read as _, process::Child};

use super::*;

/// The most memory that `child` has had, in bytes; none where the system does not tell.
fn peak_memory(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn a_slow_reader_costs_no_memory_and_gets_every_byte() {
    let lab = Lab::with_sandbox();
    let far = lab.folder("far");
    let len = 96 << 20;
    // Nothing but zeros, which compress to nothing, and bytes that do not compress.
    fs::File::create(far.join("zeros"))
        .unwrap()
        .set_len(len)
        .unwrap();
    let block = noise(1 << 20);
    let mut file = fs::File::create(far.join("noise")).unwrap();
    for _ in 0..96 {
        std::io::Write::write_all(&mut file, &block).unwrap();
    }
    let mut peaks = Vec::new();
    for (name, expected) in [("zeros", vec![0; 1 << 20]), ("noise", block)] {
        let mut child = lab
            .ops([os("cp"), remote(&far.join(name)), os("-")])
            .spawn();
        let mut stdout = child.stdout.take().unwrap();
        let mut read = vec![0; 1 << 20];
        stdout.read_exact(&mut read).unwrap();
        assert!(read == expected);
        // It reads nothing for a while: time in which everything could pile up.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        peaks.extend(peak_memory(&child));
        for _ in 1..96 {
            stdout.read_exact(&mut read).unwrap();
            assert!(read == expected);
        }
        peaks.extend(peak_memory(&child));
        assert_eq!(stdout.read(&mut read).unwrap(), 0);
        assert!(child.wait().unwrap().success());
    }
    // The program itself, not optimised, is most of it.
    assert!(peaks.iter().all(|&peak| peak < 90 << 20), "{peaks:?}");
}

#[test]
fn what_standard_output_has_no_room_for_is_not_copied() {
    let lab = Lab::with_sandbox();
    let far = lab.folder("far");
    put(&far, b"small", &noise(100), 0o644);
    put(&far, b"large", &noise(200_000), 0o644);
    let program = ops_tests::lab::binary();
    let full = "exec \"$0\" cp \"$1\" - >/dev/full";
    // 32 KiB of a file; without the signal, so that the write fails.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" cp \"$1\" \"$2\" - >\"$3\"";
    let here = lab.folder("here").join("out");
    let (small, large) = (remote(&far.join("small")), remote(&far.join("large")));
    for (script, summary) in [
        (full, "\n0 copied, 0 B in"),
        (limited, "\n1 copied, 100 B in"),
    ] {
        let args = [
            os("-c"),
            os(script),
            program.clone().into(),
            small.clone(),
            large.clone(),
            here.clone().into(),
        ];
        let done = lab.run("/bin/sh", args).output().exits(8);
        assert!(done.stderr.contains(summary), "{done}");
        assert!(done.stderr.contains(", 1 failed\n"), "{done}");
        let error = "error: cannot write to standard output\n";
        assert_eq!(done.stderr.matches(error).count(), 1, "{done}");
    }
    let begin = noise(100);
    assert_eq!(fs::read(here).unwrap()[..100], begin);
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let lab = Lab::with_sandbox();
    let far = lab.folder("far");
    put(&far, b"big", &noise(8_000_000), 0o644);
    let program = ops_tests::lab::binary();
    let script = "{ \"$0\" cp \"$1\" -; echo \"status $?\" >&2; } | head -c 10 | wc -c";
    let args = [
        os("-c"),
        os(script),
        program.into(),
        remote(&far.join("big")),
    ];
    let done = lab.run("/bin/sh", args).output().success();
    assert_eq!(done.stdout.trim(), "10");
    assert_eq!(done.stderr, "status 0\n");
}
