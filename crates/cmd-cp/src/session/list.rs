//! What is there: one script that lists everything asked for.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use ops_remote::pipe::{Chunk, DownPipe, ScriptHost};
use ops_remote::script::compact;
use ops_ui::{Error, Result, output::escape};

use super::{
    dialogue::Dialogue,
    probe::{Tools, ToolsReader, did_not_say, probing_script, trim_slashes},
    script,
};
use crate::{
    budget::{ListBudget, too_long},
    hashes,
    item::{Entry, Found, Kind, ListRequest, Listing},
};

/// Longest text of a list, in bytes: a path, or the target of a link, and what is told of it.
const TEXT_MAX_BYTES: usize = 64 << 10;

pub(super) const LIST: &str = include_str!("scripts/list.sh");
pub(super) const DESCRIBE: &str = include_str!("scripts/describe.sh");

/// The script that finds out what a server has, and lists at once: one session for both.
///
/// # Errors
/// A place that is none.
pub(super) fn first_script(ask: &ListRequest) -> Result<String> {
    Ok(format!(
        "{}tell_tools\n{}",
        probing_script(),
        listing_script(ask)?
    ))
}

/// Reads what the script of [`first_script`] prints.
///
/// # Errors
/// The session; what a server has, or a list, that cannot be read.
pub(super) async fn read_first(
    mut down: DownPipe,
    label: &str,
    ask: &ListRequest,
) -> Result<(Tools, Listing)> {
    let mut reader = ToolsReader::default();
    while let Some(chunk) = down.next().await? {
        let Chunk::Bytes(bytes) = chunk else { continue };
        match reader.feed(&bytes) {
            Ok(None) => {}
            Ok(Some((tools, rest))) => {
                let listing = read_list(down, label, ask, &rest).await?;
                return Ok((tools, listing));
            }
            Err(()) => break,
        }
    }
    Err(down.explained(did_not_say(label)))
}

/// Lists over a session of its own.
///
/// # Errors
/// The session, or a list that is none.
pub(super) async fn list_by_session(
    host: &ScriptHost,
    tools: &Tools,
    ask: &ListRequest,
) -> Result<Listing> {
    let text = format!("{}{}", tools.prelude_script(), listing_script(ask)?);
    let down = DownPipe::start(host, &text).await?.strict();
    read_list(down, host.instance.label(), ask, b"").await
}

/// Lists over a dialogue, which takes no session more.
///
/// # Errors
/// As for [`list_by_session`]; what has arrived is not all.
pub(super) async fn list_by_dialogue(
    dialogue: &mut Dialogue,
    label: &str,
    ask: &ListRequest,
) -> Result<Listing> {
    let mut reader = ListReader::new(ask.places.len());
    let ran = dialogue
        .run_script(&listing_script(ask)?, |bytes| {
            reader.feed(bytes).map_err(|why| match why {
                Unreadable::TooLong => too_long(label),
                Unreadable::Malformed => malformed_list(label),
            })
        })
        .await?;
    let mut listing = reader.finish().ok_or_else(|| malformed_list(label))?;
    listing.complaints = ran.complaints;
    Ok(listing)
}

/// Reads a list that begins with `first`.
async fn read_list(
    mut down: DownPipe,
    label: &str,
    ask: &ListRequest,
    first: &[u8],
) -> Result<Listing> {
    let mut reader = ListReader::new(ask.places.len());
    let mut fed = reader.feed(first);
    loop {
        match fed {
            Ok(()) => {}
            Err(Unreadable::TooLong) => return Err(too_long(label)),
            Err(Unreadable::Malformed) => return Err(unreadable_list(&down, label)),
        }
        fed = match down.next().await? {
            Some(Chunk::Bytes(bytes)) => reader.feed(&bytes),
            Some(Chunk::Message(_)) => Ok(()),
            None => break,
        };
    }
    let mut listing = reader
        .finish()
        .ok_or_else(|| unreadable_list(&down, label))?;
    listing.complaints = down.complaints().map(str::to_owned).collect();
    Ok(listing)
}

/// What is said of a list that has another form.
fn unreadable_words(label: &str) -> String {
    format!("`{label}` sent a list that cannot be read")
}

fn unreadable_list(down: &DownPipe, label: &str) -> Error {
    down.failed(unreadable_words(label))
}

fn malformed_list(label: &str) -> Error {
    Error::unexpected(unreadable_words(label))
}

/// The script that lists, for where `tools.sh` was read: see `scripts/list.sh`.
pub(super) fn listing_script(ask: &ListRequest) -> Result<String> {
    let follow = if ask.follow {
        "-L"
    } else if ask.keep_links {
        "-P"
    } else {
        "-H"
    };
    let small = match ask.digests_below {
        Some(bytes) if !ask.digests => format!("-size -{bytes}c"),
        _ => String::new(),
    };
    // No process is started for the inner script where nobody needs it.
    Ok(format!(
        "follow={follow}\nprune={}\nsmall=\"{small}\"\n\
         has printf || describe=$(cat <<\"DESCRIBE\"\n{}DESCRIBE\n)\n\
         {}visit_places() {{\n{}}}\nlist_places {}\n",
        if ask.recursive { "" } else { "-prune" },
        compact(DESCRIBE),
        compact(LIST),
        visit_lines(ask)?,
        u8::from(ask.digests || ask.digests_below.is_some()),
    ))
}

/// The lines that visit every place.
fn visit_lines(ask: &ListRequest) -> Result<String> {
    let mut text = String::new();
    for (index, place) in ask.places.iter().enumerate() {
        let (base, rest) = base_of(place)?;
        text.push_str(&format!("base={base}\n"));
        text.push_str(&script::assign_variable("rest", &rest));
        text.push_str(&format!("visit {index} \"$base$rest\""));
        if let Some((lines, word)) = script::glob_pattern(&rest).filter(|_| ask.globs) {
            // A pattern is expanded here alone, and before its matches are used.
            text.push_str(&format!(
                " || {{\n{lines}set +f\nset -- \"$base\"{word}\nset -f\nvisit_matches {index} \"$@\"\n}}"
            ));
        }
        text.push('\n');
    }
    Ok(text)
}

/// What a place begins with on the server, as the right side of an assignment, and the bytes that
/// follow it, without slashes at their end.
pub(super) fn base_of(place: &[u8]) -> Result<(String, Vec<u8>)> {
    let (user, rest) = user_home(place)?;
    if let Some(user) = user {
        // An assignment expands `~user`; nothing else in it means anything to a shell.
        let rest = if rest.is_empty() {
            Vec::new()
        } else {
            trim_slashes(rest.to_vec())
        };
        return Ok((user, rest));
    }
    Ok(match rest {
        b"" | b"~" | b"~/" => ("$home".to_owned(), Vec::new()),
        [b'/', ..] => (String::new(), trim_slashes(rest.to_vec())),
        [b'~', b'/', below @ ..] | below => ("${home%/}/".to_owned(), trim_slashes(below.to_vec())),
    })
}

/// `~user` before a path, to be expanded there, and the rest.
fn user_home(place: &[u8]) -> Result<(Option<String>, &[u8])> {
    let Some(after) = place.strip_prefix(b"~") else {
        return Ok((None, place));
    };
    let end = after.iter().position(|&b| b == b'/').unwrap_or(after.len());
    if end == 0 {
        return Ok((None, place));
    }
    let user = &after[..end];
    let harmless = |&b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !user.iter().all(harmless) {
        return Err(Error::usage(format!(
            "`{}` is the home of no user",
            escape(&String::from_utf8_lossy(place))
        ))
        .hint("a file whose name begins with ~ is written ./~NAME"));
    }
    let user = format!("~{}", String::from_utf8_lossy(user));
    Ok((Some(user), &after[end..]))
}

/// Why a list is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unreadable {
    /// It is not of the form that the script gives it.
    Malformed,
    /// It has more entries or bytes than [`ListBudget`] allows.
    TooLong,
}

/// Reads what the script sends as it comes: of the text itself no more is kept than one path.
struct ListReader {
    listing: Listing,
    budget: ListBudget,
    /// A text that is not complete yet.
    text: Vec<u8>,
    /// The first text of a pair, until the second one is there.
    head: Option<Vec<u8>>,
    /// What the entries that come belong to.
    root: Option<(usize, Arc<[u8]>)>,
    /// Positions of files by the hashes of their paths, once hashes of their contents follow.
    files: Option<HashMap<u64, usize>>,
    hasher: RandomState,
}

impl ListReader {
    fn new(places: usize) -> Self {
        Self {
            listing: Listing {
                places: vec![Vec::new(); places],
                ..Listing::default()
            },
            budget: ListBudget::default(),
            text: Vec::new(),
            head: None,
            root: None,
            files: None,
            hasher: RandomState::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        let mut parts = bytes.split(|&byte| byte == 0);
        // What stands before the first NUL completes a text; what stands behind the last begins
        // one.
        let mut part = parts.next().unwrap_or_default();
        for next in parts {
            self.push_text(part)?;
            let text = std::mem::take(&mut self.text);
            self.take_text(text)?;
            part = next;
        }
        self.push_text(part)
    }

    fn push_text(&mut self, part: &[u8]) -> Result<(), Unreadable> {
        if self.text.len() + part.len() > TEXT_MAX_BYTES {
            return Err(Unreadable::Malformed);
        }
        self.text.extend_from_slice(part);
        Ok(())
    }

    /// Takes a complete text.
    fn take_text(&mut self, text: Vec<u8>) -> Result<(), Unreadable> {
        if self.files.is_some() {
            return self.take_digest(&text).ok_or(Unreadable::Malformed);
        }
        let Some(head) = self.head.take() else {
            if text == b"D" {
                self.files = Some(self.file_positions());
            } else {
                self.head = Some(text);
            }
            return Ok(());
        };
        if !matches!(head.first(), Some(b'A' | b'R')) {
            let is_in_budget = self.budget.entry(head.len() + text.len());
            if !is_in_budget {
                return Err(Unreadable::TooLong);
            }
        }
        self.take_pair(&head, &text).ok_or(Unreadable::Malformed)
    }

    fn take_pair(&mut self, head: &[u8], tail: &[u8]) -> Option<()> {
        let places = self.listing.places.len();
        match head.first()? {
            b'A' => {
                let place = parse_number::<usize>(&head[1..])?;
                *self.listing.places.get_mut(place)? = trim_slashes(tail.to_vec());
            }
            b'R' => {
                let place = parse_number(&head[1..]).filter(|&place: &usize| place < places)?;
                self.root = Some((place, Arc::from(tail)));
            }
            _ => {
                let (place, root) = self.root.as_ref()?;
                let (path, entry) = parse_entry(head, tail)?;
                let below = if path == &root[..] {
                    &[][..]
                } else {
                    path.strip_prefix(&root[..])
                        .map(|below| below.strip_prefix(b"/").unwrap_or(below))?
                };
                self.listing.found.push(Found {
                    place: *place,
                    root: Arc::clone(root),
                    below: below.to_vec(),
                    entry,
                });
            }
        }
        Some(())
    }

    fn file_positions(&self) -> HashMap<u64, usize> {
        let files = self.listing.found.iter().enumerate();
        files
            .filter(|(_, found)| found.entry.kind == Kind::File)
            .map(|(position, found)| {
                let path = crate::place::join_paths(&found.root, &found.below);
                (self.hasher.hash_one(&path[..]), position)
            })
            .collect()
    }

    /// A hash, two characters and a path. The two are blanks, or a blank and a mark for binary.
    fn take_digest(&mut self, line: &[u8]) -> Option<()> {
        let (digest, path) = line.split_at_checked(64).unwrap_or_default();
        let Some(digest) = std::str::from_utf8(digest)
            .ok()
            .and_then(hashes::parse_hash)
        else {
            return Some(());
        };
        let path = self.hasher.hash_one(path.get(2..)?);
        let position = self.files.as_ref()?.get(&path).copied();
        if let Some(found) = position.and_then(|at| self.listing.found.get_mut(at)) {
            found.entry.sha256 = Some(digest);
        }
        Some(())
    }

    /// The list, if it came to its end.
    fn finish(self) -> Option<Listing> {
        (self.text.is_empty() && self.head.is_none()).then_some(self.listing)
    }
}

/// Reads a whole list; `None` if it is not of the form.
pub(super) fn parse_list(told: &[u8], places: usize) -> Option<Listing> {
    let mut reader = ListReader::new(places);
    reader.feed(told).ok()?;
    reader.finish()
}

fn parse_number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn parse_entry<'a>(head: &'a [u8], link: &[u8]) -> Option<(&'a [u8], Entry)> {
    let mut parts = head.splitn(5, |&b| b == b' ');
    let kind = parts.next()?;
    if kind == b"x" {
        let raw = u32::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok()?;
        let size = parse_number(parts.next()?)?;
        let mtime = parse_number(parts.next()?)?;
        let path = &head[head.len() - parts.next().map(<[u8]>::len).unwrap_or(0)..];
        let kind = match raw & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Folder,
            0o120_000 => Kind::Link(link.to_vec()),
            _ => Kind::Other,
        };
        return Some((
            path,
            Entry {
                kind,
                size,
                mode: raw & 0o7777,
                mtime,
                sha256: None,
            },
        ));
    }
    let size = parse_number(parts.next()?)?;
    let mode = u32::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 8).ok()? & 0o7777;
    // `%T@` has a fraction, which is cut off; before 1970 it has a sign.
    let time = parts.next()?;
    let whole = time.split(|&b| b == b'.').next()?;
    let mtime = parse_number(whole)?;
    let path = parts.next()?;
    let kind = match kind {
        b"f" => Kind::File,
        b"d" => Kind::Folder,
        b"l" => Kind::Link(link.to_vec()),
        _ => Kind::Other,
    };
    Some((
        path,
        Entry {
            kind,
            size,
            mode,
            mtime,
            sha256: None,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whatever_stands_in_names() {
        let told = b"A0\0/tmp/x\0R0\0/tmp/x\0d 4096 755 1700000000.5 /tmp/x\0\0f 3 4644 -1.5 /tmp/x/ a\n \xff\0\0\
            l 1 777 0.0 /tmp/x/l\0../y\0p 0 644 0.0 /tmp/x/p\0\0";
        let listing = parse_list(told, 1).unwrap();
        assert_eq!(listing.places, [b"/tmp/x"]);
        let found: Vec<(&[u8], &Kind)> = listing
            .found
            .iter()
            .map(|found| (&found.below[..], &found.entry.kind))
            .collect();
        assert_eq!(
            found,
            [
                (&b""[..], &Kind::Folder),
                (b" a\n \xff", &Kind::File),
                (b"l", &Kind::Link(b"../y".to_vec())),
                (b"p", &Kind::Other),
            ]
        );
        assert_eq!(listing.found[1].entry.mode, 0o4644);
        assert_eq!(listing.found[1].entry.mtime, -1);
        let told = b"A0\0/a\0R0\0/a\0x 81a4 3 7 /a\0\0";
        let listing = parse_list(told, 1).unwrap();
        assert_eq!(
            (listing.found[0].entry.mode, listing.found[0].entry.size),
            (0o644, 3)
        );
    }

    #[test]
    fn a_list_that_leaves_its_root_or_its_form_is_refused() {
        for told in [
            &b"R0\0/tmp/x\0f 3 644 1.0 /etc/passwd\0\0"[..],
            b"R7\0/tmp\0",
            b"f 3 644 1.0 /x\0\0",
            b"R0\0/x\0f x 644 1.0 /x\0\0",
            b"R0",
        ] {
            assert!(
                parse_list(told, 1).is_none(),
                "{:?}",
                String::from_utf8_lossy(told)
            );
        }
    }

    #[test]
    fn a_list_is_read_the_same_however_it_is_cut() {
        let sum = "ab".repeat(32);
        let told = format!(
            "A0\0/t\0R0\0/t\0d 1 755 1.0 /t\0\0f 3 644 1.0 /t/a\0\0f 3 644 1.0 /t/b\0\0D\0{sum}  /t/b\0"
        );
        let whole = parse_list(told.as_bytes(), 1).unwrap();
        assert_eq!(whole.found[2].entry.sha256, Some([0xab; 32]));
        assert_eq!(whole.found[1].entry.sha256, None);
        for cut in 1..told.len() {
            let mut reader = ListReader::new(1);
            for piece in told.as_bytes().chunks(cut) {
                reader.feed(piece).unwrap();
            }
            let listing = reader.finish().unwrap();
            assert_eq!(
                (listing.found, listing.places),
                (whole.found.clone(), whole.places.clone())
            );
        }
    }

    #[test]
    fn a_list_without_an_end_is_refused_by_its_names_and_by_its_bytes() {
        let feed = |name: &dyn Fn(usize) -> String| {
            let mut reader = ListReader::new(1);
            reader.feed(b"R0\0/t\0").unwrap();
            for n in 0_usize.. {
                let text: String = (0..1000)
                    .map(|k| format!("f 3 644 1.0 /t/{}\0\0", name(1000 * n + k)))
                    .collect();
                if let Err(error) = reader.feed(text.as_bytes()) {
                    return (error, reader.listing.found);
                }
            }
            unreachable!()
        };
        let (error, found) = feed(&|n| n.to_string());
        assert_eq!(error, Unreadable::TooLong);
        assert_eq!(found.len(), crate::budget::LIST_MAX_ENTRIES);
        // All of them share the name of their root.
        assert!(
            found
                .iter()
                .all(|entry| Arc::ptr_eq(&entry.root, &found[0].root))
        );
        drop(found);
        let long = "n".repeat(3000);
        let (error, found) = feed(&|n| format!("{n}{long}"));
        assert_eq!(error, Unreadable::TooLong);
        assert!(found.len() * 3000 <= crate::budget::LIST_MAX_BYTES);
        drop(found);
        // One text alone is bounded as well.
        let mut reader = ListReader::new(1);
        let fed = (0..1000).try_for_each(|_| reader.feed(&[b'x'; 1000]));
        assert_eq!(fed, Err(Unreadable::Malformed));
    }

    #[test]
    fn relative_places_begin_at_home() {
        let based = |place: &str| {
            let (base, rest) = base_of(place.as_bytes()).unwrap();
            (base, String::from_utf8(rest).unwrap())
        };
        for (place, base, rest) in [
            ("", "$home", ""),
            ("~", "$home", ""),
            ("~/", "$home", ""),
            ("~/x/", "${home%/}/", "x"),
            ("x//", "${home%/}/", "x"),
            ("/", "", "/"),
            ("/a/", "", "/a"),
            ("~bob", "~bob", ""),
            ("~bob/x/", "~bob", "/x"),
        ] {
            assert_eq!(based(place), (base.to_owned(), rest.to_owned()), "{place}");
        }
    }

    #[test]
    fn the_home_of_another_user_is_a_plain_word() {
        assert_eq!(
            user_home(b"~bob/x").unwrap(),
            (Some("~bob".to_owned()), &b"/x"[..])
        );
        assert_eq!(user_home(b"~/x").unwrap(), (None, &b"~/x"[..]));
        assert!(user_home(b"~$(id)/x").is_err());
    }
}
