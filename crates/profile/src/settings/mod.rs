//! The effective settings: each value with where it came from.
//!
//! Precedence: flag, `OPS_*`, team profile, AWS configuration, the user's own `config.yaml`,
//! default.

mod git_clone;
mod show;
#[cfg(test)]
mod tests;
mod user;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use git_clone::GitClone;
pub use show::{
    FileRow, ProfileKind, ProfileRow, Row, Validation, files, keys, profiles, schema, show,
    user_schema, validate,
};
pub use user::UserConfig;

use ops_ui::{
    ColorChoice, Error, Format, Globals, Invocation, Result, Source,
    globals::ErrorFormat,
    hint,
    text::named,
    yaml::{Node, SourceSpan},
};

use crate::{
    aws_files::AwsFiles,
    guard::Refused,
    load::{self, Found, Loaded},
    schema::Profile,
    suggest::nearest,
    values,
    verbs::Verbs,
};

/// Keys of a profile that no verb reads so far.
const WITHOUT_EFFECT: &[&[&str]] = &[];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line; the flag as it is spelt.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
    /// The embedded stand-in for AWS, for whose region no other variable is asked.
    Sandbox,
    /// The team profile, or one it extends: `file:line`.
    Profile(String),
    /// A file of the AWS configuration and the profile in it.
    Aws(String),
    /// The user's own `config.yaml`: `file:line`.
    User(String),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Sandbox => f.write_str("sandbox"),
            Self::Profile(at) => write!(f, "team profile {at}"),
            Self::Aws(at) => write!(f, "AWS configuration {at}"),
            Self::User(at) => write!(f, "user configuration {at}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl From<&Source> for Origin {
    fn from(source: &Source) -> Self {
        match source {
            Source::Flag(flag) => Self::Flag(flag.clone()),
            Source::Variable(name) => Self::Variable(name.clone()),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The effective value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Setting<T> {
    fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// Whether it was asked for in this invocation: by a flag or an `OPS_*` variable.
    pub fn is_explicit(&self) -> bool {
        match &self.origin {
            Origin::Flag(_) => true,
            Origin::Variable(name) => name.starts_with("OPS_"),
            _ => false,
        }
    }
}

/// Every setting of one invocation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The team profile's name, if one is in use.
    pub profile: Setting<Option<String>>,
    /// The AWS profile, if one is named; `-p NAME` may have named it.
    pub aws_profile: Setting<Option<String>>,
    /// The region in which targets are looked up, as far as it is known without asking AWS.
    pub region: Setting<Option<String>>,
    /// The regions for lists; the one region where nothing else is said.
    pub regions: Setting<Vec<String>>,
    /// Whether AWS is the embedded stand-in.
    pub sandbox: Setting<bool>,
    /// Form of results.
    pub output: Setting<Format>,
    /// When to colour.
    pub color: Setting<ColorChoice>,
    /// Whether tables lack their header line.
    pub no_headers: Setting<bool>,
    /// How much is said beyond results: the number of `-v`.
    pub verbose: Setting<u8>,
    /// Whether only errors are said.
    pub quiet: Setting<bool>,
    /// Whether servers that are used are remembered on this machine.
    pub recent: Setting<bool>,
    /// Longest time until a session is ready.
    pub timeout: Setting<Option<Duration>>,
    /// Whether the questions of a guard are answered with yes.
    pub yes: Setting<bool>,
    /// Whether nothing is ever asked.
    pub no_input: Setting<bool>,
    /// Form of errors.
    pub error_format: Setting<ErrorFormat>,
    /// Folders of profiles before the user's and the system's.
    pub profiles_dir: Setting<Vec<PathBuf>>,
    /// The team profile as loaded; `None` without one.
    pub team: Option<Loaded>,
    /// What the profile says, with the user's own defaults under it; empty without either.
    effective: Profile,
    /// The tree of `effective`.
    tree: Option<Node>,
    /// The configuration files of AWS.
    pub aws_files: Arc<AwsFiles>,
    verbs: Verbs,
}

impl Settings {
    /// Puts together what `invocation` and the files of this user say; `verbs` are what a profile
    /// may rule.
    ///
    /// # Errors
    /// An invalid `config.yaml` or profile, or a name that is no profile.
    pub fn load(invocation: &Invocation, verbs: Verbs) -> Result<Self> {
        let globals = &invocation.globals;
        let user = user::load(&invocation.paths, verbs)?;
        let user_at = |keys: &[&str]| {
            user.at(keys)
                .map_or(Origin::Default, |node| Origin::User(at(&node.place)))
        };
        let flag = |name: &str| flag_origin(globals, name);

        // First of all: a profile that is left out by mistake takes its guards with it.
        refuse_empty_names(globals)?;
        // A variable that is set to nothing counts as one that is not set.
        let asked = match globals.profile.as_ref().filter(|name| !name.is_empty()) {
            Some(name) => Some(Setting::new(name.clone(), flag("profile"))),
            None => user
                .config
                .profile
                .clone()
                .map(|name| Setting::new(name, user_at(&["profile"]))),
        };
        // Read once, for everything in this process: the same file must not give `-p` one list of
        // profiles and the credentials another.
        let aws_files = Arc::new(AwsFiles::read(&invocation.env, &invocation.paths));
        let chosen = choose(invocation, asked.as_ref(), &aws_files)?;
        let team = match &chosen {
            Chosen::Team(found, all) => {
                let defaults = user.defaults.as_ref();
                Some(Loaded::load(found, all, defaults, verbs)?)
            }
            Chosen::Aws(_) | Chosen::None => None,
        };
        let (effective, tree) = match (&team, &user.defaults) {
            // The team's tree lies over the user's defaults already.
            (Some(team), _) => (team.profile.clone(), Some(team.tree().clone())),
            (None, Some(tree)) => (
                load::finish(tree, verbs).map_err(|problem| user::error(&problem))?,
                Some(tree.clone()),
            ),
            (None, None) => (Profile::default(), None),
        };
        let team_at = |keys: &[&str]| {
            team.as_ref()
                .and_then(|team| team.tree().at(keys))
                .map_or(Origin::Default, |node| Origin::Profile(at(&node.place)))
        };

        let profile = match (&team, &asked) {
            (Some(team), Some(asked)) => {
                Setting::new(Some(team.name.clone()), asked.origin.clone())
            }
            _ => Setting::new(None, Origin::Default),
        };
        // In the order of precedence; `-p NAME` comes in between where no team profile is called
        // so.
        let aws_profile = first([
            globals
                .aws_profile
                .clone()
                .filter(|name| !name.is_empty())
                .map(|name| Setting::new(name, flag("aws_profile"))),
            match (&chosen, &asked) {
                (Chosen::Aws(name), Some(asked)) => {
                    Some(Setting::new(name.clone(), asked.origin.clone()))
                }
                _ => None,
            },
            effective
                .aws
                .profile
                .clone()
                .map(|name| Setting::new(name, team_at(&["aws", "profile"]))),
            variable(invocation, &["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]),
            user.config
                .aws_profile
                .clone()
                .map(|name| Setting::new(name, user_at(&["aws_profile"]))),
        ]);
        let of_files = || {
            let name = aws_profile.value.as_deref().unwrap_or("default");
            let region = aws_files.region(name)?;
            let place = aws_files.place(name, "region")?;
            let origin = Origin::Aws(format!("{place} [{name}]"));
            Some(Setting::new(region.to_owned(), origin))
        };
        let of_variables = || {
            let mut region = variable(invocation, &["AWS_REGION", "AWS_DEFAULT_REGION"])?;
            // It has laid its environment over the user's.
            if globals.sandbox {
                region.origin = Origin::Sandbox;
            }
            Some(region)
        };
        // Regions of files are checked where they are read. These become part of a host name.
        for region in &globals.region {
            region.parse::<values::Region>().map_err(|why| {
                Error::usage(format!("{} is not usable", flag("region"))).caused_by(why)
            })?;
        }
        let region = first([
            globals
                .region
                .first()
                .cloned()
                .map(|region| Setting::new(region, flag("region"))),
            effective.aws.region.as_ref().map(|region| {
                Setting::new(region.as_str().to_owned(), team_at(&["aws", "region"]))
            }),
            // An AWS profile that was named now outranks the environment, as its credentials do.
            if aws_profile.is_explicit() {
                of_files()
            } else {
                None
            },
            of_variables(),
            of_files(),
            user.config
                .region
                .as_ref()
                .map(|region| Setting::new(region.as_str().to_owned(), user_at(&["region"]))),
        ]);
        let list = &effective.aws.regions;
        let regions = if !globals.region.is_empty() {
            Setting::new(globals.region.clone(), flag("region"))
        } else if list.is_empty() {
            Setting::new(
                region.value.iter().cloned().collect(),
                region.origin.clone(),
            )
        } else {
            Setting::new(
                list.iter()
                    .map(|region| region.as_str().to_owned())
                    .collect(),
                team_at(&["aws", "regions"]),
            )
        };

        let recent = match (user.config.recent, effective.recent) {
            // What is written on this machine is its user's to forbid.
            (Some(false), _) => Setting::new(false, user_at(&["recent"])),
            (_, Some(wanted)) => Setting::new(wanted, team_at(&["recent"])),
            _ if effective.guard.protect == Some(true) => {
                Setting::new(false, team_at(&["guard", "protect"]))
            }
            (Some(true), None) => Setting::new(true, user_at(&["recent"])),
            (None, None) => Setting::new(true, Origin::Default),
        };

        Ok(Self {
            profile,
            aws_profile,
            recent,
            region,
            regions,
            sandbox: switch(globals, "sandbox", globals.sandbox),
            output: pick(
                [
                    globals
                        .output
                        .map(|format| Setting::new(format, flag("output"))),
                    effective
                        .output
                        .format
                        .map(|format| Setting::new(format, team_at(&["output", "format"]))),
                    user.config
                        .output
                        .map(|format| Setting::new(format, user_at(&["output"]))),
                ],
                Format::Table,
            ),
            color: pick(
                [
                    globals
                        .color
                        .map(|color| Setting::new(color, flag("color"))),
                    None,
                    user.config
                        .color
                        .map(|color| Setting::new(color, user_at(&["color"]))),
                ],
                ColorChoice::Auto,
            ),
            no_headers: switch(globals, "no_headers", globals.no_headers),
            verbose: switch(globals, "verbose", globals.verbose),
            quiet: switch(globals, "quiet", globals.quiet),
            timeout: first([
                globals
                    .timeout
                    .map(|time| Setting::new(time, flag("timeout"))),
                user.config
                    .timeout
                    .map(|time| Setting::new(time.0, user_at(&["timeout"]))),
            ]),
            yes: switch(globals, "yes", globals.yes),
            no_input: switch(globals, "no_input", globals.no_input),
            error_format: switch(
                globals,
                "error_format",
                globals.error_format.unwrap_or_default(),
            ),
            profiles_dir: globals.profiles_dir.as_ref().map_or(
                Setting::new(Vec::new(), Origin::Default),
                |dirs| {
                    // As typed: which of them count, and why, is for `load::folders`.
                    Setting::new(std::env::split_paths(dirs).collect(), flag("profiles_dir"))
                },
            ),
            team,
            effective,
            tree,
            aws_files,
            verbs,
        })
    }

    /// What the team profile says, with the user's own defaults under it. Empty where there is
    /// neither.
    pub fn profile(&self) -> &Profile {
        &self.effective
    }

    /// Whether the profile lets `verb`, built in or external, be used at all: `guard.deny` and
    /// `commands`.
    ///
    /// # Errors
    /// The key that refuses, and why.
    pub fn check_verb(&self, verb: &str) -> std::result::Result<(), Refused> {
        self.effective.guard.check_verb(verb, self.verbs)?;
        self.effective.commands.check_verb(verb, self.verbs)
    }

    /// Each key that is set although no verb reads it so far, with the place where it is set
    /// (`file:line`): people hear of it, so that nobody takes it for something that protects or
    /// works.
    pub fn keys_without_effect(&self) -> impl Iterator<Item = (String, String)> {
        WITHOUT_EFFECT.iter().filter_map(|path| {
            let node = self.tree.as_ref()?.at(path)?;
            Some((path.join("."), at(&node.place)))
        })
    }

    /// What messages call the profile in use: the team profile, else the AWS profile, else
    /// `default`.
    pub fn profile_label(&self) -> &str {
        self.profile
            .value
            .as_deref()
            .or(self.aws_profile.value.as_deref())
            .unwrap_or("default")
    }
}

/// A flag with nothing behind it is a variable of a script that is not set (`-p "$TEAM"`). Taking
/// it for "no profile" would drop the one that `OPS_PROFILE` names, with all its guards.
///
/// # Errors
/// `--profile` or `--aws-profile` was given without a name.
fn refuse_empty_names(globals: &Globals) -> Result<()> {
    let names = [
        ("profile", "OPS_PROFILE", globals.profile.as_deref()),
        (
            "aws_profile",
            "OPS_AWS_PROFILE",
            globals.aws_profile.as_deref(),
        ),
    ];
    for (field, variable, name) in names {
        let typed = matches!(globals.source(field), Some(Source::Flag(_)));
        if typed && name.is_some_and(|name| name.trim().is_empty()) {
            return Err(
                Error::usage(format!("{} names no profile", flag_origin(globals, field)))
                    .caused_by("it is empty: a variable that is not set, perhaps")
                    .hint(hint!(
                        "to use none, take the variable away: env -u {} ops …",
                        variable
                    )),
            );
        }
    }
    Ok(())
}

/// `file:line` of a place.
fn at(place: &SourceSpan) -> String {
    format!("{}:{}", place.source.path.display(), place.line)
}

/// The origin of a global option that is set.
fn flag_origin(globals: &Globals, name: &str) -> Origin {
    globals.source(name).map_or_else(
        || Origin::Flag(format!("--{}", name.replace('_', "-"))),
        Origin::from,
    )
}

/// A global option that is set when its value is not the default.
fn switch<T: Default + PartialEq + Copy>(globals: &Globals, name: &str, value: T) -> Setting<T> {
    if value == T::default() && globals.source(name).is_none() {
        Setting::new(value, Origin::Default)
    } else {
        Setting::new(value, flag_origin(globals, name))
    }
}

fn variable(invocation: &Invocation, names: &[&str]) -> Option<Setting<String>> {
    names.iter().find_map(|name| {
        let value = invocation.env.var(name)?;
        Some(Setting::new(
            value.to_owned(),
            Origin::Variable((*name).to_owned()),
        ))
    })
}

/// The first that is there.
fn first<T, const N: usize>(candidates: [Option<Setting<T>>; N]) -> Setting<Option<T>> {
    candidates
        .into_iter()
        .flatten()
        .next()
        .map_or(Setting::new(None, Origin::Default), |setting| {
            Setting::new(Some(setting.value), setting.origin)
        })
}

fn pick<T, const N: usize>(candidates: [Option<Setting<T>>; N], default: T) -> Setting<T> {
    candidates
        .into_iter()
        .flatten()
        .next()
        .unwrap_or(Setting::new(default, Origin::Default))
}

/// What `-p NAME` means.
enum Chosen {
    Team(Found, Vec<Found>),
    Aws(String),
    None,
}

/// A team profile of that name, else an AWS profile of that name, else an error that lists both
/// kinds.
fn choose(
    invocation: &Invocation,
    asked: Option<&Setting<String>>,
    aws: &AwsFiles,
) -> Result<Chosen> {
    let Some(asked) = asked else {
        return Ok(Chosen::None);
    };
    let name = asked.value.as_str();
    // Team profiles first. With the other order an entry in ~/.aws/config that happens to have the
    // name of a team profile would switch its guards off.
    let all = load::list(&load::folders(&invocation.globals, &invocation.paths))?;
    if let Some(found) = all.iter().find(|found| found.name == name) {
        return Ok(Chosen::Team(found.clone(), all));
    }
    if aws.has(name) {
        return Ok(Chosen::Aws(name.to_owned()));
    }
    Err(unknown_profile(asked, &all, aws))
}

fn unknown_profile(asked: &Setting<String>, all: &[Found], aws: &AwsFiles) -> Error {
    let name = &asked.value;
    let quote = |names: &mut dyn Iterator<Item = &str>| {
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        match names.len() {
            0 => "none".to_owned(),
            1..=20 => names.join(", "),
            more => format!("{} and {} more", names[..20].join(", "), more - 20),
        }
    };
    let mut teams = all.iter().map(|found| found.name.as_str());
    let near = nearest(name, teams.clone().chain(aws.names()));
    let error = Error::usage(format!("there is no profile `{}`", name.escape_debug()))
        .caused_by(format!("it was asked for by {}", asked.origin))
        .caused_by(format!("team profiles: {}", quote(&mut teams)))
        .caused_by(format!("AWS profiles: {}", quote(&mut aws.names())));
    match near {
        Some(near) => error.hint(hint!(
            "did you mean {}? see them all: ops config profiles",
            named(near)
        )),
        None => error.hint("see where profiles are looked for: ops config path"),
    }
}

/// Whether a file or folder is there.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
