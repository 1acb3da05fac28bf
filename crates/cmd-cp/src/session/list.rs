//! What is there: one script that lists everything asked for.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use ops_remote::pipe::{Chunk, Down, Far};
use ops_ui::{Error, Result, output::escape};

use super::{
    probe::{Tools, trimmed},
    script,
};
use crate::{
    budget::{ListBudget, too_long},
    hashes,
    item::{Ask, Entry, Found, Kind, Listing},
};

/// Longest text of a list, in bytes: a path, or the target of a link, and what is told of it.
const TEXT_MAX_BYTES: usize = 64 << 10;

/// Lists on the server.
///
/// # Errors
/// The session, or a list that is none.
pub(super) async fn list(far: &Far, tools: &Tools, ask: &Ask) -> Result<Listing> {
    let mut down = Down::start(far, &body(tools, ask)?).await?.strict();
    let label = far.instance.label();
    let mut reader = ListReader::new(ask.places.len());
    while let Some(chunk) = down.next().await? {
        let Chunk::Bytes(bytes) = chunk else { continue };
        match reader.feed(&bytes) {
            Ok(()) => {}
            Err(Unreadable::TooLong) => return Err(too_long(label)),
            Err(Unreadable::Malformed) => return Err(unreadable(&down, label)),
        }
    }
    let mut listing = reader.finish().ok_or_else(|| unreadable(&down, label))?;
    listing.complaints = down.complaints().map(str::to_owned).collect();
    Ok(listing)
}

fn unreadable(down: &Down, label: &str) -> Error {
    down.failed(format!("`{label}` sent a list that cannot be read"))
}

/// The script: pairs of texts, each ended by a NUL.
///
/// `A<place>` and the absolute path; `R<place>` and a match; `<type> <size> <mode> <time> <path>`
/// and a link's target; where find cannot print these, `x <mode in hex> <size> <time> <path>`. At
/// the end `D`, then hashes with their paths.
fn body(tools: &Tools, ask: &Ask) -> Result<String> {
    let how = if ask.follow {
        "-L"
    } else if ask.keep_links {
        "-P"
    } else {
        "-H"
    };
    let prune = if ask.recursive { "" } else { "-prune" };
    let mut text = String::from("set -f\n");
    let print = if tools.has("printf") {
        r#"-printf "%y %s %m %T@ %p\000%l\000""#.to_owned()
    } else {
        let stat = if ask.follow { "stat -L" } else { "stat" };
        // A match that is a link is looked through by find, and so must be here.
        format!(
            r#"-exec sh -c "for f; do s=\"{stat}\"; [ \"\$f\" = \"\$0\" ] && [ {how} != -P ] && s=\"stat -L\"; \
m=\$(\$s -c \"%f %s %Y\" \"\$f\" 2>/dev/null || \$s -f \"%Xp %z %m\" \"\$f\") || continue; \
l=; [ -h \"\$f\" ] && l=\$(readlink \"\$f\"; echo .) && l=\${{l%??}}; \
printf \"x %s %s\\000%s\\000\" \"\$m\" \"\$f\" \"\$l\"; done" "$2" {{}} +"#
        )
    };
    text.push_str(&format!(
        "l() {{ printf \"R%s\\000%s\\000\" \"$1\" \"$2\"; find {how} \"$2\" {prune} {print}; }}\n"
    ));
    let sums = match (tools.hash(), tools.has("sums")) {
        (_, true) => "-exec sha256sum -z {} +".to_owned(),
        (Some(hash), false) => format!(
            r#"-exec sh -c "for f; do printf \"%s  %s\\000\" \"\$({hash} <\"\$f\" | cut -c1-64)\" \"\$f\"; done" sh {{}} +"#
        ),
        (None, false) => String::new(),
    };
    let small = match ask.digests_below {
        Some(bytes) if !ask.digests => format!("-size -{bytes}c"),
        _ => String::new(),
    };
    text.push_str(&format!(
        "s() {{ find {how} \"$2\" {prune} -type f {small} {sums}; }}\n"
    ));
    text.push_str(&places(tools, ask, "l", true)?);
    if (ask.digests || ask.digests_below.is_some()) && !sums.is_empty() {
        text.push_str("printf \"D\\000\"\n");
        text.push_str(&places(tools, ask, "s", false)?);
    }
    Ok(text)
}

/// The lines that call `function` with the number and each match of every place; the first time
/// they tell the absolute paths too.
fn places(tools: &Tools, ask: &Ask, function: &str, first: bool) -> Result<String> {
    let mut text = String::new();
    for (index, place) in ask.places.iter().enumerate() {
        let (user, rest) = user_home(place)?;
        let rest = match &user {
            Some(_) => rest.to_vec(),
            None => tools.absolute(rest).unwrap_or_else(|| rest.to_vec()),
        };
        let rest = trimmed(rest);
        // An assignment expands `~user`; nothing else in it means anything to a shell.
        text.push_str(&format!("b={}\n", user.unwrap_or_default()));
        text.push_str(&script::assign("r", &rest));
        if first {
            text.push_str(&format!("printf \"A{index}\\000%s\\000\" \"$b$r\"\n"));
        }
        text.push_str(&format!(
            "if [ -e \"$b$r\" ] || [ -h \"$b$r\" ]; then {function} {index} \"$b$r\"\n"
        ));
        if let Some((lines, word)) = script::glob(&rest).filter(|_| ask.globs) {
            text.push_str(&format!(
                "else {lines}set +f\nfor f in \"$b\"{word}; do set -f\n\
                 if [ -e \"$f\" ] || [ -h \"$f\" ]; then {function} {index} \"$f\"; fi; done\nset -f\n"
            ));
        }
        text.push_str("fi\n");
    }
    Ok(text)
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
            self.push(part)?;
            let text = std::mem::take(&mut self.text);
            self.text(text)?;
            part = next;
        }
        self.push(part)
    }

    fn push(&mut self, part: &[u8]) -> Result<(), Unreadable> {
        if self.text.len() + part.len() > TEXT_MAX_BYTES {
            return Err(Unreadable::Malformed);
        }
        self.text.extend_from_slice(part);
        Ok(())
    }

    /// Takes a complete text.
    fn text(&mut self, text: Vec<u8>) -> Result<(), Unreadable> {
        if self.files.is_some() {
            return self.digest(&text).ok_or(Unreadable::Malformed);
        }
        let Some(head) = self.head.take() else {
            if text == b"D" {
                self.files = Some(self.positions());
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
        self.pair(&head, &text).ok_or(Unreadable::Malformed)
    }

    fn pair(&mut self, head: &[u8], tail: &[u8]) -> Option<()> {
        let places = self.listing.places.len();
        match head.first()? {
            b'A' => {
                let place = number::<usize>(&head[1..])?;
                *self.listing.places.get_mut(place)? = trimmed(tail.to_vec());
            }
            b'R' => {
                let place = number(&head[1..]).filter(|&place: &usize| place < places)?;
                self.root = Some((place, Arc::from(tail)));
            }
            _ => {
                let (place, root) = self.root.as_ref()?;
                let (path, entry) = entry(head, tail)?;
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

    fn positions(&self) -> HashMap<u64, usize> {
        let files = self.listing.found.iter().enumerate();
        files
            .filter(|(_, found)| found.entry.kind == Kind::File)
            .map(|(position, found)| {
                let path = crate::place::join(&found.root, &found.below);
                (self.hasher.hash_one(&path[..]), position)
            })
            .collect()
    }

    /// A hash, two characters and a path. The two are blanks, or a blank and a mark for binary.
    fn digest(&mut self, line: &[u8]) -> Option<()> {
        let (digest, path) = line.split_at_checked(64).unwrap_or_default();
        let Some(digest) = std::str::from_utf8(digest).ok().and_then(hashes::unhex) else {
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
pub(super) fn read(told: &[u8], places: usize) -> Option<Listing> {
    let mut reader = ListReader::new(places);
    reader.feed(told).ok()?;
    reader.finish()
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn entry<'a>(head: &'a [u8], link: &[u8]) -> Option<(&'a [u8], Entry)> {
    let mut parts = head.splitn(5, |&b| b == b' ');
    let kind = parts.next()?;
    if kind == b"x" {
        let raw = u32::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok()?;
        let size = number(parts.next()?)?;
        let mtime = number(parts.next()?)?;
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
    let size = number(parts.next()?)?;
    let mode = u32::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 8).ok()? & 0o7777;
    // `%T@` has a fraction, which is cut off; before 1970 it has a sign.
    let time = parts.next()?;
    let whole = time.split(|&b| b == b'.').next()?;
    let mtime = number(whole)?;
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
        let listing = read(told, 1).unwrap();
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
        let listing = read(told, 1).unwrap();
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
                read(told, 1).is_none(),
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
        let whole = read(told.as_bytes(), 1).unwrap();
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
    fn the_home_of_another_user_is_a_plain_word() {
        assert_eq!(
            user_home(b"~bob/x").unwrap(),
            (Some("~bob".to_owned()), &b"/x"[..])
        );
        assert_eq!(user_home(b"~/x").unwrap(), (None, &b"~/x"[..]));
        assert!(user_home(b"~$(id)/x").is_err());
    }
}
