//! What is read on a server: files, or units of its journal.

use std::collections::BTreeMap;

use ops_profile::{OneOrMany, Target};
use ops_ui::{Error, Hint, Result, hint};

/// What begins a unit in `logs` of a profile.
const UNIT: &str = "unit:";

/// Where in which file a client is: by path, both as the script writes them.
pub(crate) type FilePlaces = BTreeMap<String, String>;

/// What is read on a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSources {
    /// Paths there, or globs of paths; `~/` begins at the user's home.
    pub(crate) files: Vec<String>,
    /// Units of systemd.
    pub(crate) units: Vec<String>,
}

impl LogSources {
    /// `targets` are the words that are neither.
    ///
    /// # Errors
    /// There is nothing to read, files and units at once, or a home that cannot be named.
    pub(crate) fn check(&self, targets: &[Target]) -> Result<()> {
        match (self.files.is_empty(), self.units.is_empty()) {
            (true, true) => {
                let nothing = Error::usage("no file and no unit was given")
                    .hint("name a file: ops logs TARGET /var/log/syslog; or a unit: --unit NAME");
                // Whoever writes two words means the last one to be what is read.
                let [first, .., last] = targets else {
                    return Err(nothing);
                };
                let unit = Hint::command(["ops", "logs", first.as_str(), "--unit", last.as_str()]);
                return Err(nothing
                    .caused_by(format!(
                        "`{last}` is taken for a server: a file begins with `/` or `~/`, and the \
                         profile has no such name under `logs`"
                    ))
                    .hint(hint!("if it is a unit: {}", unit)));
            }
            (false, false) => {
                return Err(
                    Error::usage("files and units do not go together").hint("run ops logs twice")
                );
            }
            _ => {}
        }
        let is_of_somebody = |file: &&String| file.starts_with('~') && !file.starts_with("~/");
        if let Some(file) = self.files.iter().find(is_of_somebody) {
            return Err(Error::usage(format!("`{file}` is no path here"))
                .caused_by("`~` stands for the home of the user who reads, alone")
                .hint("write the path out, or read as its owner: --user NAME and ~/FILE"));
        }
        if let Some(text) = self
            .files
            .iter()
            .chain(&self.units)
            .find(|t| t.contains('\0'))
        {
            return Err(Error::usage(format!("`{text}` holds a NUL byte")));
        }
        Ok(())
    }
}

/// Tells targets from files and from names of the profile's logs.
///
/// # Errors
/// A word that is no target.
pub(crate) fn divide(
    words: &[String],
    logs: &BTreeMap<String, OneOrMany<String>>,
) -> Result<(Vec<Target>, LogSources)> {
    let (mut targets, mut sources) = (Vec::new(), LogSources::default());
    for word in words {
        if word.starts_with(['/', '~']) {
            sources.files.push(word.clone());
        } else if let Some(named) = logs.get(word) {
            for source in &named.0 {
                match source.strip_prefix(UNIT) {
                    Some(unit) => sources.units.push(unit.to_owned()),
                    None => sources.files.push(source.clone()),
                }
            }
        } else {
            let target = word
                .parse()
                .map_err(|error: ops_profile::target::TargetError| {
                    let error = Error::usage(error.to_string()).hint("a file begins with / or ~");
                    match logs.keys().next() {
                        None => error,
                        Some(name) => error.hint(hint!(
                            "or it is a name under `logs:` of the profile, such as {}",
                            name
                        )),
                    }
                })?;
            targets.push(target);
        }
    }
    Ok((targets, sources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_files_are_told_apart() {
        let mut known = BTreeMap::new();
        let named = ["/var/log/nginx/error.log", "unit:nginx"].map(str::to_owned);
        known.insert("nginx".to_owned(), OneOrMany(named.to_vec()));
        let words = ["web-*", "/a b", "~/c", "db-1"].map(str::to_owned);
        let (targets, sources) = divide(&words, &known).expect("targets");
        let texts: Vec<&str> = targets.iter().map(Target::as_str).collect();
        assert_eq!(texts, ["web-*", "db-1"]);
        assert_eq!(sources.files, ["/a b", "~/c"]);
        let (targets, sources) = divide(&["nginx".to_owned()], &known).expect("names");
        assert!(targets.is_empty());
        assert_eq!(sources.files, ["/var/log/nginx/error.log"]);
        assert_eq!(sources.units, ["nginx"]);
        assert!(sources.check(&[]).is_err(), "files and units at once");
    }

    #[test]
    fn the_home_of_somebody_else_is_refused() {
        let of = |file: &str| LogSources {
            files: vec![file.to_owned()],
            units: Vec::new(),
        };
        assert!(of("~/a").check(&[]).is_ok());
        assert!(of("~root/a").check(&[]).is_err());
        assert!(LogSources::default().check(&[]).is_err());
    }
}
