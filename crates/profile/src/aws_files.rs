//! The shared configuration files of AWS, as far as `ops` looks into them itself: which profiles there are and their regions.
//!
//! Credentials are the SDK's business; nothing secret is read from here.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{env::Env, paths::Paths};

/// The profiles of `~/.aws/config` and `~/.aws/credentials`, or of the files that the environment names.
#[derive(Clone, Debug, Default)]
pub struct AwsFiles {
    /// The configuration file, there or not.
    pub config: PathBuf,
    /// The credentials file, there or not.
    pub credentials: PathBuf,
    profiles: BTreeMap<String, Option<String>>,
}

impl AwsFiles {
    /// Reads them. A file that is not there or cannot be read has no profiles: saying so is left to the SDK, which needs it.
    pub fn read(env: &Env, paths: &Paths) -> Self {
        let path = |name: &str, default: &str| {
            let path = env.path(name).unwrap_or_else(|| paths.home.join(default));
            path.strip_prefix("~")
                .map(|rest| paths.home.join(rest))
                .unwrap_or(path.clone())
        };
        let config = path("AWS_CONFIG_FILE", ".aws/config");
        let credentials = path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        let mut profiles = BTreeMap::new();
        for (file, is_config) in [(&credentials, false), (&config, true)] {
            if let Ok(text) = std::fs::read_to_string(file) {
                collect(&text, is_config, &mut profiles);
            }
        }
        Self {
            config,
            credentials,
            profiles,
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
        self.profiles.get(name)?.as_deref()
    }
}

/// Adds the profiles of one file: `[profile NAME]` and `[default]` in the configuration, `[NAME]` in the credentials.
fn collect(text: &str, is_config: bool, profiles: &mut BTreeMap<String, Option<String>>) {
    let mut current: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = trimmed.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default().trim();
            let name = match section.split_once(char::is_whitespace) {
                Some(("profile", name)) if is_config => Some(name.trim()),
                None if !is_config || section == "default" => Some(section),
                _ => None,
            };
            current = name
                .map(|name| name.trim_matches(['"', '\'']).to_owned())
                .filter(|name| !name.is_empty());
            if let Some(name) = &current {
                profiles.entry(name.clone()).or_default();
            }
            continue;
        }
        // An indented line belongs to the key above it.
        if line.starts_with(char::is_whitespace) {
            continue;
        }
        if let (Some(name), Some((key, value))) = (&current, trimmed.split_once('='))
            && key.trim() == "region"
        {
            let value = value.split(" #").next().unwrap_or_default().trim();
            if !value.is_empty() {
                profiles.insert(name.clone(), Some(value.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_both_files_become_profiles_and_others_do_not() {
        let mut profiles = BTreeMap::new();
        collect(
            "[ci]\naws_access_key_id = x\nregion=us-east-1\n",
            false,
            &mut profiles,
        );
        collect(
            "[default]\nregion = eu-west-1 # home\n[profile dev]\ns3 =\n  region = no-9\n[sso-session x]\nregion = q\n[profile \"two words\"]\n[stray]\n",
            true,
            &mut profiles,
        );
        let names: Vec<_> = profiles
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_deref()))
            .collect();
        assert_eq!(
            names,
            [
                ("ci", Some("us-east-1")),
                ("default", Some("eu-west-1")),
                ("dev", None),
                ("two words", None),
            ]
        );
    }
}
