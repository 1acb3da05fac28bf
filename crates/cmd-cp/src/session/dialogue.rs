//! The dialogue that stores things on a server: its script, and a method for each of its commands.

mod output;

use bytes::Bytes;
use ops_remote::pipe::{LOST, ScriptHost, UpPipe};
use ops_remote::script::compact;
use ops_ui::{Error, Result};

use super::{
    probe::{self, Tools},
    refusal::refusal_error,
    script,
};
use crate::{
    hashes::{Digest, hex},
    remote_path::{RemotePath, Steps},
};

/// A running dialogue.
pub(super) struct Dialogue {
    up: UpPipe,
    label: String,
    state: DialogueState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DialogueState {
    Usable,
    /// Ended by what the script said, or by what is missing here.
    GivenUp,
    /// Its session failed under it.
    Lost,
}

/// What came of the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeginAnswer {
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
    /// As [`UpPipe::dialogue`].
    pub(super) async fn start(host: &ScriptHost, tools: &Tools) -> Result<Self> {
        let mut dialogue = Self::start_script(host, Some(tools)).await?;
        dialogue.use_tools(tools);
        Ok(dialogue)
    }

    /// Starts one on a server of which nothing is known, and finds out what it has.
    ///
    /// # Errors
    /// As [`UpPipe::dialogue`]; what it has cannot be read.
    pub(super) async fn open(host: &ScriptHost) -> Result<(Self, Tools)> {
        let mut dialogue = Self::start_script(host, None).await?;
        let label = host.instance.label();
        let did_not_say = || probe::did_not_say(label);
        let mut told = Vec::new();
        let asked = dialogue.ask_for_output("tools", Bytes::new(), |bytes| {
            told.extend_from_slice(bytes);
            if told.len() > TOOLS_MAX_BYTES {
                return Err(did_not_say());
            }
            Ok(())
        });
        asked.await?;
        let tools = Tools::parse_told(&told).ok_or_else(did_not_say)?;
        dialogue.use_tools(&tools);
        Ok((dialogue, tools))
    }

    async fn start_script(host: &ScriptHost, tools: Option<&Tools>) -> Result<Self> {
        Ok(Self {
            up: UpPipe::dialogue(host, &dialogue_script(tools)).await?,
            label: host.instance.label().to_owned(),
            state: DialogueState::Usable,
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
        self.state == DialogueState::Usable
    }

    /// Whether its session failed: what was asked for may go well over another.
    pub(super) fn is_lost(&self) -> bool {
        self.state == DialogueState::Lost
    }

    /// Says that it cannot: what was announced is not coming.
    pub(super) fn give_up(&mut self) {
        if self.is_usable() {
            self.state = DialogueState::GivenUp;
        }
    }

    /// Asks for a folder to be made if it is missing;
    /// [`Dialogue::next_answer`] tells, in this order: [`MADE`] of one that was not there.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn folder_later(&mut self, path: &RemotePath, mode: u32) -> Result<()> {
        let place = place_words(path.steps());
        self.up.ask(&format!("folder {place} {mode:o}")).await
    }

    /// Makes a link, in the place of a file or link that is there; under the name `temporary`
    /// first.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn make_link(
        &mut self,
        path: &RemotePath,
        temporary: &[u8],
        target: &[u8],
    ) -> Result<()> {
        // What is behind a link that is there already is not what the new one replaces.
        let place = place_words(Steps {
            follow: false,
            ..path.steps()
        });
        let (temporary, target) = (script::printf_word(temporary), script::printf_word(target));
        self.ask_line(&format!("link {place} {temporary} {target}"))
            .await
            .map(drop)
    }

    /// Begins a file under the name `temporary` in its folder; `kept` ones outlive a failure, and
    /// what is there of one is `hashed`.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn begin_file(
        &mut self,
        path: &RemotePath,
        temporary: &[u8],
        kept: bool,
        hashed: bool,
    ) -> Result<BeginAnswer> {
        let answer = self
            .ask_line(&format!(
                "begin {} {} {} {}",
                place_words(path.steps()),
                script::printf_word(temporary),
                u8::from(kept),
                u8::from(hashed)
            ))
            .await?;
        let mut words = answer.split_ascii_whitespace();
        if words.next() != Some("have") {
            return Ok(BeginAnswer::New);
        }
        let len = words.next().and_then(|len| len.parse().ok()).unwrap_or(0);
        Ok(BeginAnswer::Part(
            len,
            words.next().and_then(crate::hashes::parse_hash),
        ))
    }

    /// The hash of a file, or of its first `len` bytes.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn hash_file(
        &mut self,
        path: &RemotePath,
        len: Option<u64>,
    ) -> Result<Option<Digest>> {
        let len = len.map_or("-".to_owned(), |len| len.to_string());
        let place = place_words(path.steps());
        let answer = self.ask_line(&format!("hash {place} {len}")).await?;
        Ok(answer
            .strip_prefix("sum ")
            .and_then(crate::hashes::parse_hash))
    }

    /// Puts `len` bytes of a file from `at` where `url` says; `whole`: it has no others. The URL is
    /// in no command line there.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn push_part(
        &mut self,
        path: &RemotePath,
        (at, len, whole): (u64, u64, bool),
        url: &str,
    ) -> Result<()> {
        let (place, whole) = (place_words(path.steps()), u8::from(whole));
        self.ask_line(&format!("push {place} {at} {len} {whole} {url}"))
            .await
            .map(drop)
    }

    /// Appends what is at `url` to the file that was begun. The URL is in no command line there.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn pull_url(&mut self, url: &str) -> Result<()> {
        self.ask_line(&format!("pull {url}")).await.map(drop)
    }

    /// Empties the file that was begun.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn empty_file(&mut self) -> Result<()> {
        self.ask_line("empty").await.map(drop)
    }

    /// Appends a frame to the file, compressed by `codec` or as it is (`-`).
    ///
    /// # Errors
    /// No space, or the session; the dialogue is of no use afterwards.
    pub(super) async fn write_frame(&mut self, codec: &str, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        if len == 0 {
            return Ok(());
        }
        self.send_frame(&format!("write {len} {codec}"), bytes)
            .await
    }

    /// Announces `len` bytes for the end of the file, as they are; [`Dialogue::send_piece`] then
    /// sends them.
    ///
    /// # Errors
    /// As [`Dialogue::write_frame`].
    pub(super) async fn announce_frame(&mut self, len: u64) -> Result<()> {
        let announced = self.up.announce_line(&format!("write {len} -"), len).await;
        announced.map_err(|error| self.words_of_script(error))
    }

    /// Takes part in a file that another dialogue has begun.
    ///
    /// # Errors
    /// It is not there.
    pub(super) async fn join_file(
        &mut self,
        path: &RemotePath,
        temporary: &[u8],
        kept: bool,
    ) -> Result<()> {
        let (place, temporary) = (place_words(path.steps()), script::printf_word(temporary));
        self.ask_line(&format!("join {place} {temporary} {}", u8::from(kept)))
            .await
            .map(drop)
    }

    /// Leaves the file to the others that take part in it.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn release_file(&mut self) -> Result<()> {
        self.settle_frames().await?;
        self.ask_line("release").await.map(drop)
    }

    /// As [`Dialogue::write_frame`], for the place of block `block`.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn frame_at(&mut self, codec: &str, bytes: Bytes, block: u64) -> Result<()> {
        let len = bytes.len() as u64;
        self.send_frame(&format!("write-at {len} {codec} {block}"), bytes)
            .await
    }

    /// As [`Dialogue::announce_frame`], for the place of block `block`.
    ///
    /// # Errors
    /// As [`Dialogue::write_frame`].
    pub(super) async fn announce_at(&mut self, len: u64, block: u64) -> Result<()> {
        let announced = self
            .up
            .announce_line(&format!("write-at {len} - {block}"), len)
            .await;
        announced.map_err(|error| self.words_of_script(error))
    }

    /// A part of the frame that was announced.
    ///
    /// # Errors
    /// As [`Dialogue::write_frame`].
    pub(super) async fn send_piece(&mut self, bytes: Bytes) -> Result<()> {
        let sent = self.up.piece(bytes).await;
        sent.map_err(|error| self.words_of_script(error))
    }

    /// The hashes of `count` parts of the file from part `first` on.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn hash_parts(
        &mut self,
        first: u64,
        count: u64,
    ) -> Result<Vec<Option<Digest>>> {
        self.settle_frames().await?;
        let answer = self.ask_line(&format!("sums {first} {count}")).await?;
        let words = answer.split_ascii_whitespace().skip(1);
        Ok(words.map(crate::hashes::parse_hash).collect())
    }

    /// Verifies the file and puts it into place.
    ///
    /// # Errors
    /// It is not what was sent, or cannot be put there.
    pub(super) async fn end_file(&mut self, file: &FileEnd) -> Result<()> {
        self.settle_frames().await?;
        let digest = file.digest.map_or("-".to_owned(), |digest| hex(&digest));
        let stamp = file.stamp.as_deref().unwrap_or("-");
        self.ask_line(&format!(
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
    pub(super) async fn leave_file(&mut self) -> Result<()> {
        self.settle_frames().await?;
        self.ask_line("leave").await.map(drop)
    }

    /// Sets the mode and, if there is a `stamp`, the time of a folder.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn set_attributes(
        &mut self,
        path: &RemotePath,
        mode: u32,
        stamp: Option<&str>,
    ) -> Result<()> {
        let (root, folders) = (
            script::printf_word(path.root()),
            script::printf_word(path.below()),
        );
        let stamp = stamp.unwrap_or_default();
        self.ask_line(&format!("attributes {root} {folders} {mode:o} {stamp}"))
            .await
            .map(drop)
    }

    /// Makes a private folder for an archive.
    ///
    /// # Errors
    /// The server's own words.
    pub(super) async fn make_stage(&mut self, path: &RemotePath) -> Result<()> {
        let place = place_words(path.steps());
        self.ask_line(&format!("stage {place}")).await.map(drop)
    }

    /// Begins to unpack into the stage; [`Dialogue::send_archive_part`] follows, then
    /// [`Dialogue::end_unpacking`]. `times`: as in the archive.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn begin_unpacking(&mut self, times: bool) -> Result<()> {
        let times = if times { "-" } else { "m" };
        self.ask_line(&format!("unpack {times}")).await.map(drop)
    }

    /// A part of the archive.
    ///
    /// # Errors
    /// It cannot be unpacked; the dialogue is of no use afterwards.
    pub(super) async fn send_archive_part(&mut self, codec: &str, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        if len == 0 {
            return Ok(());
        }
        self.send_frame(&format!("{len} {codec}"), bytes).await
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// It could not be unpacked.
    pub(super) async fn end_unpacking(&mut self) -> Result<()> {
        self.settle_frames().await?;
        self.up.ask("0").await?;
        self.ask_line("unpacked").await.map(drop)
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
        self.ask_line(&format!("unpack-from {times} {codec} {digest} {url}"))
            .await
            .map(drop)
    }

    /// The hash of the sorted hashes of all that was unpacked, each with a line feed.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn hash_unpacked(&mut self) -> Result<Option<Digest>> {
        let answer = self.ask_line("verify").await?;
        Ok(answer
            .strip_prefix("sum ")
            .and_then(crate::hashes::parse_hash))
    }

    /// Asks for the files of `sub` of the stage to be moved into `folder`;
    /// [`Dialogue::next_answer`] tells, in this order. Unless `exact`, those that replace others
    /// take their modes and owners. Where something is in the way that is neither file nor link
    /// none is moved.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn spread_files(
        &mut self,
        sub: &[u8],
        folder: &RemotePath,
        exact: bool,
    ) -> Result<()> {
        let (sub, exact) = (script::printf_word(sub), u8::from(exact));
        let (root, folders) = (
            script::printf_word(folder.root()),
            script::printf_word(folder.below()),
        );
        self.up
            .ask(&format!("spread {sub} {root} {folders} {exact}"))
            .await
    }

    /// Removes the stage.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn clear_stage(&mut self) -> Result<()> {
        self.ask_line("clear").await.map(drop)
    }

    /// Ends the dialogue, so that nothing is left behind when this returns.
    ///
    /// # Errors
    /// The session.
    pub(super) async fn quit_dialogue(mut self) -> Result<()> {
        let asked = self.up.ask("quit").await;
        asked.map_err(|error| self.words_of_script(error))?;
        // Its sessions end with it; the terminal's own end comes a second late, but where its
        // connection was lost it can come before the answer.
        self.up.next().await.map(drop)
    }

    /// The next answer: `ok` and more, or the server's words as an error.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn next_answer(&mut self) -> Result<String> {
        let next = self.up.next().await;
        if !matches!(next, Ok(Some(_))) {
            self.state = DialogueState::Lost;
        }
        match next? {
            Some(text) => {
                if let Some(why) = text.strip_prefix("no ") {
                    return Err(refusal_error(&self.label, why));
                }
                if let Some(why) = text.strip_prefix(LOST) {
                    self.state = DialogueState::GivenUp;
                    return Err(refusal_error(&self.label, why));
                }
                Ok(text)
            }
            None => Err(self.up.no_more()),
        }
    }

    /// The server's name.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    async fn send_frame(&mut self, line: &str, bytes: Bytes) -> Result<()> {
        let len = bytes.len() as u64;
        let taken = match self.up.announce_line(line, len).await {
            Ok(()) => self.up.piece(bytes).await,
            Err(error) => Err(error),
        };
        taken.map_err(|error| self.words_of_script(error))
    }

    async fn ask_line(&mut self, line: &str) -> Result<String> {
        let asked = self.up.ask(line).await;
        asked.map_err(|error| self.words_of_script(error))?;
        self.next_answer().await
    }

    /// Waits until the last frame is written.
    ///
    /// # Errors
    /// As [`Dialogue::write_frame`].
    pub(super) async fn settle_frames(&mut self) -> Result<()> {
        let credit = self.up.credit().await;
        credit.map_err(|error| self.words_of_script(error))
    }

    /// The error of a frame that was not taken: what the script said stands in it as it is.
    fn words_of_script(&mut self, error: Error) -> Error {
        if let Some(why) = error.what().strip_prefix(LOST) {
            self.state = DialogueState::GivenUp;
            return refusal_error(&self.label, why);
        }
        self.state = DialogueState::Lost;
        error
    }
}

/// How a file ends.
pub(super) struct FileEnd {
    pub(super) digest: Option<Digest>,
    pub(super) size: u64,
    pub(super) mode: u32,
    /// The mode is set even where a file with another is replaced.
    pub(super) exact: bool,
    /// For touch.
    pub(super) stamp: Option<String>,
}

/// `mtime` as touch takes it, for a time zone of UTC; what lies before 1970, or beyond what a date
/// can say, becomes 1970.
pub(super) fn touch_stamp(mtime: i64) -> String {
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
pub(super) fn dialogue_script(tools: Option<&Tools>) -> String {
    let known = tools.map_or_else(probe::probing_script, Tools::prelude_script);
    format!(
        "{known}spread_program='{}'\n{}{}",
        compact(SPREAD),
        compact(script::ENTER),
        compact(DIALOGUE),
    )
}

/// PLACE of the script's table.
pub(super) fn place_words(steps: Steps<'_>) -> String {
    format!(
        "{} {} {} {}",
        script::printf_word(steps.root),
        script::printf_word(steps.folders),
        script::printf_word(steps.name),
        u8::from(steps.follow)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_touch_takes_it() {
        assert_eq!(touch_stamp(0), "197001010000.00");
        assert_eq!(touch_stamp(951_827_696), "200002291234.56");
        assert_eq!(touch_stamp(1_700_000_000), "202311142213.20");
        assert_eq!(touch_stamp(-5), "197001010000.00");
    }
}
