//! External commands: executables called `ops-NAME`.

mod answer;
mod environment;
mod find;
mod info;
mod run;

pub(crate) use answer::bounded_answer;
pub(crate) use environment::prepare_environment;
pub(crate) use find::{Found, Plugin, all_plugins, find_plugin};
pub(crate) use info::Cache;
pub(crate) use run::{exec_plugin, spawn_plugin};

use ops_profile::Verbs;
use ops_ui::{Env, Paths};

/// The interface version that this program speaks.
pub(crate) const API_VERSION: &str = "ops.plugin/v1";

/// Names and descriptions for help and suggestions: from the cache, so that help starts no process
/// and writes no file. What one of `verbs` hides is left out.
pub(crate) fn listed_plugins(env: &Env, verbs: Verbs) -> Vec<(String, String)> {
    let cache = Cache::load(&Paths::from_env(env));
    let mut names: Vec<(String, String)> = Vec::new();
    for found in all_plugins(env) {
        let hidden = verbs.find(&found.plugin.name).is_some();
        if hidden || !found.executable || names.iter().any(|(name, _)| *name == found.plugin.name) {
            continue;
        }
        let about = cache
            .get(&found.plugin.path)
            .map(|info| info.about.clone())
            .unwrap_or_default();
        names.push((found.plugin.name, ops_ui::output::escape(&about)));
    }
    names.sort();
    names
}
