//! Finding profiles in their folders, and loading one with all it extends.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use ops_ui::{
    Error, Globals, Hint, Paths, Result, Source, hint, permissions,
    text::named,
    yaml::{self, Node, Problem, Value},
};

use super::{
    check::{check, mistaken_aliases},
    de,
    merge::merge,
    mistakes::Mistakes,
    report,
    schema::Profile,
    suggest::nearest,
    verbs::Verbs,
};

/// Where a machine's administrator puts profiles for everybody.
pub(crate) const SYSTEM_FOLDER: &str = "/etc/ops/profiles";

/// How far `extends` may reach.
const MAX_DEPTH: usize = 16;

/// The folders of profiles, first wins: `--profiles-dir` or `OPS_PROFILES_DIR`, the user's, the
/// system's.
///
/// The working directory is never one of them: relative entries of the variable are left out, as a
/// cloned repository may come with a file that sets it. Those of the flag were typed, and stay.
pub fn folders(globals: &Globals, paths: &Paths) -> Vec<PathBuf> {
    let typed = !matches!(globals.source("profiles_dir"), Some(Source::Variable(_)));
    let mut folders: Vec<PathBuf> = globals
        .profiles_dir
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|path| !path.as_os_str().is_empty() && (typed || path.is_absolute()))
        .collect();
    folders.push(paths.config.join("profiles"));
    folders.push(PathBuf::from(SYSTEM_FOLDER));
    folders
}

/// A profile's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The stem of the file.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Files of the same name in later folders, which this one hides.
    pub hides: Vec<PathBuf>,
}

/// Every profile of `folders`, by name. A folder that is not there has none.
///
/// # Errors
/// A folder cannot be read.
pub fn list(folders: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for folder in folders {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            // Most people have no folder of their own, and most machines none of the system's. Any
            // other failure is an error: a folder that cannot be read may hold the profile with the
            // guards.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::usage(format!("cannot list `{}`", folder.display()))
                    .caused_by(error)
                    .hint(hint!("see who may read it: ls -ld {}", folder)));
            }
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        // `x.yaml` before `x.yml`, so that the first one wins on every file system alike: the order
        // of read_dir is the file system's own.
        files.sort();
        for path in files {
            let Some(name) = profile_name(&path) else {
                continue;
            };
            match found.get_mut(name) {
                Some(first) if first.path != path => first.hides.push(path),
                // The same folder was given twice.
                Some(_) => {}
                None => {
                    let name = name.to_owned();
                    let hides = Vec::new();
                    found.insert(name.clone(), Found { name, path, hides });
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The name of the profile in a file, `None` for a file that is no profile.
fn profile_name(path: &Path) -> Option<&str> {
    let extension = path.extension().and_then(OsStr::to_str)?;
    let name = path.file_stem().and_then(OsStr::to_str)?;
    (matches!(extension, "yaml" | "yml") && is_name(name) && path.is_file()).then_some(name)
}

/// Whether `name` can be that of a profile: no path, no flag, no hidden file.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        && !name.contains(|c: char| c.is_control() || c.is_whitespace() || "/\\:*?\"'".contains(c))
}

/// A profile with all it extends.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// The files it was merged from, from the most basic to its own.
    pub files: Vec<PathBuf>,
    /// What they say together.
    pub profile: Profile,
    tree: Node,
}

impl Loaded {
    /// Loads `found`; `all` is where `extends` looks, `defaults` a tree to lay it over, `verbs`
    /// what its guards may name.
    ///
    /// # Errors
    /// An invalid file, an unknown or circular `extends`; the error has file, line and column.
    pub fn load(
        found: &Found,
        all: &[Found],
        defaults: Option<&Node>,
        verbs: Verbs,
    ) -> Result<Self> {
        let mut resolver = Resolver::new(found, all);
        let own = resolver.resolve(found)?;
        // The user's defaults lie below everything that the team says, however far away in
        // `extends` it stands: they are habits, and a team's word counts more.
        let tree = match defaults {
            Some(defaults) => merge(defaults.clone(), own),
            None => own,
        };
        let profile = finish(&tree, verbs).map_err(|problem| report::error(&problem, WHAT))?;
        Ok(Self {
            name: found.name.clone(),
            path: found.path.clone(),
            files: resolver.files,
            profile,
            tree,
        })
    }

    /// The merged tree, in which every value knows its file and line.
    pub fn tree(&self) -> &Node {
        &self.tree
    }
}

pub(crate) const WHAT: &str = "a team profile";

/// Reads and checks a merged tree.
pub(crate) fn finish(tree: &Node, verbs: Verbs) -> Result<Profile, Problem> {
    let profile = de::read(tree)?;
    check(&profile, tree, verbs)?;
    Ok(profile)
}

/// Every mistake of `found` and of what it extends. `is_external` says whether a verb is an
/// external command.
pub(crate) fn mistakes(
    found: &Found,
    all: &[Found],
    verbs: Verbs,
    is_external: &dyn Fn(&str) -> bool,
) -> Vec<Error> {
    let mut resolver = Resolver::new(found, all);
    resolver.mistakes = Some(Mistakes::in_file(WHAT));
    let tree = resolver.resolve(found);
    let mut mistakes = resolver.mistakes.unwrap_or(Mistakes::in_file(WHAT));
    match tree {
        Err(error) => mistakes.tell(error),
        Ok(mut tree) => {
            let profile = mistakes.gather(&mut tree, |tree| finish(tree, verbs));
            if let Some(profile) = profile {
                for problem in mistaken_aliases(&profile, &tree, verbs, is_external) {
                    mistakes.tell(report::error(&problem, WHAT));
                }
            }
        }
    }
    mistakes.into_errors()
}

/// Follows `extends` from file to file.
struct Resolver<'a> {
    /// Where `extends` looks.
    all: &'a [Found],
    /// The profiles that are being read, each extended by the one before it.
    chain: Vec<String>,
    /// The files that were read, from the most basic one on.
    files: Vec<PathBuf>,
    /// Where mistakes are gathered; without it the first one ends everything.
    mistakes: Option<Mistakes>,
}

impl<'a> Resolver<'a> {
    fn new(found: &Found, all: &'a [Found]) -> Self {
        Self {
            all,
            chain: vec![found.name.clone()],
            files: Vec::new(),
            mistakes: None,
        }
    }

    /// The tree of `found` over the trees of what it extends.
    fn resolve(&mut self, found: &Found) -> Result<Node> {
        // Before anything of the file is read: it decides whose credentials go to which endpoint.
        refuse_exposed(&found.path)?;
        let own = self.parse(&found.path)?;
        let parents = match own.get("extends") {
            None => Vec::new(),
            Some(node) => match &node.value {
                Value::List(items) => items.iter().collect(),
                Value::Null => Vec::new(),
                _ => vec![node],
            },
        };
        let mut merged: Option<Node> = None;
        for parent in parents {
            // Everything but text has been refused with the rest of the file.
            let Value::Text(name) = &parent.value else {
                continue;
            };
            match self.parent(found, parent, name) {
                Ok(node) => {
                    merged = Some(match merged {
                        None => node,
                        Some(before) => merge(before, node),
                    });
                }
                Err(error) => match &mut self.mistakes {
                    Some(mistakes) => mistakes.tell(error),
                    None => return Err(error),
                },
            }
        }
        // Two parents may extend the same third one. It is merged for each, since a later parent
        // has the last word, and told once.
        if !self.files.contains(&found.path) {
            self.files.push(found.path.clone());
        }
        Ok(match merged {
            None => own,
            Some(base) => merge(base, own),
        })
    }

    /// The tree of the profile `name`, which `found` extends at `parent`.
    fn parent(&mut self, found: &Found, parent: &Node, name: &str) -> Result<Node> {
        let fail = |message: String, hint: Hint| {
            report::error(&Problem::at(&parent.place, message).hint(hint), WHAT)
        };
        if self.chain.iter().any(|before| before == name) {
            let mut ring = self.chain.clone();
            ring.push(name.to_owned());
            return Err(fail(
                format!("`extends` leads in a circle: {}", ring.join(" -> ")),
                hint!("remove {} from one of them", named(name)),
            ));
        }
        // The chain has no circle, so that it ends; the stack of this function may end before.
        if self.chain.len() >= MAX_DEPTH {
            return Err(fail(
                format!("`extends` reaches further than {MAX_DEPTH} profiles"),
                "join some of them".into(),
            ));
        }
        let all = self.all;
        let Some(next) = all.iter().find(|other| other.name == *name) else {
            let names = || all.iter().map(|other| other.name.as_str());
            let hint = nearest(name, names().filter(|other| *other != found.name)).map_or_else(
                || Hint::from("the profiles there are: ops config profiles"),
                |near| hint!("did you mean {}?", named(near)),
            );
            return Err(fail(
                format!("there is no profile `{name}` to extend"),
                hint,
            ));
        };
        self.chain.push(name.to_owned());
        let node = self.resolve(next);
        self.chain.pop();
        node
    }

    /// Parses one file and checks that each of its values has the right type, whatever others make
    /// of it later.
    fn parse(&mut self, path: &Path) -> Result<Node> {
        let source = yaml::read(path)?;
        let failed = |problem: Problem| report::error(&problem, WHAT);
        let mut node = yaml::parse(&source).map_err(failed)?;
        match &mut self.mistakes {
            Some(mistakes) => {
                if mistakes.gather(&mut node, de::read::<Profile>).is_none() {
                    // Nothing of it can be used, which is told already.
                    node.value = Value::Map(Vec::new());
                }
            }
            None => {
                de::read::<Profile>(&node).map_err(failed)?;
            }
        }
        Ok(node)
    }
}

/// Refuses a file that others may write, or replace in its folder: it says which role is assumed,
/// which endpoint is asked and what a guard demands.
///
/// # Errors
/// Somebody besides this user and root may; the hint mends it.
pub(crate) fn refuse_exposed(path: &Path) -> Result<()> {
    match permissions::exposed(path) {
        Some(exposed) => Err(Error::usage(format!("`{}` is not trusted", path.display()))
            .caused_by(&exposed)
            .hint(exposed.mend())),
        None => Ok(()),
    }
}
