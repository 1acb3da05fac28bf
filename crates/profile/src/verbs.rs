//! The verbs of this program, as the registry of its binary tells them, and the names that are kept
//! free for verbs to come.

/// Names of verbs to come: no alias may take them, so that no profile breaks when they arrive. A
/// guard may name them, and so may an external command be called; completion and hints leave them
/// out.
pub const RESERVED: &[&str] = &["api", "doctor", "play", "recent", "runs", "warm"];

/// A verb that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// The name as it is typed.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// The verb whose rules hold for this one; `None` where its own do.
    pub ruled_as: Option<&'static str>,
    /// Whether no profile can take it away: what reaches no server and is needed to see why
    /// something is refused.
    pub is_always_allowed: bool,
}

/// Every verb that is built in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verbs(&'static [Verb]);

impl Verbs {
    /// The verbs of a registry.
    pub const fn new(verbs: &'static [Verb]) -> Self {
        Self(verbs)
    }

    /// The verb that is called `name`, by its own name or another spelling of it.
    pub fn find(self, name: &str) -> Option<&'static Verb> {
        self.0
            .iter()
            .find(|verb| verb.name == name || verb.aliases.contains(&name))
    }

    /// Every name and other spelling.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0
            .iter()
            .flat_map(|verb| std::iter::once(verb.name).chain(verb.aliases.iter().copied()))
    }

    /// The name under which rules know `name`: `ssh` for `ssh-proxy`, `shell` for `sh`, itself for
    /// what is not built in.
    pub fn ruled_as(self, name: &str) -> &str {
        self.find(name)
            .map_or(name, |verb| verb.ruled_as.unwrap_or(verb.name))
    }

    /// Whether a rule that names `rule` means `verb`.
    pub(crate) fn means(self, rule: &str, verb: &str) -> bool {
        self.ruled_as(rule) == self.ruled_as(verb)
    }

    /// Whether no profile can take `name` away.
    pub fn is_always_allowed(self, name: &str) -> bool {
        self.find(name).is_some_and(|verb| verb.is_always_allowed)
    }

    /// Whether `name` is taken by a verb, or kept free for one to come.
    pub fn is_taken(self, name: &str) -> bool {
        self.find(name).is_some() || RESERVED.contains(&name)
    }
}
