//! What filters of lists have in common.

use wildmatch::WildMatch;

/// A filter as the services have it: any of `values`, `*` and `?` standing for what they do in EC2 filters.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) name: String,
    values: Vec<WildMatch>,
    raw: Vec<String>,
}

impl Filter {
    pub(crate) fn new(name: &str, values: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            values: values.iter().map(|value| WildMatch::new(value)).collect(),
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
