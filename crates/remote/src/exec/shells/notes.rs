//! Whoever writes a note of a run may be killed between the two calls that empty a file and fill it:
//! what comes after goes on as if nothing had been.

use std::{io::Write as _, os::unix::fs::symlink, process::Child};

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

/// Puts `text` in front of the engine in `folder`, for what is started from now on.
fn put_in_front(folder: &Folder, text: &str) -> String {
    let engine = std::path::Path::new(folder.path().unwrap()).join("engine");
    let before = std::fs::read_to_string(&engine).unwrap();
    // Another file in its place: a shell reads its script as it goes.
    let draft = engine.with_extension("draft");
    std::fs::write(&draft, format!("{text}{before}")).unwrap();
    std::fs::rename(draft, &engine).unwrap();
    before
}

fn put_back(folder: &Folder, text: &str) {
    let engine = std::path::Path::new(folder.path().unwrap()).join("engine");
    let draft = engine.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, engine).unwrap();
}

/// An `enter` of a run, which reads a pipe in place of a terminal.
struct Entered {
    child: Child,
    turn: u32,
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
        let _ = self
            .child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(text.as_bytes());
    }

    /// The next message of `session` that `wanted` finds something in; `None` where this was killed
    /// before.
    fn hears<T>(
        &mut self,
        session: &mut ShellSession,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let mut was_killed = false;
        loop {
            while let Some(text) = session.messages.pop_front() {
                if let Some(found) = wanted(&text) {
                    return Some(found);
                }
            }
            // What it has said before that is on its way.
            if was_killed {
                return None;
            }
            was_killed = self.is_killed();
            let pause = std::time::Duration::from_millis(if was_killed { 300 } else { 20 });
            while let Ok(piece) = session.pieces.recv_timeout(pause) {
                session.read(&piece);
            }
        }
    }

    /// How many frames are stored, and whether others may follow one at once.
    fn hears_up(&mut self, session: &mut ShellSession) -> Option<(usize, bool)> {
        let turn = self.turn.to_string();
        self.hears(session, |text| {
            let words: Vec<&str> = text.split(' ').collect();
            match words[..] {
                ["up", told, stored, ref rest @ ..] if told == turn => {
                    Some((stored.parse().unwrap(), rest == ["exact"]))
                }
                _ => None,
            }
        })
    }

    fn hears_stored(&mut self, session: &mut ShellSession, wanted: usize) -> Option<()> {
        self.hears(session, |text| {
            let stored = text.strip_prefix("in ")?.split(' ').next()?;
            (stored.parse() == Ok(wanted)).then_some(())
        })
    }
}

/// Sends what is missing of `frames`, one by one; `None` where the shell was killed before all were
/// stored.
fn send_frames(
    entered: &mut Entered,
    session: &mut ShellSession,
    frames: &[&str],
    told: &mut usize,
) -> Option<()> {
    let (stored, is_exact) = entered.hears_up(session)?;
    assert!(
        stored >= *told,
        "{stored} frames are stored, and {told} were"
    );
    for (number, frame) in frames.iter().enumerate().skip(stored) {
        if is_exact {
            entered.send(&format!("in {} marked\n{frame}.\n", frame.len()));
        } else {
            entered.send(&format!("in {}\n{frame}", frame.len()));
        }
        entered.hears_stored(session, number + 1)?;
        *told = number + 1;
    }
    Some(())
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
            let mut told = 0;
            let mut entered = Entered::start(shell, &folder, 1);
            let sent = send_frames(&mut entered, &mut session, &frames, &mut told);
            if sent.is_none() {
                put_back(&folder, &engine);
                entered = Entered::start(shell, &folder, 2);
                let sent = send_frames(&mut entered, &mut session, &frames, &mut told);
                assert_eq!(sent, Some(()), "{name}: write {at}");
            }
            // All of it is handed on without another word.
            while session.out != b"one\ntwo\n" {
                let piece = session.pieces.recv_timeout(super::PATIENCE);
                let so_far = String::from_utf8_lossy(&session.out).into_owned();
                let piece = piece.unwrap_or_else(|_| panic!("{name}: write {at}: {so_far}"));
                session.read(&piece);
            }
            let status = |text: &str| text.strip_prefix("status ").map(str::to_owned);
            entered.send("end\n");
            let mut ended = entered.hears(&mut session, status);
            let was_killed = sent.is_none() || ended.is_none();
            if ended.is_none() {
                put_back(&folder, &engine);
                entered = Entered::start(shell, &folder, 3);
                entered.send("end\n");
                ended = entered.hears(&mut session, status);
            }
            assert_eq!(ended.as_deref(), Some("4"), "{name}: write {at}");
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
            put_back(&folder, &engine);
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
