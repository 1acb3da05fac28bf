//! What filters of lists have in common.

/// A filter as the services have it: any of `values`, `*` and `?` standing for what they do in EC2
/// filters.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) name: String,
    values: Vec<Glob>,
    raw: Vec<String>,
}

/// A value of a filter. A backslash takes the meaning from the character behind it, so that
/// `\*` is a star and `\\` a backslash; alone at the end it means nothing. Source: "List and filter
/// your resources" in the EC2 user guide.
#[derive(Clone, Debug)]
struct Glob(Vec<GlobPart>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GlobPart {
    Many,
    One,
    Just(char),
}

impl Glob {
    fn new(value: &str) -> Self {
        let mut chars = value.chars();
        let parts = std::iter::from_fn(|| {
            Some(match chars.next()? {
                '*' => GlobPart::Many,
                '?' => GlobPart::One,
                '\\' => GlobPart::Just(chars.next()?),
                other => GlobPart::Just(other),
            })
        });
        Self(parts.collect())
    }

    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where the last star stands, and how much of the text it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(part) {
                Some(GlobPart::Many) => {
                    star = Some((part, at));
                    part += 1;
                }
                Some(GlobPart::One) => {
                    part += 1;
                    at += 1;
                }
                Some(GlobPart::Just(char)) if *char == text[at] => {
                    part += 1;
                    at += 1;
                }
                _ => {
                    let Some((of_star, taken)) = star else {
                        return false;
                    };
                    star = Some((of_star, taken + 1));
                    part = of_star + 1;
                    at = taken + 1;
                }
            }
        }
        self.0[part.min(self.0.len())..]
            .iter()
            .all(|part| *part == GlobPart::Many)
    }
}

impl Filter {
    pub(crate) fn new(name: &str, values: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            values: values.iter().map(|value| Glob::new(value)).collect(),
            raw: values.iter().map(|value| (*value).to_owned()).collect(),
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.values.iter().any(|value| value.matches(text))
    }

    pub(crate) fn given(&self) -> &[String] {
        &self.raw
    }

    /// The values as given, for filters without globs.
    pub(crate) fn equals(&self, text: &str) -> bool {
        self.raw.iter().any(|value| value == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_takes_the_meaning_from_what_is_behind_it() {
        let is = |value: &str, text: &str| Glob::new(value).matches(text);
        assert!(is(r"back\\slash", r"back\slash") && !is(r"back\slash", r"back\slash"));
        assert!(is(r"back\slash", "backslash") && is("back?slash", r"back\slash"));
        assert!(is(r"\*amazon\?", "*amazon?") && !is(r"\*a", "xa"));
        assert!(is("web-*-a*", "web-1-b-ab") && !is("web-*a", "web-1-b"));
        assert!(is("*", "") && is("", "") && !is("?", "") && is("a**", "a"));
    }
}
