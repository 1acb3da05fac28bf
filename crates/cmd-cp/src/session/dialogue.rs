//! The dialogue that stores things on a server: its script, and a method for each of its commands.

mod output;

use bytes::Bytes;
use ops_remote::pipe::{Far, LOST, Up};
use ops_ui::{Error, Result, hint};

use super::{
    probe::{self, Tools},
    script,
};
use crate::{
    hashes::{Digest, hex},
    remote_path::{RemotePath, Steps},
};

/// What places in a file are counted in, in bytes: see [`Dialogue::frame_at`].
pub(super) const BLOCK_BYTES: u64 = 1 << 20;
/// What is shared out, and compared by itself, in bytes: see [`Dialogue::parts`].
pub(super) const PART_BYTES: u64 = 8 * BLOCK_BYTES;

/// A running dialogue.
pub(super) struct Dialogue {
    up: Up,
    label: String,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Usable,
    /// Ended by what the script said, or by what is missing here.
    GivenUp,
    /// Its session failed under it.
    Lost,
}

/// What came of the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// Empty.
    New,
    /// So much of it is there from before, with its hash.
    Part(u64, Option<Digest>),
}

/// Most that a server tells of its tools, in bytes.
const TOOLS_MAX_BYTES: usize = 64 << 10;

impl Dialogue {
    /// Starts one on a server with `tools`.
    ///
    /// # Errors
    /// As [`Up::dialogue`].
    pub(super) async fn start(far: &Far, tools: &Tools) -> Result<Self> {
        let mut dialogue = Self::start_script(far, Some(tools)).await?;
        dialogue.use_tools(tools);
        Ok(dialogue)
    }

    /// Starts one on a server of which nothing is known, and finds out what it has.
    ///
    /// # Errors
    /// As [`Up::dialogue`]; what it has cannot be read.
    pub(super) async fn open(far: &Far) -> Result<(Self, Tools)> {
        let mut dialogue = Self::start_script(far, None).await?;
        let label = far.instance.label();
        let did_not_say = || Error::unexpected(format!("`{label}` did not say what it has"));
        let mut told = Vec::new();
        let asked = dialogue.ask_for_output("tools", Bytes::new(), |bytes| {
            told.extend_from_slice(bytes);
            if told.len() > TOOLS_MAX_BYTES {
                return Err(did_not_say());
            }
            Ok(())
        });
        asked.await?;
        let tools = Tools::read(&told).ok_or_else(did_not_say)?;
        dialogue.use_tools(&tools);
        Ok((dialogue, tools))
    }

    async fn start_script(far: &Far, tools: Option<&Tools>) -> Result<Self> {
        Ok(Self {
            up: Up::dialogue(far, &text(tools)).await?,
            label: far.instance.label().to_owned(),
            state: State::Usable,
        })
    }

    fn use_tools(&mut self, tools: &Tools) {
        if tools.has("exact") {
            self.up.send_ahead();
        }
    }

    /// Whether it can be asked for anything else; not after a frame that was not taken, nor after a
    /// failure of its session.
    pub(super) fn is_usable(&self) -> bool {
        self.state == State::Usable
    }

    /// Whether its session failed: what was asked for may go well over another.
    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Says that it cannot: what was announced is not coming.
    pub(super) fn give_up(&mut self) {
        if self.is_usable() {
            self.state = State::GivenUp;
        }
    }

    /// Asks for a folder to be made if it is missing;
    /// [`Dialogue::answer`] tells, in this order: [`MADE`] of one that was not there.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn folder_later(&mut self, path: &RemotePath, mode: u32) -> Result<()> {
        let place = place(path.steps());
        self.up.ask(&format!("folder {place} {mode:o}")).await
    }

    /// Makes a link, in the place of a file or link that is there; under the name `temporary`
    /// first.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn link(
        &mut self,
        path: &RemotePath,
        temporary: &[u8],
        target: &[u8],
    ) -> Result<()> {
        // What is behind a link that is there already is not what the new one replaces.
        let place = place(Steps {
            follow: false,
            ..path.steps()
        });
        let (temporary, target) = (script::word(temporary), script::word(target));
        self.ask(&format!("link {place} {temporary} {target}"))
            .await
            .map(drop)
    }

    /// Begins a file under the name `temporary` in its folder; `kept` ones outlive a failure, and
    /// what is there of one is `hashed`.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn begin(
        &mut self,
        path: &RemotePath,
        temporary: &[u8],
        kept: bool,
        hashed: bool,
    ) -> Result<Begun> {
        let answer = self
            .ask(&format!(
                "begin {} {} {} {}",
                place(path.steps()),
                script::word(temporary),
                u8::from(kept),
                u8::from(hashed)
            ))
            .await?;
        let mut words = answer.split_ascii_whitespace();
        if words.next() != Some("have") {
            return Ok(Begun::New);
        }
        let len = words.next().and_then(|len| len.parse().ok()).unwrap_or(0);
        Ok(Begun::Part(
            len,
            words.next().and_then(crate::hashes::unhex),
        ))
    }

    /// The hash of a file, or of its first `len` bytes.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn hash(
        &mut self,
        path: &RemotePath,
        len: Option<u64>,
    ) -> Result<Option<Digest>> {
        let len = len.map_or("-".to_owned(), |len| len.to_string());
        let place = place(path.steps());
        let answer = self.ask(&format!("hash {place} {len}")).await?;
        Ok(answer.strip_prefix("sum ").and_then(crate::hashes::unhex))
    }

    /// Puts `len` bytes of a file from `at` where `url` says; `whole`: it has no others. The URL is
    /// in no command line there.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn push(
        &mut self,
        path: &RemotePath,
        (at, len, whole): (u64, u64, bool),
        url: &str,
    ) -> Result<()> {
        let (place, whole) = (place(path.steps()), u8::from(whole));
        self.ask(&format!("push {place} {at} {len} {whole} {url}"))
            .await
            .map(drop)
    }

    /// Appends what is at `url` to the file that was begun. The URL is in no command line there.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn pull(&mut self, url: &str) -> Result<()> {
        self.ask(&format!("pull {url}")).await.map(drop)
    }

    /// Empties the file that was begun.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.ask("empty").await.map(drop)
    }

    /// Appends a frame to the file, compressed by `codec` or as it is (`-`).
    ///
    /// # Errors
    /// No space, or the session; the dialogue is of no use afterwards.
    pub(super) async fn frame(&mut self, codec: &str, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        if len == 0 {
            return Ok(());
        }
        self.announced(&format!("write {len} {codec}"), bytes).await
    }

    /// Announces `len` bytes for the end of the file, as they are; [`Dialogue::piece`] then sends
    /// them.
    ///
    /// # Errors
    /// As [`Dialogue::frame`].
    pub(super) async fn announce(&mut self, len: u64) -> Result<()> {
        let announced = self.up.announce_line(&format!("write {len} -"), len).await;
        announced.map_err(|error| self.words(error))
    }

    /// Takes part in a file that another dialogue has begun.
    ///
    /// # Errors
    /// It is not there.
    pub(super) async fn attach(
        &mut self,
        path: &RemotePath,
        temporary: &[u8],
        kept: bool,
    ) -> Result<()> {
        let (place, temporary) = (place(path.steps()), script::word(temporary));
        self.ask(&format!("join {place} {temporary} {}", u8::from(kept)))
            .await
            .map(drop)
    }

    /// Leaves the file to the others that take part in it.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn release(&mut self) -> Result<()> {
        self.settle().await?;
        self.ask("release").await.map(drop)
    }

    /// As [`Dialogue::frame`], for the place of block `block`.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn frame_at(&mut self, codec: &str, bytes: Bytes, block: u64) -> Result<()> {
        let len = bytes.len() as u64;
        self.announced(&format!("write-at {len} {codec} {block}"), bytes)
            .await
    }

    /// As [`Dialogue::announce`], for the place of block `block`.
    ///
    /// # Errors
    /// As [`Dialogue::frame`].
    pub(super) async fn announce_at(&mut self, len: u64, block: u64) -> Result<()> {
        let announced = self
            .up
            .announce_line(&format!("write-at {len} - {block}"), len)
            .await;
        announced.map_err(|error| self.words(error))
    }

    /// A part of the frame that was announced.
    ///
    /// # Errors
    /// As [`Dialogue::frame`].
    pub(super) async fn piece(&mut self, bytes: Bytes) -> Result<()> {
        let sent = self.up.piece(bytes).await;
        sent.map_err(|error| self.words(error))
    }

    /// The hashes of `count` parts of the file from part `first` on.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn parts(&mut self, first: u64, count: u64) -> Result<Vec<Option<Digest>>> {
        self.settle().await?;
        let answer = self.ask(&format!("sums {first} {count}")).await?;
        let words = answer.split_ascii_whitespace().skip(1);
        Ok(words.map(crate::hashes::unhex).collect())
    }

    /// Verifies the file and puts it into place.
    ///
    /// # Errors
    /// It is not what was sent, or cannot be put there.
    pub(super) async fn end(&mut self, file: &End) -> Result<()> {
        self.settle().await?;
        let digest = file.digest.map_or("-".to_owned(), |digest| hex(&digest));
        let stamp = file.stamp.as_deref().unwrap_or("-");
        self.ask(&format!(
            "end {digest} {} {} {:o} {stamp}",
            file.size,
            u8::from(file.exact),
            file.mode,
        ))
        .await
        .map(drop)
    }

    /// Leaves the file that was begun; without `--resume` it goes.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn leave(&mut self) -> Result<()> {
        self.settle().await?;
        self.ask("leave").await.map(drop)
    }

    /// Sets the mode and, if there is a `stamp`, the time of a folder.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn attributes(
        &mut self,
        path: &RemotePath,
        mode: u32,
        stamp: Option<&str>,
    ) -> Result<()> {
        let (root, folders) = (script::word(path.root()), script::word(path.below()));
        let stamp = stamp.unwrap_or_default();
        self.ask(&format!("attributes {root} {folders} {mode:o} {stamp}"))
            .await
            .map(drop)
    }

    /// Makes a private folder for an archive.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn stage(&mut self, path: &RemotePath) -> Result<()> {
        let place = place(path.steps());
        self.ask(&format!("stage {place}")).await.map(drop)
    }

    /// Begins to unpack into the stage; [`Dialogue::part`] follows, then [`Dialogue::unpacked`].
    /// `times`: as in the archive.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn unpack(&mut self, times: bool) -> Result<()> {
        let times = if times { "-" } else { "m" };
        self.ask(&format!("unpack {times}")).await.map(drop)
    }

    /// A part of the archive.
    ///
    /// # Errors
    /// It cannot be unpacked; the dialogue is of no use afterwards.
    pub(super) async fn part(&mut self, codec: &str, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        if len == 0 {
            return Ok(());
        }
        self.announced(&format!("{len} {codec}"), bytes).await
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// It could not be unpacked.
    pub(super) async fn unpacked(&mut self) -> Result<()> {
        self.settle().await?;
        self.up.ask("0").await?;
        self.ask("unpacked").await.map(drop)
    }

    /// Unpacks into the stage the archive that is at `url`, if it has this SHA-256. The URL is in
    /// no command line there.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn unpack_from(
        &mut self,
        url: &str,
        codec: &str,
        digest: Digest,
        times: bool,
    ) -> Result<()> {
        let (times, digest) = (if times { "-" } else { "m" }, hex(&digest));
        self.ask(&format!("unpack-from {times} {codec} {digest} {url}"))
            .await
            .map(drop)
    }

    /// The hash of the sorted hashes of all that was unpacked, each with a line feed.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn sum(&mut self) -> Result<Option<Digest>> {
        let answer = self.ask("verify").await?;
        Ok(answer.strip_prefix("sum ").and_then(crate::hashes::unhex))
    }

    /// Asks for the files of `sub` of the stage to be moved into `folder`;
    /// [`Dialogue::answer`] tells, in this order. Unless `exact`, those that replace others take
    /// their modes and owners. Where something is in the way that is neither file nor link none is
    /// moved.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn spread(
        &mut self,
        sub: &[u8],
        folder: &RemotePath,
        exact: bool,
    ) -> Result<()> {
        let (sub, exact) = (script::word(sub), u8::from(exact));
        let (root, folders) = (script::word(folder.root()), script::word(folder.below()));
        self.up
            .ask(&format!("spread {sub} {root} {folders} {exact}"))
            .await
    }

    /// Removes the stage.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn clear(&mut self) -> Result<()> {
        self.ask("clear").await.map(drop)
    }

    /// Ends the dialogue, so that nothing is left behind when this returns.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn quit(mut self) -> Result<()> {
        let asked = self.up.ask("quit").await;
        asked.map_err(|error| self.words(error))?;
        // Its sessions end with it; the terminal's own end comes a second late, but where its
        // connection was lost it can come before the answer.
        self.up.next().await.map(drop)
    }

    /// The next answer: `ok` and more, or the server's words as an error.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn answer(&mut self) -> Result<String> {
        let next = self.up.next().await;
        if !matches!(next, Ok(Some(_))) {
            self.state = State::Lost;
        }
        match next? {
            Some(text) => {
                if let Some(why) = text.strip_prefix("no ") {
                    return Err(refusal(&self.label, why));
                }
                if let Some(why) = text.strip_prefix(LOST) {
                    self.state = State::GivenUp;
                    return Err(refusal(&self.label, why));
                }
                Ok(text)
            }
            None => Err(self.up.failed(format!("`{}` takes no more", self.label))),
        }
    }

    async fn announced(&mut self, line: &str, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        let taken = match self.up.announce_line(line, len).await {
            Ok(()) => self.up.piece(bytes).await,
            Err(error) => Err(error),
        };
        taken.map_err(|error| self.words(error))
    }

    async fn ask(&mut self, line: &str) -> Result<String> {
        let asked = self.up.ask(line).await;
        asked.map_err(|error| self.words(error))?;
        self.answer().await
    }

    /// Waits until the last frame is written.
    ///
    /// # Errors
    /// As [`Dialogue::frame`].
    pub(super) async fn settle(&mut self) -> Result<()> {
        let credit = self.up.credit().await;
        credit.map_err(|error| self.words(error))
    }

    /// The error of a frame that was not taken: what the script said stands in it as it is.
    fn words(&mut self, error: Error) -> Error {
        if let Some(why) = error.what().strip_prefix(LOST) {
            self.state = State::GivenUp;
            return refusal(&self.label, why);
        }
        self.state = State::Lost;
        error
    }
}

/// How a file ends.
pub(super) struct End {
    pub(super) digest: Option<Digest>,
    pub(super) size: u64,
    pub(super) mode: u32,
    /// The mode is set even where a file with another is replaced.
    pub(super) exact: bool,
    /// For touch.
    pub(super) stamp: Option<String>,
}

/// What a full file system or a quota is called. Source: `strerror` of ENOSPC and EDQUOT.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// The server's words about one file.
fn refusal(label: &str, why: &str) -> Error {
    // A shell puts its own name and a line's number in front.
    let why = why.trim();
    let why = why.strip_prefix("sh: ").map_or(why, |rest| {
        rest.split_once(": ").map_or(rest, |(_, rest)| rest)
    });
    let error = Error::unexpected(format!("`{label}` says: {why}"));
    if FULL.iter().any(|words| why.contains(words)) {
        return error.hint(hint!("make room there: ops shell {}", label));
    }
    error
}

/// `mtime` as touch takes it, for a time zone of UTC; what lies before 1970, or beyond what a date
/// can say, becomes 1970.
pub(super) fn stamp(mtime: i64) -> String {
    let time = jiff::Timestamp::from_second(mtime.max(0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%d%H%M.%S").to_string()
}

/// The answer of a folder that was missing and is there now.
pub(super) const MADE: &str = "ok new";

/// Moves files of the stage into one folder.
pub(super) const SPREAD: &str = include_str!("scripts/spread.sh");
/// The commands and their answers: the table at its top tells them.
const DIALOGUE: &str = include_str!("scripts/dialogue.sh");

/// The script as it is sent; to a server of which `tools` are not known yet, it finds them out
/// itself.
pub(super) fn text(tools: Option<&Tools>) -> String {
    let known = tools.map_or_else(probe::probing_script, Tools::prelude);
    format!(
        "{known}private=$d\nspread_program='{}'\n{}{}",
        script::compact(SPREAD),
        script::compact(script::ENTER),
        script::compact(DIALOGUE),
    )
}

/// PLACE of the script's table.
pub(super) fn place(steps: Steps<'_>) -> String {
    format!(
        "{} {} {} {}",
        script::word(steps.root),
        script::word(steps.folders),
        script::word(steps.name),
        u8::from(steps.follow)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_touch_takes_it() {
        assert_eq!(stamp(0), "197001010000.00");
        assert_eq!(stamp(951_827_696), "200002291234.56");
        assert_eq!(stamp(1_700_000_000), "202311142213.20");
        assert_eq!(stamp(-5), "197001010000.00");
    }

    #[test]
    fn the_words_of_a_shell_lose_its_name() {
        let error = refusal("web-1", "sh: 12: cannot create /x: Permission denied ");
        assert_eq!(
            error.what(),
            "`web-1` says: cannot create /x: Permission denied"
        );
    }
}
