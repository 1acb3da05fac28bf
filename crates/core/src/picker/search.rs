//! What was typed, found in the rows: each of its words somewhere, with letters left out as in fzf.

use nucleo_matcher::{
    Config, Matcher, Utf32Str,
    pattern::{Atom, AtomKind, CaseMatching, Normalization, Pattern},
};

use super::rows::{Field, FieldPlace, NAME, Row, TITLES};

/// How much better it is to be found in the name than elsewhere. A letter that is found is worth
/// 16 points to the matcher, one at the beginning of a word some 8 more.
const NAME_BONUS: u32 = 24;
/// More than any part of a text can be worth.
const WHOLE_BONUS: u32 = 1 << 16;

/// The pattern that was typed.
pub(super) struct Search {
    matcher: Matcher,
    atoms: Vec<Atom>,
    typed: String,
}

/// Which characters of a row were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// Indexes of characters, for each column.
    pub(super) cells: [Vec<u32>; TITLES.len()],
    /// A text that has no column, and the indexes of its characters.
    pub(super) aside: Option<(String, Vec<u32>)>,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            matcher: Matcher::new(Config::DEFAULT),
            atoms: Vec::new(),
            typed: String::new(),
        }
    }
}

impl Search {
    /// Searches for `typed` from now on.
    pub(super) fn set(&mut self, typed: &str) {
        let pattern = Pattern::parse(typed, CaseMatching::Ignore, Normalization::Smart);
        self.atoms = pattern.atoms;
        typed.trim().clone_into(&mut self.typed);
    }

    /// How well `row` fits; `None` where one of the words is not in it.
    pub(super) fn score(&mut self, row: &Row) -> Option<u32> {
        let mut total = 0;
        for at in 0..self.atoms.len() {
            if self.atoms[at].negative {
                // Such a word scores where it is not there, and it must not be anywhere.
                let atom = &self.atoms[at];
                let matcher = &mut self.matcher;
                row.fields
                    .iter()
                    .all(|field| atom.score(field.text.slice(..), matcher).is_some())
                    .then_some(())?;
            } else {
                total += self.best(row, at)?.1;
            }
        }
        if !self.typed.is_empty() && row.is_called(&self.typed) {
            total += WHOLE_BONUS;
        }
        Some(total)
    }

    /// Which characters of `row` were found.
    pub(super) fn hits(&mut self, row: &Row) -> Hits {
        let mut hits = Hits::default();
        for at in 0..self.atoms.len() {
            if self.atoms[at].negative {
                continue;
            }
            let Some((field, _)) = self.best(row, at) else {
                continue;
            };
            let field = &row.fields[field];
            let mut indices = Vec::new();
            self.atoms[at].indices(field.text.slice(..), &mut self.matcher, &mut indices);
            let found = match field.place {
                FieldPlace::Cell(column) => &mut hits.cells[column],
                FieldPlace::Aside => {
                    let text = field.text.to_string();
                    match &mut hits.aside {
                        // There is room for one: the first that was typed.
                        Some((shown, _)) if *shown != text => continue,
                        aside => &mut aside.get_or_insert_with(|| (text, Vec::new())).1,
                    }
                }
            };
            found.extend(indices);
            found.sort_unstable();
            found.dedup();
        }
        hits
    }

    /// The field in which the word `at` is found best, and how well.
    fn best(&mut self, row: &Row, at: usize) -> Option<(usize, u32)> {
        let atom = &self.atoms[at];
        let matcher = &mut self.matcher;
        let scores = row.fields.iter().enumerate().filter_map(|(index, field)| {
            let score = u32::from(atom.score(field.text.slice(..), matcher)?);
            let score = match field.place {
                FieldPlace::Cell(NAME) => score + NAME_BONUS,
                _ if is_scattered(atom, field, matcher) => return None,
                _ => score,
            };
            Some((index, score))
        });
        // Of equal ones the first, so that a highlight does not jump between tags.
        scores.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

/// Whether the letters of `atom` are far apart in `field`. Ids are sixteen digits, and tags are
/// long: every second one has any three letters somewhere, which is nothing found. In a name
/// people leave out more.
fn is_scattered(atom: &Atom, field: &Field, matcher: &mut Matcher) -> bool {
    if atom.kind != AtomKind::Fuzzy {
        return false;
    }
    let mut indices = Vec::new();
    let text: Utf32Str<'_> = field.text.slice(..);
    if atom.indices(text, matcher, &mut indices).is_none() {
        return true;
    }
    let first = indices.iter().min().copied().unwrap_or_default();
    let last = indices.iter().max().copied().unwrap_or_default();
    // What separates the parts of an id, an address or a tag is left out by everybody.
    let between = (first..=last).filter(|at| !indices.contains(at));
    let left_out = between.filter(|&at| text.get(at).is_alphanumeric()).count();
    left_out > indices.len().div_ceil(2)
}

#[cfg(test)]
mod tests {
    use ops_profile::Instance;

    use super::*;

    fn row(name: &str, id: &str, tags: &[(&str, &str)]) -> Row {
        let instance = Instance {
            name: Some(name.to_owned()),
            private_ip: Some("10.0.1.11".to_owned()),
            tags: tags
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Instance::bare(id, "eu-west-1")
        };
        Row::new(instance, &[], false, jiff::Timestamp::UNIX_EPOCH)
    }

    fn score(typed: &str, row: &Row) -> Option<u32> {
        let mut search = Search::default();
        search.set(typed);
        search.score(row)
    }

    #[test]
    fn a_server_is_found_by_name_id_address_and_tags_with_letters_left_out() {
        let row = row(
            "payments-web-1",
            "i-0a1b2c3d4e5f60718",
            &[("Team", "checkout"), ("Name", "payments-web-1")],
        );
        for typed in [
            "",
            "pw1",
            "web",
            "PAY",
            "0a1b2c",
            "i0a1b",
            "10.0.1",
            "10011",
            "checkout",
            "chckout",
            "team=ch",
            "pay check",
            "web !staging",
        ] {
            assert!(score(typed, &row).is_some(), "{typed}");
        }
        for typed in ["xyz", "pay staging", "pay !check", "0718a"] {
            assert_eq!(score(typed, &row), None, "{typed}");
        }
    }

    #[test]
    fn letters_that_are_scattered_over_an_id_or_a_tag_are_nothing_found() {
        let row = row(
            "zzz",
            "i-0d1b2c3d4e5f60718",
            &[("Description", "load balancer of the old platform")],
        );
        for typed in ["db8", "i78", "dof", "lbp"] {
            assert_eq!(score(typed, &row), None, "{typed}");
        }
    }

    #[test]
    fn a_name_counts_more_than_a_tag_and_a_whole_name_most() {
        let web_1 = row("web-1", "i-00000001", &[]);
        let web_12 = row("web-12", "i-00000002", &[]);
        let tagged = row("db-1", "i-00000003", &[("Role", "web-1")]);
        assert!(score("web-1", &web_1) > score("web-1", &web_12));
        assert!(score("web-1", &web_12) > score("web-1", &tagged));
        assert!(score("WEB-1", &web_1) > score("WEB-1", &web_12));
    }

    #[test]
    fn what_was_found_is_marked_where_it_is() {
        let row = row("web-1", "i-0a1b2c3d", &[("Team", "checkout")]);
        let mut search = Search::default();
        search.set("w1 check");
        let hits = search.hits(&row);
        assert_eq!(hits.cells[NAME], [0, 4]);
        let aside = Some(("Team=checkout".to_owned(), vec![5, 6, 7, 8, 9]));
        assert_eq!(hits.aside, aside);
    }
}
