//! How a run ends: by a signal, by its limit of time, by a client that gives up.

use std::time::{Duration, Instant};

use super::{Shell, begin, eventually, in_every_shell, order, told_folder};
use crate::exec::{folder::Folder, scripts};

#[test]
fn a_signal_that_ends_a_command_is_told_by_every_shell() {
    // Without QUIT, which bash ignores "in all cases" (its manual, SIGNALS), and busybox too, and
    // without ALRM, on which mksh waits for its timer.
    let signals = "HUP 129 INT 130 ILL 132 ABRT 134 FPE 136 KILL 137 USR1 138 SEGV 139 \
                   USR2 140 PIPE 141 TERM 143 XCPU 152 XFSZ 153";
    let words: Vec<&str> = signals.split_whitespace().collect();
    for (name, shell) in Shell::all() {
        for pair in words.chunks(2) {
            let order = order(&format!("kill -{} $$; sleep 60", pair[0]), |_| ());
            let mut session = shell.session(&begin(&order));
            assert_eq!(session.hear("status"), pair[1], "{name}: {}", pair[0]);
            session.acknowledge();
            session.hear("ended");
        }
        eventually(name, "nothing is left", || shell.is_clean());
    }
}

/// The command itself may have ended, and what it has started hold its output.
#[test]
fn a_time_limit_is_kept_by_every_shell() {
    in_every_shell(|name, shell| {
        for line in ["echo begun; sleep 600", "sleep 600 & echo begun"] {
            let order = order(line, |request| {
                request.time_limit = Some(Duration::from_millis(300));
            });
            let mut session = shell.session(&begin(&order));
            assert_eq!(session.hear("status"), "limit", "{name}: {line}");
            assert_eq!(session.out, b"begun\n", "{name}: {line}");
            session.acknowledge();
            session.hear("ended");
            eventually(name, "nothing is left", || shell.is_clean());
        }
    });
}

/// A shell without job control lets what it starts with `&` ignore SIGINT.
#[test]
fn what_ignores_a_signal_holds_the_output_no_longer_than_the_command_lives() {
    let shells = std::sync::atomic::AtomicU32::new(0);
    in_every_shell(|name, shell| {
        let number = shells.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let seconds = format!("62{number}.{}", std::process::id());
        let line = format!("trap 'exit 3' INT; sleep {seconds} & echo ready; wait; exit 4");
        let mut session = shell.session(&begin(&order(&line, |_| ())));
        let folder = told_folder(&session.hear("folder"));
        session.hear("out");
        let word = format!("sleep\0{seconds}");
        eventually(name, "it runs", || shell.has_processes(&word));
        let mut signal = shell.start(&scripts::tell(&folder, "signal INT"));
        assert!(signal.wait().unwrap().success(), "{name}");
        assert_eq!(session.hear("status"), "3", "{name}");
        assert_eq!(session.out, b"ready\n", "{name}");
        // busybox loses one of twenty signals: by another session, as a client does then.
        let mut known = shell.start(&scripts::tell(&folder, "known"));
        assert!(known.wait().unwrap().success(), "{name}");
        drop(session);
        eventually(name, "nothing is left", || {
            shell.is_clean() && !shell.has_processes(&word)
        });
    });
}

/// The signal may come while the folder is made, the command started or the shell about to attach.
#[test]
fn a_client_that_gives_up_at_any_moment_leaves_nothing() {
    let shells = std::sync::atomic::AtomicU32::new(0);
    in_every_shell(|name, shell| {
        let shell_number = shells.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let seconds = format!("60{shell_number}.{}", std::process::id());
        let order = order(&format!("exec sleep {seconds}"), |_| ());
        for milliseconds in (0..30).step_by(3) {
            let folder = Folder::new().unwrap();
            let session = shell.session(&scripts::begin(&order, &folder, 1, true));
            std::thread::sleep(Duration::from_millis(milliseconds));
            session.acknowledge();
            let is_over = || shell.is_clean() && !shell.has_processes(&format!("sleep\0{seconds}"));
            // bash ignores the signal until it reads its script, and busybox loses one of twenty; a
            // client that hears no answer says the same by another session.
            let begin = Instant::now();
            while !is_over() && begin.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _again = (!is_over()).then(|| shell.session(&scripts::tell(&folder, "end")));
            let what = format!("nothing is left after {milliseconds} ms");
            eventually(name, &what, is_over);
        }
    });
}

/// A perl of another processor, or without its library: what it was to do is the shell's then.
#[test]
fn where_perl_cannot_be_run_the_command_is_run_all_the_same() {
    in_every_shell(|name, shell| {
        let perl = shell.folder().join("perl");
        let nothing = ops_test_needs::find("false").unwrap();
        let _ = std::fs::remove_file(&perl);
        std::os::unix::fs::symlink(nothing, perl).unwrap();
        let mut session = shell.session(&begin(&order("echo out; exit 3", |_| ())));
        assert_eq!(session.hear("status"), "3", "{name}");
        assert_eq!(session.out, b"out\n", "{name}");
        session.acknowledge();
        session.hear("ended");
        eventually(name, "nothing is left", || shell.is_clean());
    });
}
