//! Choosing servers on the terminal: typing searches, arrows move, Enter takes, Esc leaves.
//!
//! Drawn on stderr, so that a command's result stays clean; the terminal is given back on every way
//! out. The list may still be on its way: rows are shown as their pages arrive.

mod keys;
mod rows;
mod screen;
mod search;

use std::{fmt::Write as _, sync::mpsc::TryRecvError};

use ops_profile::Instance;
use ops_ui::{
    Error, ErrorKind, Output, Result,
    terminal::{self, RawMode},
};
use tokio::sync::mpsc;

use self::{
    keys::{Bell, Heard, Key, Keys},
    screen::{Next, Screen},
};
use crate::recent::Recent;

/// Servers that are shown at most where nothing can be drawn.
const NUMBERED: usize = 40;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The question itself.
    pub(crate) text: String,
    /// Whether more than one can be marked and taken.
    pub(crate) takes_several: bool,
    /// Whether nobody could know that it comes: what was typed before is then no choice among what
    /// nobody had seen, unless it leaves.
    pub(crate) is_surprise: bool,
    /// Whether the servers are in several regions.
    pub(crate) names_region: bool,
}

/// News of the list.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Further instances, of whose agents nothing is known yet.
    Page(Vec<Instance>),
    /// All of them, in place of those before.
    Whole {
        instances: Vec<Instance>,
        /// What the list lacks, in a few words.
        note: Option<String>,
    },
    /// There is no list: nothing can be chosen.
    Failed,
}

/// Asks which of the instances that come through `feed`, at any time, are meant; `None` when the
/// user leaves without a choice. `recents` are those that were used last.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) async fn pick_from(
    output: &Output,
    question: Question,
    recents: Vec<Recent>,
    mut feed: mpsc::UnboundedReceiver<Feed>,
) -> Result<Option<Vec<Instance>>> {
    if !output.draws() {
        return by_number(output, question, feed).await;
    }
    // The list is drawn where keys are waited for, in a thread of its own. This side rings when
    // something has come for it; when this future is dropped, the bell's end is heard there too.
    let (ringer, bell) = bell()?;
    let (news, inbox) = std::sync::mpsc::channel();
    let drawn_on = output.clone();
    let mut drawing = tokio::task::spawn_blocking(move || {
        let screen = Screen::new(question, recents);
        draw_until_chosen(&drawn_on, screen, &inbox, &bell)
    });
    let mut sizes = Sizes::listen();
    let mut is_fed = true;
    loop {
        tokio::select! {
            chosen = &mut drawing => {
                return chosen.map_err(|_| Error::unexpected("the choice could not be read"))?;
            }
            piece = feed.recv(), if is_fed => match piece {
                // Whoever does not listen any more is about to return.
                Some(piece) => { let _ = news.send(piece); }
                None => { is_fed = false; continue; }
            },
            () = sizes.changed() => {}
        }
        ring(&ringer);
    }
}

#[cfg(unix)]
fn bell() -> Result<(Bell, Bell)> {
    let (ringer, bell) = Bell::pair()?;
    // A bell that has rung so often that nothing fits into it is heard all the same.
    ringer.set_nonblocking(true)?;
    Ok((ringer, bell))
}

#[cfg(unix)]
fn ring(ringer: &Bell) {
    use std::io::Write as _;
    let mut ringer = ringer;
    let _ = ringer.write(&[0]);
}

#[cfg(not(unix))]
fn bell() -> Result<(Bell, Bell)> {
    Ok(((), ()))
}

#[cfg(not(unix))]
fn ring(_ringer: &Bell) {}

/// Changes of the terminal's size.
struct Sizes {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Sizes {
    fn listen() -> Self {
        Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())
                .ok(),
        }
    }

    async fn changed(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Draws the list and does what keys and news say, until something is chosen or nothing will be.
fn draw_until_chosen(
    output: &Output,
    mut screen: Screen,
    inbox: &std::sync::mpsc::Receiver<Feed>,
    bell: &Bell,
) -> Result<Option<Vec<Instance>>> {
    let raw = RawMode::enable(output.raw_lines())?;
    // Shown again by the restoring of the terminal, whatever happens.
    raw.undo_with(b"\x1b[?25h".to_vec());
    let mut drawn = 0;
    let mut keys = Keys::default();
    while screen.is_surprise() && keys.is_more_typed() {
        match keys.next(bell)? {
            Heard::Key(Key::Leave) => return Ok(None),
            Heard::Key(Key::Interrupt) => return Err(interrupted()),
            _ => {}
        }
    }
    let chosen = choose(&mut screen, &mut keys, inbox, bell, |screen| {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        let frame = screen.frame(usize::from(columns), usize::from(rows));
        output.draw_picker(&redraw(drawn, &frame));
        drawn = frame.len();
    });
    output.draw_picker(&redraw(drawn, &[]));
    drop(raw);
    chosen
}

/// Does what keys and news say, and calls `draw` for what they have changed.
fn choose(
    screen: &mut Screen,
    keys: &mut Keys,
    inbox: &std::sync::mpsc::Receiver<Feed>,
    bell: &Bell,
    mut draw: impl FnMut(&mut Screen),
) -> Result<Option<Vec<Instance>>> {
    // The bell may have been heard among keys that did not count, and news may have come before
    // there was anybody to hear it: what they say is done, since they come once.
    let mut next = take_news(screen, inbox);
    loop {
        match next {
            Next::GoOn => {}
            Next::Leave => return Ok(None),
            Next::Interrupt => return Err(interrupted()),
            Next::Take(chosen) => return Ok(Some(chosen)),
        }
        // Who types faster than this draws sees the last of it.
        if !keys.is_more_typed() {
            draw(screen);
        }
        next = match keys.next(bell)? {
            Heard::Key(key) => screen.press(key),
            Heard::Bell => take_news(screen, inbox),
        };
    }
}

/// In raw mode Ctrl-C is a key, and means what it means to any other command.
fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted")
}

/// Puts everything that has come into the list.
fn take_news(screen: &mut Screen, inbox: &std::sync::mpsc::Receiver<Feed>) -> Next {
    loop {
        match inbox.try_recv() {
            Ok(feed) => match screen.feed(feed) {
                Next::GoOn => {}
                next => return next,
            },
            Err(TryRecvError::Empty) => return Next::GoOn,
            // The command was interrupted.
            Err(TryRecvError::Disconnected) => return Next::Leave,
        }
    }
}

/// Goes back over `drawn` lines and writes `frame` in their place.
fn redraw(drawn: usize, frame: &[String]) -> String {
    let mut text = String::from("\x1b[?25l");
    if drawn > 1 {
        let _ = write!(text, "\x1b[{}A", drawn - 1);
    }
    text.push_str("\r\x1b[J");
    text.push_str(&frame.join("\r\n"));
    if frame.is_empty() {
        text.push_str("\x1b[?25h");
    }
    text
}

/// Asks by number on a terminal on which nothing can be drawn (`TERM=dumb`).
async fn by_number(
    output: &Output,
    question: Question,
    mut feed: mpsc::UnboundedReceiver<Feed>,
) -> Result<Option<Vec<Instance>>> {
    let mut instances = loop {
        match feed.recv().await {
            Some(Feed::Page(_)) => {}
            Some(Feed::Whole { instances, .. }) => break instances,
            Some(Feed::Failed) | None => return Ok(None),
        }
    };
    instances.sort_by(|a, b| (a.label(), &a.id).cmp(&(b.label(), &b.id)));
    for (at, instance) in instances.iter().take(NUMBERED).enumerate() {
        output.warn_line(format!(
            "{:>3}  {}  {}",
            at + 1,
            instance.label(),
            instance.id
        ));
    }
    if instances.len() > NUMBERED {
        output.warn_line(format!("and {} more", instances.len() - NUMBERED));
    }
    let asked = format!("{} Its number: ", question.text);
    let answer = output.ask(asked).await?.unwrap_or_default();
    let number = answer.trim().parse::<usize>().ok();
    let at = number.and_then(|number| number.checked_sub(1));
    Ok(at
        .filter(|&at| at < instances.len().min(NUMBERED))
        .map(|at| vec![instances.swap_remove(at)]))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// On a busy machine a list may have failed before the thread that draws it runs at all.
    #[test]
    fn a_list_that_has_failed_already_is_left_without_being_drawn() {
        let question = Question {
            text: "which server?".to_owned(),
            takes_several: false,
            is_surprise: false,
            names_region: false,
        };
        let mut screen = Screen::new(question, Vec::new());
        let (news, inbox) = std::sync::mpsc::channel();
        news.send(Feed::Failed).unwrap();
        // A bell that has ended is heard at once: where the news was lost, nothing hangs here.
        let (ringer, bell) = bell().unwrap();
        drop((ringer, news));
        let mut drawn = 0;
        let chosen = choose(&mut screen, &mut Keys::default(), &inbox, &bell, |_| {
            drawn += 1;
        });
        assert!(chosen.unwrap().is_none());
        assert_eq!(drawn, 0);
    }
}
