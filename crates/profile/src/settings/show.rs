//! What `ops config` shows, as plain data.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ops_ui::{
    Error, Invocation, Result,
    globals::ErrorFormat,
    hint,
    text::named,
    yaml::{Node, Value},
};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::{
    aws_files::AwsFiles,
    load::{self, Found, Loaded},
    schema::Profile,
    values,
    verbs::Verbs,
};

use super::{Origin, Setting, Settings, exists, git_clone::GitClone, user};

/// A setting as `ops config show` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name: a global option, or the path of a profile's key such as `ssh.user`.
    pub name: String,
    /// The effective value; null where there is none.
    pub value: Json,
    /// Where it came from.
    pub source: String,
}

/// Every effective value with where it came from: global options first, then the keys of the
/// profile.
///
/// # Errors
/// A value cannot be shown.
pub fn show(invocation: &Invocation, settings: &Settings) -> Result<Vec<Row>> {
    fn row<T>(name: &str, setting: &Setting<T>, value: impl FnOnce(&T) -> Json) -> Row {
        Row {
            name: name.to_owned(),
            value: value(&setting.value),
            source: setting.origin.to_string(),
        }
    }
    let time = |time: &Option<std::time::Duration>| {
        time.map_or(Json::Null, |time| json!(values::Time(time).to_string()))
    };
    let mut rows = vec![
        row("profile", &settings.profile, |v| json!(v)),
        row("aws-profile", &settings.aws_profile, |v| json!(v)),
        row("region", &settings.region, |v| json!(v)),
        row("regions", &settings.regions, |v| json!(v)),
        row("sandbox", &settings.sandbox, |v| json!(v)),
        row("output", &settings.output, |v| json!(v)),
        row("no-headers", &settings.no_headers, |v| json!(v)),
        row("color", &settings.color, |v| json!(v)),
        row("verbose", &settings.verbose, |v| json!(v)),
        row("quiet", &settings.quiet, |v| json!(v)),
        row("recent", &settings.recent, |v| json!(v)),
        row("timeout", &settings.timeout, time),
        row("yes", &settings.yes, |v| json!(v)),
        row("no-input", &settings.no_input, |v| json!(v)),
        row("error-format", &settings.error_format, |v| {
            json!(match v {
                ErrorFormat::Text => "text",
                ErrorFormat::Json => "json",
            })
        }),
        row("profiles-dir", &settings.profiles_dir, |v| json!(v)),
    ];
    if let Some(tree) = &settings.tree {
        let user = user::path(&invocation.paths);
        each_key(tree, &mut Vec::new(), &mut |name, node| {
            if is_shown_as_global(&name) {
                return;
            }
            let place = super::at(&node.place);
            let origin = if node.place.source.path == user {
                Origin::User(place)
            } else {
                Origin::Profile(place)
            };
            rows.push(Row {
                name,
                value: to_json(node),
                source: origin.to_string(),
            });
        });
    }
    Ok(rows)
}

/// Whether [`show`] has the value of a profile's key under the name of a global option already, or
/// whether it is of the file and no setting.
fn is_shown_as_global(key: &str) -> bool {
    matches!(
        key,
        "extends"
            | "description"
            | "recent"
            | "aws.profile"
            | "aws.region"
            | "aws.regions"
            | "output.format"
    )
}

/// Every key that a loaded profile has, by its path such as `ssh.user`, with its value.
pub fn keys(loaded: &Loaded) -> Vec<(String, Json)> {
    let mut keys = Vec::new();
    each_key(loaded.tree(), &mut Vec::new(), &mut |name, node| {
        if name != "extends" {
            keys.push((name, to_json(node)));
        }
    });
    keys
}

/// Calls `found` for every key below `node` that has a value of its own, by its path such as
/// `ssh.user`. An empty map is a value: it takes away what an extended profile says.
fn each_key<'a>(node: &'a Node, path: &mut Vec<&'a str>, found: &mut impl FnMut(String, &'a Node)) {
    match &node.value {
        Value::Null => {}
        Value::Map(entries) if !entries.is_empty() => {
            for (key, node) in entries {
                path.push(&key.text);
                each_key(node, path, found);
                path.pop();
            }
        }
        _ => found(path.join("."), node),
    }
}

fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        // `confirm: yes` is a word.
        Value::Bool(value) if node.place.text() != value.to_string() => json!(node.place.text()),
        Value::Bool(value) => json!(value),
        Value::Int(number) => {
            i64::try_from(*number).map_or_else(|_| json!(number.to_string()), |n| json!(n))
        }
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, node)| (key.text.clone(), to_json(node)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// What kind of profile `-p` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileKind {
    /// A file of a team.
    Team,
    /// A section of the AWS configuration.
    Aws,
}

/// A profile as `ops config profiles` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileRow {
    /// What `-p` takes.
    pub name: String,
    /// What kind it is.
    pub kind: ProfileKind,
    /// What the profile says of itself.
    pub description: Option<String>,
    /// Region, where it says one.
    pub region: Option<String>,
    /// Its file.
    pub path: PathBuf,
    /// Whether it is the one in use.
    pub active: bool,
    /// Files of the same name that it hides; for an AWS profile the team profile's name is
    /// `hidden_by`.
    pub hides: Vec<PathBuf>,
    /// The team profile that `-p` finds in its place.
    pub hidden_by: Option<PathBuf>,
    /// What is wrong with it, in one line.
    pub problem: Option<String>,
    /// The clone of a git repository that its folder belongs to.
    pub clone: Option<GitClone>,
}

/// Every profile that `-p` can name: team profiles, then those of AWS. An invalid one is listed
/// with what is wrong.
///
/// # Errors
/// A folder of profiles cannot be read.
pub fn profiles(
    invocation: &Invocation,
    verbs: Verbs,
    settings: Option<&Settings>,
) -> Result<Vec<ProfileRow>> {
    let all = load::list(&load::folders(&invocation.globals, &invocation.paths))?;
    let aws = AwsFiles::read(&invocation.env, &invocation.paths);
    // The list is of use just when the profile in use is broken.
    let team = settings.and_then(|settings| settings.profile.value.as_deref());
    let aws_active = settings.and_then(|settings| settings.aws_profile.value.as_deref());
    let mut rows = Vec::new();
    // Each folder is asked for once, however many profiles it has.
    let mut clones: BTreeMap<&Path, Option<GitClone>> = BTreeMap::new();
    for found in &all {
        let folder = found.path.parent().unwrap_or(&found.path);
        let clone = clones
            .entry(folder)
            .or_insert_with(|| GitClone::of_folder(folder, &invocation.env))
            .clone();
        let loaded = Loaded::load(found, &all, None, verbs);
        let profile = loaded.as_ref().ok().map(|loaded| &loaded.profile);
        rows.push(ProfileRow {
            name: found.name.clone(),
            kind: ProfileKind::Team,
            description: profile.and_then(|profile| profile.description.clone()),
            region: profile
                .and_then(|profile| Some(profile.aws.region.as_ref()?.as_str().to_owned())),
            path: found.path.clone(),
            active: team == Some(found.name.as_str()),
            hides: found.hides.clone(),
            hidden_by: None,
            problem: loaded.err().map(|error| one_line(&error)),
            clone,
        });
    }
    for name in aws.names() {
        rows.push(ProfileRow {
            name: name.to_owned(),
            kind: ProfileKind::Aws,
            description: None,
            region: aws.region(name).map(str::to_owned),
            path: aws.config.clone(),
            active: aws_active == Some(name),
            hides: Vec::new(),
            hidden_by: all
                .iter()
                .find(|found| found.name == name)
                .map(|found| found.path.clone()),
            problem: None,
            clone: None,
        });
    }
    Ok(rows)
}

fn one_line(error: &Error) -> String {
    let why = error.why().first().and_then(|why| why.lines().next());
    why.unwrap_or_else(|| error.what()).to_owned()
}

/// A place where `ops` looks for files, as `ops config path` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct FileRow {
    /// What is looked for there.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Whether it is there.
    pub exists: bool,
}

/// Every place where `ops` looks for or keeps something, in the order of precedence.
pub fn files(invocation: &Invocation) -> Vec<FileRow> {
    let paths = &invocation.paths;
    let aws = AwsFiles::read(&invocation.env, paths);
    let mut places = vec![("user configuration", user::path(paths))];
    places.extend(
        load::folders(&invocation.globals, paths)
            .into_iter()
            .map(|folder| ("team profiles", folder)),
    );
    places.extend([
        ("AWS configuration", aws.config),
        ("AWS credentials", aws.credentials),
        ("cache", paths.cache.clone()),
        ("state", paths.state.clone()),
        ("data", paths.data.clone()),
        ("runtime", paths.runtime.clone()),
    ]);
    places
        .into_iter()
        .map(|(what, path)| FileRow {
            what,
            exists: exists(&path),
            path,
        })
        .collect()
}

/// The JSON Schema of a team profile, for editors.
pub fn schema() -> Json {
    titled(schemars::schema_for!(Profile), "ops team profile")
}

/// The JSON Schema of the user's `config.yaml`.
pub fn user_schema() -> Json {
    titled(
        schemars::schema_for!(super::UserConfig),
        "ops user configuration",
    )
}

fn titled(mut schema: schemars::Schema, title: &str) -> Json {
    schema.insert("title".to_owned(), json!(title));
    schema.to_value()
}

/// What `ops config validate` found for one file.
#[derive(Debug)]
pub struct Validation {
    /// The profile's name, or `config.yaml`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// All that is wrong with it.
    pub problems: Vec<Error>,
}

/// Checks profiles by name or by file, or all there are and the user's `config.yaml`; `is_external`
/// says whether a verb is an external command. A file's neighbours can be extended by it.
///
/// # Errors
/// A folder cannot be read, or a name is no profile; what is wrong with a profile is in its
/// [`Validation`].
pub fn validate(
    invocation: &Invocation,
    verbs: Verbs,
    names: &[String],
    is_external: &dyn Fn(&str) -> bool,
) -> Result<Vec<Validation>> {
    let folders = load::folders(&invocation.globals, &invocation.paths);
    let all = load::list(&folders)?;
    if names.is_empty() {
        let mut results = Vec::new();
        let config = user::path(&invocation.paths);
        if exists(&config) {
            results.push(Validation {
                name: "config.yaml".to_owned(),
                path: config,
                problems: user::mistakes(&invocation.paths, verbs),
            });
        }
        for found in &all {
            results.push(check(found, &all, verbs, is_external));
        }
        return Ok(results);
    }
    names
        .iter()
        .map(|name| {
            if let Some(found) = all.iter().find(|found| found.name == *name) {
                return Ok(check(found, &all, verbs, is_external));
            }
            let path = Path::new(name);
            if path == user::path(&invocation.paths) {
                return Ok(Validation {
                    name: "config.yaml".to_owned(),
                    path: path.to_owned(),
                    problems: user::mistakes(&invocation.paths, verbs),
                });
            }
            if !path.is_file() {
                let near = crate::nearest(name, all.iter().map(|found| found.name.as_str()));
                let error = Error::usage(format!(
                    "`{}` is no team profile and no file",
                    name.escape_debug()
                ));
                return Err(match near {
                    Some(near) => error.hint(hint!("did you mean {}?", named(near))),
                    None => error.hint("see the profiles there are: ops config profiles"),
                });
            }
            // Its neighbours come first, as if its folder had been given with --profiles-dir.
            let mut folders = folders.clone();
            folders.insert(0, path.parent().map(Path::to_owned).unwrap_or_default());
            if folders[0].as_os_str().is_empty() {
                folders[0] = PathBuf::from(".");
            }
            let all = load::list(&folders)?;
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok(check(
                &Found {
                    name: stem,
                    path: path.to_owned(),
                    hides: Vec::new(),
                },
                &all,
                verbs,
                is_external,
            ))
        })
        .collect()
}

fn check(
    found: &Found,
    all: &[Found],
    verbs: Verbs,
    is_external: &dyn Fn(&str) -> bool,
) -> Validation {
    Validation {
        name: found.name.clone(),
        path: found.path.clone(),
        problems: load::mistakes(found, all, verbs, is_external),
    }
}
