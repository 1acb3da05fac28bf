//! What is there: one script that lists everything asked for.

use std::collections::HashMap;

use ops_core::{Error, Result, output::escape};
use ops_remote::pipe::{Chunk, Down, Far};

use super::{
    probe::{Tools, trimmed},
    script,
};
use crate::{
    report,
    transport::{Ask, Digest, Entry, Found, Kind, Listing},
};

/// Most that a list may hold, in bytes: what a server sends without end must not fill the memory.
const LIST_MAX_BYTES: usize = 512 << 20;

/// Lists on the server.
///
/// # Errors
/// The session, or a list that is none.
pub(super) async fn list(far: &Far, tools: &Tools, ask: &Ask) -> Result<Listing> {
    let mut down = Down::start(far, &body(tools, ask)?).await?.strict();
    let mut told = Vec::new();
    while let Some(chunk) = down.next().await? {
        if let Chunk::Bytes(bytes) = chunk {
            told.extend_from_slice(&bytes);
        }
        if told.len() > LIST_MAX_BYTES {
            return Err(down.failed(format!(
                "the list of `{}` does not end",
                far.instance.label()
            )));
        }
    }
    let mut listing = read(&told, ask.places.len()).ok_or_else(|| {
        down.failed(format!(
            "`{}` sent a list that cannot be read",
            far.instance.label()
        ))
    })?;
    listing.complaints = down.complaints().map(str::to_owned).collect();
    Ok(listing)
}

/// The script: pairs of texts, each ended by a NUL.
///
/// `A<place>` and the absolute path; `R<place>` and a match; `<type> <size> <mode> <time> <path>` and a link's target; where find cannot print
/// these, `x <mode in hex> <size> <time> <path>`. At the end `D`, then hashes with their paths.
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

/// The lines that call `function` with the number and each match of every place; the first time they tell the absolute paths too.
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

/// Reads what the script sent; `None` if it is not of that form.
fn read(told: &[u8], places: usize) -> Option<Listing> {
    let mut listing = Listing {
        places: vec![Vec::new(); places],
        ..Listing::default()
    };
    let mut parts = told.split(|&b| b == 0);
    let mut place = None;
    let mut digests: HashMap<&[u8], Digest> = HashMap::new();
    while let Some(head) = parts.next() {
        if head == b"D" {
            for line in parts.by_ref() {
                let (digest, path) = line.split_at_checked(64).unwrap_or_default();
                if let Ok(digest) = std::str::from_utf8(digest)
                    && let Some(digest) = report::unhex(digest)
                {
                    // Two blanks, or a blank and a mark for binary.
                    digests.insert(path.get(2..)?, digest);
                }
            }
            break;
        }
        let Some(tail) = parts.next() else {
            return head.is_empty().then_some(listing);
        };
        match head.first()? {
            b'A' => *listing.places.get_mut(number::<usize>(&head[1..])?)? = trimmed(tail.to_vec()),
            b'R' => {
                place = Some((
                    number(&head[1..]).filter(|&n: &usize| n < places)?,
                    tail.to_vec(),
                ));
            }
            _ => {
                let (place, root) = place.as_ref()?;
                let (path, entry) = entry(head, tail)?;
                let below = if path == root.as_slice() {
                    &[][..]
                } else {
                    path.strip_prefix(root.as_slice())
                        .map(|below| below.strip_prefix(b"/").unwrap_or(below))?
                };
                listing.found.push(Found {
                    place: *place,
                    root: root.clone(),
                    below: below.to_vec(),
                    entry,
                });
            }
        }
    }
    for found in &mut listing.found {
        let path = crate::place::join(&found.root, &found.below);
        found.entry.sha256 = digests.get(path.as_slice()).copied();
    }
    Some(listing)
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
    fn the_home_of_another_user_is_a_plain_word() {
        assert_eq!(
            user_home(b"~bob/x").unwrap(),
            (Some("~bob".to_owned()), &b"/x"[..])
        );
        assert_eq!(user_home(b"~/x").unwrap(), (None, &b"~/x"[..]));
        assert!(user_home(b"~$(id)/x").is_err());
    }
}
