//! The user's own defaults: `$XDG_CONFIG_HOME/ops/config.yaml`.

use ops_ui::{
    ColorChoice, Error, Format, Paths, Result,
    yaml::{self, Node, Problem, Value},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    de, load,
    mistakes::Mistakes,
    report,
    schema::{Copy, Exec, Shell},
    ssh::Ssh,
    values::{Region, TimeLimit},
    verbs::Verbs,
};

/// The user's own defaults for ops: what holds where no flag, variable, team profile or AWS
/// configuration says otherwise
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserConfig {
    /// Profile in use where `-p` and OPS_PROFILE name none
    pub profile: Option<String>,
    /// AWS profile
    pub aws_profile: Option<String>,
    /// Region
    pub region: Option<Region>,
    /// Form of results
    pub output: Option<Format>,
    /// When to colour
    pub color: Option<ColorChoice>,
    /// Longest time until a session is ready
    pub timeout: Option<TimeLimit>,
    /// Whether servers that were used are remembered; `false` holds whatever a team profile says
    pub recent: Option<bool>,
    /// As `ssh` of a team profile
    pub ssh: Ssh,
    /// As `shell` of a team profile
    pub shell: Shell,
    /// As `copy` of a team profile
    pub copy: Copy,
    /// As `exec` of a team profile
    pub exec: Exec,
}

/// What errors call the file.
const WHAT: &str = "a configuration file";

/// The sections that lie under those of the team profile.
const SECTIONS: [&str; 4] = ["ssh", "shell", "copy", "exec"];

pub(super) struct User {
    pub(super) config: UserConfig,
    /// [`SECTIONS`] as the least profile, `None` where the file has none.
    pub(super) defaults: Option<Node>,
    tree: Option<Node>,
}

impl User {
    pub(super) fn at(&self, keys: &[&str]) -> Option<&Node> {
        self.tree.as_ref()?.at(keys)
    }
}

pub(super) fn path(paths: &Paths) -> std::path::PathBuf {
    paths.config.join("config.yaml")
}

pub(super) fn error(problem: &Problem) -> Error {
    report::error(problem, WHAT)
}

/// Reads the file; one that is not there says nothing.
pub(super) fn load(paths: &Paths, verbs: Verbs) -> Result<User> {
    let path = path(paths);
    if !path.exists() {
        return Ok(User {
            config: UserConfig::default(),
            defaults: None,
            tree: None,
        });
    }
    crate::refuse_exposed(&path)?;
    let source = yaml::read(&path)?;
    let tree = yaml::parse(&source).map_err(|problem| error(&problem))?;
    let config = de::read(&tree).map_err(|problem| error(&problem))?;
    let defaults = sections(&tree);
    if let Some(defaults) = &defaults {
        load::finish(defaults, verbs).map_err(|problem| error(&problem))?;
    }
    Ok(User {
        config,
        defaults,
        tree: Some(tree),
    })
}

/// Every mistake of the file.
pub(super) fn mistakes(paths: &Paths, verbs: Verbs) -> Vec<Error> {
    let path = path(paths);
    let mut mistakes = Mistakes::in_file(WHAT);
    let tree = crate::refuse_exposed(&path)
        .and_then(|()| yaml::read(&path))
        .and_then(|source| yaml::parse(&source).map_err(|problem| error(&problem)));
    match tree {
        Err(error) => mistakes.tell(error),
        Ok(mut tree) => {
            let config = mistakes.gather(&mut tree, de::read::<UserConfig>);
            if let (Some(_), Some(mut defaults)) = (config, sections(&tree)) {
                mistakes.gather(&mut defaults, |tree| load::finish(tree, verbs));
            }
        }
    }
    mistakes.into_errors()
}

fn sections(tree: &Node) -> Option<Node> {
    let Value::Map(entries) = &tree.value else {
        return None;
    };
    let kept: Vec<_> = entries
        .iter()
        .filter(|(key, _)| SECTIONS.contains(&key.text.as_str()))
        .cloned()
        .collect();
    (!kept.is_empty()).then(|| Node {
        value: Value::Map(kept),
        place: tree.place.clone(),
    })
}
