//! Patterns of file names, as a shell has them: `*`, `?`, `[a-z]`, `[!a]`, and `\` before what
//! stands for itself.

/// Whether `path` has any of it.
pub(super) fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| b"*?[\\".contains(byte))
}

/// Whether `name` matches. A name that begins with a dot is matched by patterns that do, too.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Where to go on after the last `*` if what follows does not match: pattern after it, name from
    // there.
    let mut again: Option<(&[u8], &[u8])> = None;
    let (mut pattern, mut name) = (pattern, name);
    loop {
        if let Some((b'*', rest)) = pattern.split_first() {
            pattern = rest;
            again = Some((rest, name));
            continue;
        }
        let step = match (pattern.is_empty(), name.split_first()) {
            (true, None) => return true,
            (false, Some(_)) if pattern[0] == b'?' => Some((&pattern[1..], after_one(name))),
            (false, Some((&byte, rest))) => one(pattern, byte).map(|left| (left, rest)),
            _ => None,
        };
        if let Some(next) = step {
            (pattern, name) = next;
            continue;
        }
        let Some((rest, from)) = again else {
            return false;
        };
        let Some((_, shorter)) = from.split_first() else {
            return false;
        };
        again = Some((rest, shorter));
        (pattern, name) = (rest, shorter);
    }
}

/// What follows the first character of `name`, or its first byte where it is no UTF-8.
fn after_one(name: &[u8]) -> &[u8] {
    let len = name
        .utf8_chunks()
        .next()
        .and_then(|chunk| chunk.valid().chars().next())
        .map_or(1, char::len_utf8);
    &name[len..]
}

/// What is left of `pattern` after its first element, if that matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'[', set @ ..] => match class(set, byte) {
            Some((true, rest)) => Some(rest),
            Some((false, _)) => None,
            // Without its end it stands for itself.
            None => (byte == b'[').then_some(set),
        },
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Whether the set whose inside begins `set` has `byte`, and what follows the set; `None` if it has
/// no end.
fn class(set: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match set {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let (mut found, mut first) = (false, true);
    loop {
        match rest {
            [] => return None,
            [b']', after @ ..] if !first => return Some((found != negated, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest = after;
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                rest = after;
            }
        }
        first = false;
    }
}

/// `pattern` without its backslashes: the name it stands for where it has no other sign.
pub(super) fn literal(pattern: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(pattern.len());
    let mut bytes = pattern.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return None,
            b'\\' => name.extend(bytes.next()),
            _ => name.push(byte),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_as_in_a_shell() {
        let yes = [
            ("*", "a"),
            ("*.gz", "x.gz"),
            ("a*b*c", "aXbYbZc"),
            ("?", "\u{e9}"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]x", "]x"),
            ("[", "["),
            ("\\*", "*"),
            (".*", ".ssh"),
            ("*a", "aa"),
        ];
        for (pattern, name) in yes {
            assert!(
                matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        for (pattern, name) in [
            ("*", ".ssh"),
            ("*.gz", "x.gzz"),
            ("a*b", "acx"),
            ("?", ""),
            ("[a-c]x", "dx"),
            ("[!a-c]x", "ax"),
            ("\\*", "a"),
            ("", "a"),
        ] {
            assert!(
                !matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        assert!(matches(b"?*", b"\xff\n"));
    }

    #[test]
    fn a_pattern_with_many_stars_takes_no_time() {
        let pattern = b"*a".repeat(50);
        assert!(!matches(&pattern, &b"a".repeat(49)));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &b"a".repeat(2000)));
    }

    #[test]
    fn a_pattern_without_signs_is_a_name() {
        assert_eq!(literal(b"a\\*b").as_deref(), Some(&b"a*b"[..]));
        assert_eq!(literal(b"a*"), None);
    }
}
