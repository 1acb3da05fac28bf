//! Whoever writes a note of a run may be killed between the two calls that empty a file and fill
//! it: what comes after goes on as if nothing had been.

use std::{
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use super::{Shell, ShellSession, begin, in_every_shell, order, told_folder};
use crate::exec::{folder::Folder, position::Position, scripts};

/// In front of the engine: the shell that plays `role` is killed where it writes for the `at`th
/// time. What it was about to write into is empty then, since a redirection comes before the
/// command.
fn killing(role: &str, at: usize) -> String {
    format!(
        "echo() {{\n\
         if [ \"$role\" = {role} ]; then\n\
         written=$((${{written:-0}} + 1))\n\
         [ \"$written\" != {at} ] || kill -KILL \"$$\"\n\
         fi\n\
         printf \"%s\\n\" \"$*\"\n\
         }}\n"
    )
}

/// Puts `text` in front of the engine in `folder`, for what is started from now on; gives the
/// engine.
fn put_in_front(folder: &Folder, text: &str) -> String {
    let engine = Path::new(folder.path().unwrap()).join("engine");
    let engine = std::fs::read_to_string(engine).unwrap();
    put_engine(folder, &format!("{text}{engine}"));
    engine
}

/// In another file in its place: a shell reads its script as it goes.
fn put_engine(folder: &Folder, text: &str) {
    let engine = Path::new(folder.path().unwrap()).join("engine");
    let draft = engine.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, engine).unwrap();
}

/// An `enter` of a run, which reads a pipe in place of a terminal.
struct Entered {
    child: Child,
    turn: u32,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // It may have gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Entered {
    fn start(shell: &Shell, folder: &Folder, turn: u32) -> Self {
        let child = shell.start(&scripts::enter(folder, turn, None));
        Self { child, turn }
    }

    fn is_killed(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Fails without a word where it was killed.
    fn send(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        let _ = stdin.write_all(text.as_bytes());
    }

    /// Reads `session` until `found` finds something there; `None` where this was killed before.
    fn waits<T>(
        &mut self,
        session: &mut ShellSession,
        mut found: impl FnMut(&mut ShellSession) -> Option<T>,
    ) -> Option<T> {
        let begin = Instant::now();
        loop {
            // In this order: what it has said before it was killed is on its way.
            let was_killed = self.is_killed();
            let pause = Duration::from_millis(if was_killed { 300 } else { 20 });
            while let Ok(piece) = session.pieces.recv_timeout(pause) {
                session.read(&piece);
            }
            if let Some(found) = found(session) {
                return Some(found);
            }
            if was_killed {
                return None;
            }
            assert!(begin.elapsed() < super::PATIENCE, "{:?}", session.messages);
        }
    }

    /// How many frames are stored, and whether others may follow one at once.
    fn hears_up(&mut self, session: &mut ShellSession) -> Option<(usize, bool)> {
        let up = format!("up {} ", self.turn);
        self.waits(session, |session| {
            let mut messages = session.messages.iter();
            let (stored, rest) =
                messages.find_map(|text| text.strip_prefix(&up)?.split_once(' '))?;
            Some((stored.parse().unwrap(), rest == "exact"))
        })
    }

    /// Sends what is missing of `frames`, one by one, and the end, and gives the status of the
    /// command that has written them all before it was told of the end.
    fn carry(&mut self, session: &mut ShellSession, frames: &[&str]) -> Option<String> {
        let (stored, is_exact) = self.hears_up(session)?;
        // The client keeps no frame that was stored once, and sends none a second time.
        let told = session.messages.iter().filter_map(|text| {
            let stored = text.strip_prefix("in ")?.split(' ').next()?;
            stored.parse().ok()
        });
        let told: usize = told.max().unwrap_or(0);
        assert!(told <= stored, "{told} were stored, and now {stored} are");
        for (number, frame) in frames.iter().enumerate().skip(stored) {
            if is_exact {
                self.send(&format!("in {} marked\n{frame}.\n", frame.len()));
            } else {
                self.send(&format!("in {}\n{frame}", frame.len()));
            }
            let stored = format!("in {} ", number + 1);
            self.waits(session, |session| {
                let mut messages = session.messages.iter();
                messages.any(|text| text.starts_with(&stored)).then_some(())
            })?;
        }
        let all = frames.concat();
        self.waits(session, |session| {
            (session.out == all.as_bytes()).then_some(())
        })?;
        self.send("end\n");
        self.waits(session, |session| {
            let mut messages = session.messages.iter();
            messages.find_map(|text| text.strip_prefix("status ").map(str::to_owned))
        })
    }
}

#[test]
fn an_input_goes_on_wherever_the_shell_that_stored_it_was_killed() {
    in_every_shell(|name, shell| {
        let terminal = shell.folder().join("stty");
        // One of busybox is there.
        let _ = std::fs::remove_file(&terminal);
        symlink(ops_test_needs::find("true").unwrap(), terminal).unwrap();
        let frames = ["one\n", "two\n"];
        for at in 1.. {
            let order = order("cat; exit 4", |request| request.stdin = true);
            let mut session = shell.session(&begin(&order));
            let folder = told_folder(&session.hear("folder"));
            session.hear("running");
            let engine = put_in_front(&folder, &killing("enter", at));
            let first = Entered::start(shell, &folder, 1).carry(&mut session, &frames);
            let was_killed = first.is_none();
            let status = first.or_else(|| {
                put_engine(&folder, &engine);
                Entered::start(shell, &folder, 2).carry(&mut session, &frames)
            });
            assert_eq!(status.as_deref(), Some("4"), "{name}: write {at}");
            assert_eq!(session.out, b"one\ntwo\n", "{name}: write {at}");
            session.acknowledge();
            session.hear("ended");
            if !was_killed {
                break;
            }
        }
        super::eventually(name, "nothing is left", || shell.is_clean());
    });
}

#[test]
fn an_output_goes_on_wherever_the_shell_that_sent_it_was_killed() {
    in_every_shell(|name, shell| {
        let begin_at = Position::default();
        for at in 1.. {
            let order = order("echo out; echo err >&2; exit 3", |_| ());
            let mut session = shell.session(&begin(&order));
            let folder = told_folder(&session.hear("folder"));
            session.hear("status");
            drop(session);
            let engine = put_in_front(&folder, &killing("attach", at));
            let script = |turn| scripts::attach(&folder, turn, &begin_at, &begin_at, true);
            let mut second = shell.session(&script(2));
            while let Ok(piece) = second.pieces.recv_timeout(super::PATIENCE) {
                second.read(&piece);
                if second
                    .messages
                    .iter()
                    .any(|text| text.starts_with("status"))
                {
                    break;
                }
            }
            let was_killed = second
                .messages
                .iter()
                .all(|text| !text.starts_with("status"));
            drop(second);
            put_engine(&folder, &engine);
            let mut third = shell.session(&script(3));
            assert_eq!(third.hear("status"), "3", "{name}: write {at}");
            let streams = (&third.out[..], &third.err[..]);
            assert_eq!(
                streams,
                (&b"out\n"[..], &b"err\n"[..]),
                "{name}: write {at}"
            );
            third.acknowledge();
            third.hear("ended");
            if !was_killed {
                break;
            }
        }
        super::eventually(name, "nothing is left", || shell.is_clean());
    });
}
