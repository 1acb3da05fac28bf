//! Changes of single keys in a file that people wrote: comments, order and form of all the rest
//! stay. The one module that names the library for it.

use std::{collections::BTreeMap, path::Path, str::FromStr, sync::Arc};

use ops_ui::{
    Error, Result, hint,
    yaml::{self, Node, Source, Value},
};
use yaml_edit::{Document, path::YamlPath};

/// A value as it was typed.
#[derive(Clone, Copy, Debug)]
pub enum NewValue<'a> {
    /// Text, whatever it looks like.
    Text(&'a str),
    /// What YAML takes it for: a number, a list, a map.
    Yaml(&'a str),
}

/// `text`, the content of `path`, with `value` under `key`, such as `ssh.user`; a dot in a key is
/// written `\.`.
///
/// # Errors
/// A text that is no YAML, or a change that would touch something else too: an anchor that is used
/// elsewhere, a key below what is no map.
pub fn set(path: &Path, text: &str, key: &str, value: NewValue<'_>) -> Result<String> {
    let before = leaves(path, text)?;
    // A file of comments alone has no document to be changed.
    let (head, body) = if before.is_empty() && !text.contains(':') {
        (lines(text), "")
    } else {
        (String::new(), text)
    };
    let document = parse(path, body)?;
    let set = match value {
        NewValue::Text(text) => document.try_set_path(key, text),
        NewValue::Yaml(text) => {
            let value = parse(path, text)?;
            if let Some(map) = value.as_mapping() {
                document.try_set_path(key, map)
            } else if let Some(list) = value.as_sequence() {
                document.try_set_path(key, list)
            } else if let Some(scalar) = value.as_scalar() {
                document.try_set_path(key, scalar)
            } else {
                document.try_set_path(key, "")
            }
        }
    };
    set.map_err(|error| refused(path, key, &error))?;
    let after = lines(&format!("{head}{document}"));
    verify(path, key, &before, &leaves(path, &after)?, true)?;
    Ok(after)
}

/// `text`, the content of `path`, without `key`; `None` where it has no such key.
///
/// # Errors
/// As [`set`].
pub fn unset(path: &Path, text: &str, key: &str) -> Result<Option<String>> {
    let before = leaves(path, text)?;
    if !before.keys().any(|name| is_at(name, &segments(key))) {
        return Ok(None);
    }
    let document = parse(path, text)?;
    document
        .try_remove_path(key)
        .map_err(|error| refused(path, key, &error))?;
    let after = lines(&document.to_string());
    verify(path, key, &before, &leaves(path, &after)?, false)?;
    Ok(Some(after))
}

/// `text` with a line feed at its end, unless it is empty.
fn lines(text: &str) -> String {
    match text.trim_end_matches('\n') {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}

fn parse(path: &Path, text: &str) -> Result<Document> {
    Document::from_str(text).map_err(|error| refused(path, "it", &error))
}

fn refused(path: &Path, key: &str, why: &impl std::fmt::Display) -> Error {
    Error::usage(format!("cannot change `{key}` in {}", path.display()))
        .caused_by(why)
        .hint(hint!("change it by hand: ops config edit"))
}

/// The keys that `key` names, by its dots.
fn segments(key: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut characters = key.chars();
    while let Some(c) = characters.next() {
        let last = segments.last_mut();
        match (c, last) {
            ('.', _) => segments.push(String::new()),
            ('\\', Some(last)) => last.extend(characters.next()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    segments
}

/// What is written under each path of keys.
type Leaves = BTreeMap<Vec<String>, String>;

/// # Errors
/// It is no YAML.
fn leaves(path: &Path, text: &str) -> Result<Leaves> {
    fn walk(node: &Node, path: &mut Vec<String>, leaves: &mut Leaves) {
        match &node.value {
            Value::Map(entries) if !entries.is_empty() => {
                for (key, node) in entries {
                    path.push(key.text.clone());
                    walk(node, path, leaves);
                    path.pop();
                }
            }
            Value::List(items) if !items.is_empty() => {
                for (number, node) in items.iter().enumerate() {
                    path.push(format!("[{number}]"));
                    walk(node, path, leaves);
                    path.pop();
                }
            }
            Value::Null => {
                leaves.insert(path.clone(), String::new());
            }
            Value::Text(text) => {
                leaves.insert(path.clone(), format!("text {text}"));
            }
            other => {
                leaves.insert(path.clone(), format!("{other:?}"));
            }
        }
    }
    let source = Arc::new(Source {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    let tree = yaml::parse(&source).map_err(|problem| {
        Error::usage(format!("{} is no YAML", path.display())).caused_by(&problem.message)
    })?;
    let mut leaves = Leaves::new();
    walk(&tree, &mut Vec::new(), &mut leaves);
    // The root of an empty file.
    leaves.remove(&Vec::new());
    Ok(leaves)
}

/// Whether `name` is `key` or below it.
fn is_at(name: &[String], key: &[String]) -> bool {
    name.starts_with(key)
}

/// The library may not know a form of YAML as we do: what is written back is read once more, and
/// nothing but `key` may differ.
fn verify(path: &Path, key: &str, before: &Leaves, after: &Leaves, is_set: bool) -> Result<()> {
    let key_path = segments(key);
    // A map that was empty, or becomes it, stands for its keys.
    let others = |leaves: &Leaves| -> Leaves {
        let is_other = |name: &&Vec<String>| !is_at(name, &key_path) && !key_path.starts_with(name);
        leaves
            .iter()
            .filter(|(name, _)| is_other(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let is_there = after.keys().any(|name| is_at(name, &key_path));
    if others(before) != others(after) || is_there != is_set {
        return Err(refused(path, key, &"other keys would change with it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# A team
description: Shop # the shop
aws: { profile: my, region: eu-west-1 } # flow
select:
  # whose
  tags: { Team: shop }
guard:
  protect: true # safe

# last
hosts:
  db: { tags: { Role: db } }
";

    fn path() -> &'static Path {
        Path::new("shop.yaml")
    }

    #[test]
    fn a_value_changes_and_comments_stay() {
        let cases = [
            (
                "description",
                NewValue::Text("no"),
                "description: 'no' # the shop",
            ),
            (
                "aws.region",
                NewValue::Text("us-east-1"),
                "region: us-east-1 } # flow",
            ),
            (
                "aws.account",
                NewValue::Text("111122223333"),
                "account: '111122223333' } # flow",
            ),
            (
                "guard.max_targets",
                NewValue::Yaml("5"),
                "  max_targets: 5\n",
            ),
            (
                "guard.deny",
                NewValue::Yaml("[exec, cp]"),
                "  deny: [exec, cp]\n",
            ),
            (
                "ssh.user",
                NewValue::Text("ubuntu"),
                "ssh:\n  user: ubuntu\n",
            ),
            (r"select.tags.a\.b", NewValue::Text("c"), "a.b: c }"),
        ];
        for (key, value, expected) in cases {
            let after = set(path(), FILE, key, value).expect(key);
            assert!(after.contains(expected), "{key}:\n{after}");
            for comment in [
                "# A team",
                "# the shop",
                "# flow",
                "# whose",
                "# safe",
                "# last",
            ] {
                assert!(after.contains(comment), "{key} loses {comment}:\n{after}");
            }
        }
    }

    #[test]
    fn a_key_goes_and_the_rest_stays() {
        let after = unset(path(), FILE, "aws.region")
            .expect("unset")
            .expect("it was there");
        assert!(
            !after.contains("eu-west-1") && after.contains("profile: my"),
            "{after}"
        );
        assert!(unset(path(), FILE, "ssh.user").expect("unset").is_none());
        let after = unset(path(), FILE, "hosts")
            .expect("unset")
            .expect("it was there");
        assert!(
            after.contains("# safe") && !after.contains("Role"),
            "{after}"
        );
    }

    #[test]
    fn a_file_that_is_empty_or_has_comments_alone_takes_a_key() {
        for text in ["", "# mine\n", "# mine"] {
            let after = set(path(), text, "output", NewValue::Text("wide")).expect("set");
            assert!(after.ends_with("output: wide\n"), "{after}");
            assert_eq!(after.contains("# mine"), text.contains("# mine"), "{after}");
        }
    }

    #[test]
    fn what_would_change_something_else_is_refused() {
        let shared = "a: &x { k: 1 }\nb: *x\n";
        assert!(set(path(), shared, "b.k", NewValue::Yaml("2")).is_err());
        assert!(set(path(), "a: text\n", "a.b", NewValue::Text("c")).is_err());
        assert!(set(path(), "a: [\n", "b", NewValue::Text("c")).is_err());
    }
}
