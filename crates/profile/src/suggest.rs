//! Did you mean: the nearest of what would have been right.

/// The one of `candidates` that `word` is most likely a slip for, if any is near enough.
///
/// Near is a third of the longer word's characters, at least one, swapped neighbours counting once;
/// case counts little.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let limit = (word.chars().count().max(other.chars().count()) / 3).max(1);
            let distance = strsim::damerau_levenshtein(&word, &other);
            // Someone who types `inst` means `instance-connect`.
            let begins = word.chars().count() >= 3 && other.starts_with(&word);
            (distance <= limit || begins).then_some((distance.min(limit), candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let keys = ["guard", "select", "session", "ssh", "shell"];
        assert_eq!(nearest("gaurd", keys), Some("guard"));
        assert_eq!(nearest("SSH", keys), Some("ssh"));
        assert_eq!(nearest("sess", keys), Some("session"));
        assert_eq!(nearest("banana", keys), None);
    }
}
