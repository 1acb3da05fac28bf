//! What there is to say about the connection while a session runs, on stderr and never over what
//! the far side wrote.
//!
//! At a prompt it is a line of its own. While a full-screen program has the terminal it is a line
//! at the bottom that goes away again, or the terminal's title: see [`FullScreen`] and [`Title`].

use std::time::Duration;

use ops_core::trouble::{Notice, Observer};
use ops_profile::Notices;
use ops_session::driver::Event;
use ops_ui::{Output, Text, terminal};
use tokio::time::Instant;

use super::{escape::EscapeChar, full_screen::FullScreen, manner::Manner, title::Title};

/// Between two notes that the agent is still silent.
const STILL: Duration = Duration::from_secs(30);

/// Tells the user what happens to the connection of one session.
pub(crate) struct Notes<'a> {
    output: &'a Output,
    /// What the instance is called.
    label: &'a str,
    /// How the user can leave; nothing where there is no escape.
    way_out: String,
    observer: Observer,
    /// The cursor may stand within a line of the far side's.
    within_line: bool,
    /// Since when the agent is silent, and when to say so again.
    silent: Option<(Instant, Instant)>,
    /// Where news are told while a program has the whole screen.
    notices: Notices,
    /// While a program has the whole screen.
    over_program: Option<OverProgram>,
}

/// How news are told while a program has the whole screen.
enum OverProgram {
    LastLine(Box<FullScreen>),
    Title(Title),
}

impl<'a> Notes<'a> {
    /// For a session on the instance called `label`; `escape` works only where there is a terminal.
    pub(crate) fn new(output: &'a Output, label: &'a str, manner: Manner, terminal: bool) -> Self {
        let Manner { escape, notices } = manner;
        let way_out = if terminal && escape != EscapeChar::NONE {
            format!("; Enter {escape} . ends the session")
        } else {
            String::new()
        };
        Self {
            output,
            label,
            way_out,
            observer: Observer::patient(),
            within_line: false,
            silent: None,
            notices,
            over_program: None,
        }
    }

    /// What the instance is called.
    pub(crate) fn label(&self) -> &'a str {
        self.label
    }

    /// The far side has written `bytes`, after which the terminal shows the alternate screen or
    /// does not.
    pub(crate) fn wrote(&mut self, bytes: &[u8], alternate_screen: bool) {
        let is_terminal = self.output.stdout_is_terminal();
        self.within_line = is_terminal && bytes.last() != Some(&b'\n');
        if !(alternate_screen && is_terminal && self.output.stderr_is_terminal()) {
            self.forget_program();
        } else if self.notices == Notices::Title {
            self.over_program
                .get_or_insert_with(|| OverProgram::Title(Title::default()));
        } else if let Some(size) = terminal::size()
            && let OverProgram::LastLine(full_screen) = self
                .over_program
                .get_or_insert_with(|| OverProgram::LastLine(Box::new(FullScreen::new(size))))
        {
            full_screen.observe(bytes, size);
        }
    }

    /// No program has the whole screen any more. A line of ours on it has gone with it; the title
    /// is the terminal's, and stays until it is given back.
    fn forget_program(&mut self) {
        if let Some(OverProgram::Title(mut title)) = self.over_program.take() {
            let label = ops_ui::text::escape(self.label);
            self.output.draw_over_program(&title.give_back(&label));
        }
    }

    /// Something has happened to the session.
    pub(crate) fn hear(&mut self, event: &Event) {
        if let Some(notice) = self.observer.hear(Instant::now(), event) {
            self.tell(&notice);
        }
    }

    /// Waits until time has made something worth saying: [`Notes::say_due`]. Cancel-safe.
    pub(crate) async fn due(&self) {
        let still_silent = async {
            match self.silent {
                Some((_, next)) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.observer.wake() => {}
            () = still_silent => {}
        }
    }

    /// Says what is due.
    pub(crate) fn say_due(&mut self) {
        let now = Instant::now();
        while let Some(notice) = self.observer.poll(now) {
            self.tell(&notice);
        }
        if let Some((since, next)) = self.silent
            && now >= next
        {
            let waited = since.elapsed();
            self.tell(&Notice::Silent { waited });
        }
    }

    fn tell(&mut self, notice: &Notice) {
        let text = format!("{}: {notice}", self.label);
        match notice {
            Notice::Lost { .. } => self.say(&format!("{text}{}", self.way_out)),
            Notice::NotBack { .. } => self.say(&text),
            Notice::Silent { waited } => {
                let now = Instant::now();
                let way_out = match self.silent {
                    None => self.way_out.as_str(),
                    Some(_) => "",
                };
                let text = format!("{text}{way_out}");
                self.silent = Some((now.checked_sub(*waited).unwrap_or(now), now + STILL));
                self.say(&text);
            }
            Notice::Resumed { .. } | Notice::Answers => {
                self.silent = None;
                self.say_good_news(&text);
            }
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(over_program) = &mut self.over_program {
            if !self.output.quiet() {
                let text = ops_ui::text::escape(text);
                let drawn = match over_program {
                    OverProgram::LastLine(full_screen) => full_screen.cover(&text),
                    OverProgram::Title(title) => title.take(&text),
                };
                self.output.draw_over_program(&drawn);
            }
            return;
        }
        let start = if std::mem::take(&mut self.within_line) {
            "\n"
        } else {
            ""
        };
        self.output.note(Text::from(start).then(text.to_owned()));
    }

    /// A full-screen program that has its screen back is the news.
    fn say_good_news(&mut self, text: &str) {
        let drawn = match &mut self.over_program {
            Some(OverProgram::LastLine(full_screen)) => full_screen.uncover(),
            Some(OverProgram::Title(title)) => title.give_back(&ops_ui::text::escape(self.label)),
            None => return self.say(text),
        };
        self.output.draw_over_program(&drawn);
    }

    /// The session is over, and not by the user's doing; `text` is what the service says of it,
    /// often nothing.
    pub(crate) fn over(&mut self, text: &str) {
        let why = if text.is_empty() {
            "it was ended on the other side, which gave no reason"
        } else {
            text
        };
        // What ends the session ends the program too, and its screen is left behind.
        self.forget_program();
        self.say(&format!("the session on {} is over: {why}", self.label));
    }

    /// What was typed just now went nowhere.
    pub(crate) fn swallowed(&mut self) {
        self.say("what was typed since then is dropped: it was meant for the session");
    }
}
