//! No import circles inside a crate: between the modules of one folder, "uses" has a direction.
//!
//! A module is one with the files below it. What is read is `use` lines and `crate::`/`super::`
//! paths; a name that a module re-exports counts for the module that defines it, so that a
//! `lib.rs` or `mod.rs` which only lists its parts stands in no circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Circles that are known and wait for somebody to open them: crate, folder, modules. A circle that
/// is open by now fails the test too.
const KNOWN: &[(&str, &str, &[&str])] = &[];

/// The path of a module inside its crate; the crate's root is empty.
type Module = Vec<String>;

struct Sources {
    /// The code of each module without comments and tests.
    code: BTreeMap<Module, String>,
    /// By module: each name that it re-exports, and the path that the name stands for.
    reexports: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
}

impl Sources {
    fn read(folder: &Path) -> Self {
        let mut code = BTreeMap::new();
        collect(folder, &mut Vec::new(), &mut code);
        let reexports = code
            .iter()
            .map(|(module, text)| (module.clone(), reexports(text)))
            .collect();
        Self { code, reexports }
    }

    /// The module that defines what `path` means in `module`; `None` for other crates.
    fn definer(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut at = module.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" | "super" => {
                while let Some(word @ ("self" | "super")) = rest.first().map(String::as_str) {
                    if word == "super" {
                        at.pop();
                    }
                    rest = &rest[1..];
                }
            }
            child => {
                let mut below = at.clone();
                below.push(child.to_owned());
                if !self.code.contains_key(&below) {
                    return None;
                }
            }
        }
        // Down as far as there are files; what follows is an item, or a name that is re-exported
        // there.
        while let Some(word) = rest.first() {
            at.push(word.clone());
            if !self.code.contains_key(&at) {
                at.pop();
                break;
            }
            rest = &rest[1..];
        }
        if let Some(name) = rest.first()
            && depth < 8
            && let Some(meant) = self.reexports.get(&at).and_then(|names| names.get(name))
            && let Some(found) = self.definer(&at, meant, depth + 1)
        {
            return Some(found);
        }
        Some(at)
    }

    /// The modules that `module` uses, itself left out.
    fn used_by(&self, module: &Module) -> BTreeSet<Module> {
        let code = &self.code[module];
        let mut paths = Vec::new();
        let mut rest = String::new();
        for statement in code.split_inclusive(';') {
            match use_tree(statement) {
                // A re-export hands a name on; whoever uses the name is who depends on its module.
                Some((_, true)) => {}
                Some((tree, false)) => paths.extend(expand(tree)),
                None => rest.push_str(statement),
            }
        }
        paths.extend(inline_paths(&rest));
        paths
            .iter()
            .filter_map(|path| self.definer(module, path, 0))
            .filter(|used| used != module)
            .collect()
    }
}

fn collect(folder: &Path, module: &mut Module, code: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            module.push(name.into_owned());
            collect(&path, module, code);
            module.pop();
        } else if path.extension().is_some_and(|end| end == "rs") {
            let mut file = module.clone();
            if !["lib", "main", "mod"].contains(&&*name) {
                file.push(name.into_owned());
            }
            let text = fs::read_to_string(&path).expect("a source");
            code.insert(file, without_comments_and_tests(&text));
        }
    }
}

fn without_comments_and_tests(text: &str) -> String {
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code = code.join("\n");
    let tests = code.find("#[cfg(test)]\nmod tests {");
    code[..tests.unwrap_or(code.len())].to_owned()
}

/// The tree of a `use` statement, and whether it re-exports.
fn use_tree(statement: &str) -> Option<(&str, bool)> {
    // The last one: before it may stand words of a text.
    let start = statement
        .rmatch_indices("use ")
        .map(|(at, _)| at)
        .find(|at| *at == 0 || statement[..*at].ends_with(['\n', ' ', '}', '{']))?;
    let before = statement[..start].trim_end();
    let is_reexport = before.ends_with("pub")
        || before.ends_with(')')
            && before
                .rfind("pub(")
                .is_some_and(|at| !before[at..].contains('\n'));
    let tree = statement[start + 4..].trim_end_matches(';');
    tree.chars()
        .all(|c| c.is_alphanumeric() || c.is_whitespace() || "_:{},*".contains(c))
        .then_some((tree, is_reexport))
}

/// The paths of a tree such as `a::{b, c::{self, D as E}}`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    fn walk(prefix: &str, tree: &str, paths: &mut Vec<Vec<String>>) {
        let tree = tree.trim();
        let Some(open) = tree.find('{') else {
            let path = tree.split(" as ").next().unwrap_or_default();
            let words = format!("{prefix}{path}");
            let words = words.split("::").map(|word| word.trim().to_owned());
            paths.push(words.filter(|word| !word.is_empty()).collect());
            return;
        };
        let prefix = format!("{prefix}{}", &tree[..open]);
        let (mut depth, mut start) = (0, open + 1);
        for (at, c) in tree.char_indices().skip_while(|(at, _)| *at < open) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == ',' && depth == 1) || depth == 0 {
                if !tree[start..at].trim().is_empty() {
                    walk(&prefix, &tree[start..at], paths);
                }
                start = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    let mut paths = Vec::new();
    walk("", tree, &mut paths);
    // `a::{self}` means `a`; a leading `self` is a path of its own.
    for path in &mut paths {
        while path.len() > 1
            && path
                .last()
                .is_some_and(|word| word == "self" || word == "*")
        {
            path.pop();
        }
    }
    paths
}

/// Paths of at least two words in code that is no `use`.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .filter(|text| text.contains("::"))
        .map(|text| {
            text.split("::")
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|path: &Vec<String>| path.len() > 1)
        .collect()
}

fn reexports(code: &str) -> BTreeMap<String, Vec<String>> {
    code.split_inclusive(';')
        .filter_map(use_tree)
        .filter(|(_, is_reexport)| *is_reexport)
        .flat_map(|(tree, _)| expand(tree))
        .filter_map(|path| Some((path.last()?.clone(), path)))
        .collect()
}

/// By folder (`""` is the crate's root): its modules that stand in a circle, each with those of
/// them that it uses.
type Circles = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn circles(sources: &Sources) -> Circles {
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for module in sources.code.keys() {
        for used in sources.used_by(module) {
            let shared = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
            // One of them lies below the other: they are parts of one module.
            let (Some(from), Some(to)) = (module.get(shared), used.get(shared)) else {
                continue;
            };
            let uses = folders.entry(module[..shared].to_vec()).or_default();
            uses.entry(from.clone()).or_default().insert(to.clone());
        }
    }
    let mut circles = Circles::new();
    for (folder, mut uses) in folders {
        let in_circle: BTreeSet<String> = uses
            .keys()
            .filter(|module| reachable(&uses, module).contains(*module))
            .cloned()
            .collect();
        uses.retain(|module, _| in_circle.contains(module));
        for used in uses.values_mut() {
            used.retain(|module| in_circle.contains(module));
        }
        if !uses.is_empty() {
            circles.insert(folder.join("::"), uses);
        }
    }
    circles
}

/// What `start` uses, and what that uses in turn.
fn reachable(uses: &BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![start.to_owned()];
    while let Some(module) = open.pop() {
        for used in uses.get(&module).into_iter().flatten() {
            if seen.insert(used.clone()) {
                open.push(used.clone());
            }
        }
    }
    seen
}

#[test]
fn no_crate_has_an_import_circle_inside() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut seen = 0;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(crates).expect("the crates") {
        let folder = entry.expect("an entry").path();
        let name = folder.file_name().expect("a name").to_string_lossy();
        for (module, uses) in circles(&Sources::read(&folder.join("src"))) {
            found.insert((name.clone().into_owned(), module), uses);
        }
        seen += 1;
    }
    assert!(seen > 8, "{seen} crates");
    let mut wrong = String::new();
    for ((name, folder), uses) in &found {
        let known = KNOWN
            .iter()
            .find(|(of, at, _)| of == name && at == folder)
            .map_or(&[][..], |(_, _, modules)| modules);
        let modules: Vec<&str> = uses.keys().map(String::as_str).collect();
        if !modules.iter().all(|module| known.contains(module)) {
            wrong.push_str(&format!("{name} {folder}: {modules:?}\n"));
            for (module, used) in uses {
                wrong.push_str(&format!("  {module} uses {used:?}\n"));
            }
        }
    }
    for (name, folder, _) in KNOWN {
        if !found.contains_key(&((*name).to_owned(), (*folder).to_owned())) {
            wrong.push_str(&format!(
                "{name} {folder}: open by now, take it from the list\n"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_circle_is_found_and_a_list_of_parts_is_none() {
    let module = |text: &str| text.split("::").map(str::to_owned).collect::<Module>();
    let sources = |files: &[(&str, &str)]| {
        let code: BTreeMap<Module, String> = files
            .iter()
            .map(|(name, text)| {
                let name = if name.is_empty() {
                    Vec::new()
                } else {
                    module(name)
                };
                (name, without_comments_and_tests(text))
            })
            .collect();
        let reexports = code
            .iter()
            .map(|(module, text)| (module.clone(), reexports(text)))
            .collect();
        Sources { code, reexports }
    };
    let root = ("", "mod a;\nmod b;\nmod c;\npub use a::{One, deep::Two};\n");
    let open = sources(&[
        root,
        ("a", "use crate::c::Three; // use crate::b\nmod deep;\n"),
        ("a::deep", "use super::One;\n"),
        ("b", "use crate::{One, Two};\n"),
        (
            "c",
            "fn c() {}\n#[cfg(test)]\nmod tests {\n use crate::b::B;\n}\n",
        ),
    ]);
    assert_eq!(circles(&open), Circles::new());
    let closed = sources(&[
        root,
        ("a", "pub struct One;\n"),
        ("a::deep", "fn two() { crate::c::three() }\n"),
        ("b", "use crate::{\n    One, Two,\n};\n"),
        ("c", "use super::b::{self, B as C};\n"),
    ]);
    let found = circles(&closed);
    assert_eq!(
        found[""].keys().collect::<Vec<_>>(),
        ["a", "b", "c"],
        "{found:?}"
    );
}
