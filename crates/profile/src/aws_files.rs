//! The shared configuration of AWS: the profiles, SSO sessions and services of
//! `~/.aws/config` and `~/.aws/credentials`, read as the AWS CLI reads them
//! ([`read`]), checked before they are used ([`check`]), and handed to the SDK in a form that it
//! takes ([`for_sdk`]).

mod check;
mod for_sdk;
mod read;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

pub use for_sdk::sdk_name;
use read::{Damage, Key, Section};

use ops_ui::{Env, Paths};

/// The configuration and the credentials file, or those that the environment names.
#[derive(Clone, Default)]
pub struct AwsFiles {
    /// The configuration file, there or not.
    pub config: PathBuf,
    /// The credentials file, there or not.
    pub credentials: PathBuf,
    profiles: BTreeMap<String, Group>,
    sso_sessions: BTreeMap<String, Group>,
    /// `[services NAME]`, by name.
    services: BTreeMap<String, Group>,
    /// Files that are there and cannot be read, and why.
    unreadable: Vec<(PathBuf, String)>,
}

/// What all sections of one name say together.
#[derive(Clone, Default)]
struct Group {
    /// The first header.
    place: FileLine,
    /// A later setting of the same name stands in place of an earlier one.
    settings: BTreeMap<String, Value>,
    damage: Option<(PathBuf, Damage)>,
}

#[derive(Clone)]
struct Value {
    key: Key,
    place: FileLine,
}

/// A line of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLine {
    file: PathBuf,
    /// Counted from 1.
    line: usize,
}

impl fmt::Display for FileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

// Values may be secret.
impl fmt::Debug for AwsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsFiles")
            .field("config", &self.config)
            .field("credentials", &self.credentials)
            .field("profiles", &self.profiles.keys())
            .finish_non_exhaustive()
    }
}

impl AwsFiles {
    /// Reads them. A file that is not there has no profiles, and neither has one that cannot be
    /// read; why is told where a profile is missed.
    pub fn read(env: &Env, paths: &Paths) -> Self {
        let path = |name: &str, default: &str| match env.path(name) {
            Some(path) => path
                .to_str()
                .map_or(path.clone(), |path| paths.expand(path)),
            None => paths.home.join(default),
        };
        let mut files = Self {
            config: path("AWS_CONFIG_FILE", ".aws/config"),
            credentials: path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            ..Self::default()
        };
        // What the credentials file says of a profile stands in place of what the configuration
        // says.
        for (file, is_config) in [
            (files.config.clone(), true),
            (files.credentials.clone(), false),
        ] {
            match std::fs::read(&file) {
                Ok(bytes) => files.add(&file, is_config, &zeroize::Zeroizing::new(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => files.unreadable.push((file, error.to_string())),
            }
        }
        files
    }

    /// Adds the sections of one file: `[profile NAME]`, `[default]`, `[sso-session
    /// NAME]` and `[services NAME]` of the configuration, `[NAME]` of the credentials.
    fn add(&mut self, file: &Path, is_config: bool, bytes: &[u8]) {
        let sections = read::sections(bytes);
        // Where both are there, the SDKs take no notice of the plain form.
        let has_long_default = is_config
            && sections
                .iter()
                .any(|section| words_of(&section.header) == Some(("profile", "default".into())));
        for section in sections {
            let (groups, name) = if !is_config {
                (&mut self.profiles, unquoted(&section.header).to_owned())
            } else if section.header == "default" {
                if has_long_default {
                    continue;
                }
                (&mut self.profiles, section.header.clone())
            } else {
                match words_of(&section.header) {
                    Some(("profile", name)) => (&mut self.profiles, name),
                    Some(("sso-session", name)) => (&mut self.sso_sessions, name),
                    Some(("services", name)) => (&mut self.services, name),
                    // Of other programs, and profiles whose author left out the word: the AWS CLI
                    // does not know them either.
                    _ => continue,
                }
            };
            if !name.is_empty() {
                groups.entry(name).or_default().add(file, section);
            }
        }
    }

    /// The names of the profiles, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// Whether there is a profile `name`.
    pub fn has(&self, name: &str) -> bool {
        self.profiles.contains_key(name)
    }

    /// The region of profile `name`.
    pub fn region(&self, name: &str) -> Option<&str> {
        self.get(name, "region")
    }

    /// The value of `key` of profile `name`; `None` where nothing stands behind it, as for the AWS
    /// CLI.
    pub fn get(&self, name: &str, key: &str) -> Option<&str> {
        self.profiles.get(name)?.get(key)
    }

    /// Where `key` of profile `name` stands, or else the profile itself.
    pub fn place(&self, name: &str, key: &str) -> Option<&FileLine> {
        let group = self.profiles.get(name)?;
        Some(
            group
                .settings
                .get(key)
                .map_or(&group.place, |value| &value.place),
        )
    }

    /// The value of `key` of the SSO session `name`.
    pub fn sso_session(&self, name: &str, key: &str) -> Option<&str> {
        self.sso_sessions.get(name)?.get(key)
    }

    /// The endpoint that profile `name` sets for the service that the AWS CLI calls `service`, or
    /// for all.
    pub fn endpoint(&self, name: &str, service: &str) -> Option<&str> {
        self.get(name, "services")
            .and_then(|section| self.services.get(section))
            .and_then(|group| group.settings.get(service))
            .and_then(|value| {
                let nested = value.key.nested.iter();
                nested
                    .rev()
                    .find(|(key, value)| key == "endpoint_url" && !value.is_empty())
            })
            .map(|(_, url)| url.as_str())
            .or_else(|| self.get(name, "endpoint_url"))
    }
}

impl Group {
    fn add(&mut self, file: &Path, section: Section) {
        let place = |line| FileLine {
            file: file.to_owned(),
            line,
        };
        if self.place.line == 0 {
            self.place = place(section.line);
        }
        if let Some(damage) = section.damage {
            self.damage.get_or_insert((file.to_owned(), damage));
        }
        for key in section.keys {
            let value = Value {
                place: place(key.line),
                key,
            };
            self.settings.insert(value.key.name.clone(), value);
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        let value = self.settings.get(key)?.key.value.as_str();
        Some(value).filter(|value| !value.is_empty())
    }
}

/// The first word of a header of the configuration file, and the name behind it: what the AWS CLI
/// takes for one word, and also one that has blanks and no quotes.
fn words_of(header: &str) -> Option<(&str, String)> {
    let (kind, name) = header.split_once(char::is_whitespace)?;
    let name = match shell_words::split(name) {
        Ok(words) if words.len() == 1 => words.concat(),
        _ => unquoted(name.trim()).to_owned(),
    };
    Some((kind, name))
}

/// `text` without a pair of quotes around it.
fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(text)
}

impl AwsFiles {
    /// Those that have no more than one configuration file, with this text.
    pub fn of_config(text: &str) -> Self {
        let mut files = Self::default();
        files.add(Path::new("/c"), true, text.as_bytes());
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(config: &str, credentials: &str) -> AwsFiles {
        let mut files = AwsFiles::default();
        files.add(Path::new("/c"), true, config.as_bytes());
        files.add(Path::new("/k"), false, credentials.as_bytes());
        files
    }

    #[test]
    fn sections_of_both_files_become_profiles_and_others_do_not() {
        let files = files(
            "[default]\nregion = eu-west-1 # home\n[profile dev]\ns3 =\n  region = no-9\n[sso-session x]\nregion = q\n[stray]\n",
            "[ci]\naws_access_key_id = x\nregion=us-east-1\n[dev]\nregion = k\n",
        );
        let regions: Vec<_> = files
            .names()
            .map(|name| (name, files.region(name)))
            .collect();
        assert_eq!(
            regions,
            [
                ("ci", Some("us-east-1")),
                ("default", Some("eu-west-1")),
                ("dev", Some("k")),
            ]
        );
        assert_eq!(files.sso_session("x", "region"), Some("q"));
        assert_eq!(
            files
                .place("dev", "region")
                .map(ToString::to_string)
                .as_deref(),
            Some("/k:5")
        );
        assert_eq!(
            files
                .place("dev", "none")
                .map(ToString::to_string)
                .as_deref(),
            Some("/c:3")
        );
    }

    #[test]
    fn names_may_have_blanks_and_quotes() {
        let files = files(
            "[profile \"Two Words\"]\n[profile 'Single Quoted']\n[profile not quoted]\n[profile  wide ]\n[profile a\"b]\n[profile größe]\n[profile a&b=c]\n",
            "[in credentials]\n[\"quoted there\"]\n",
        );
        assert_eq!(
            files.names().collect::<Vec<_>>(),
            [
                "Single Quoted",
                "Two Words",
                "a\"b",
                "a&b=c",
                "größe",
                "in credentials",
                "not quoted",
                "quoted there",
                "wide"
            ]
        );
    }

    #[test]
    fn the_long_form_of_the_default_profile_wins() {
        let files = files("[profile default]\nregion = a\n[default]\nregion = b\n", "");
        assert_eq!(files.region("default"), Some("a"));
    }

    #[test]
    fn an_endpoint_is_that_of_the_service_or_that_of_all() {
        let files = files(
            "[services lab]\nec2 =\n  endpoint_url: http://e\nssm =\n  other = x\n[profile p]\nservices = lab\nendpoint_url = http://all\n",
            "",
        );
        assert_eq!(files.endpoint("p", "ec2"), Some("http://e"));
        assert_eq!(files.endpoint("p", "ssm"), Some("http://all"));
        assert_eq!(files.endpoint("q", "ssm"), None);
    }
}
