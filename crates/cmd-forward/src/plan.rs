//! What is to be forwarded, from the command line and the profile.

use std::collections::BTreeSet;

use ops_core::Context;
use ops_profile::{Target, nearest};
use ops_ui::{Error, Hint, Result, hint};

use crate::spec::{LocalAddress, RemoteAddress, Spec, SpecError, parse_listen};

/// One forward to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) name: Option<String>,
    pub(crate) target: Target,
    pub(crate) local: LocalAddress,
    /// `None`: a SOCKS proxy.
    pub(crate) remote: Option<RemoteAddress>,
    /// A URL to show.
    pub(crate) open: Option<String>,
}

/// What was typed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TypedForwards<'a> {
    pub(crate) words: &'a [String],
    pub(crate) groups: &'a [String],
    pub(crate) socks: &'a [String],
}

/// The forwards that `typed` asks for: names of the profile if every word is one, else a target and
/// specs.
///
/// # Errors
/// Nothing or something unknown was asked for (usage).
pub(crate) fn plan(cx: &Context, typed: TypedForwards<'_>) -> Result<Vec<Forward>> {
    let named = &cx.profile()?.forwards;
    let mut forwards = Vec::new();
    for group in typed.groups {
        let before = forwards.len();
        for (name, forward) in named {
            if forward.group.as_deref() == Some(group) {
                forwards.push(of_profile(name, forward)?);
            }
        }
        if forwards.len() == before {
            return Err(unknown_group(group, named.values()));
        }
    }
    let words = typed.words;
    let all_names = !words.is_empty() && words.iter().all(|word| named.contains_key(word));
    if all_names && typed.socks.is_empty() {
        for word in words {
            if let Some(forward) = named.get(word) {
                forwards.push(of_profile(word, forward)?);
            }
        }
    } else if let Some((target, specs)) = words.split_first() {
        if specs.is_empty() && typed.socks.is_empty() {
            return Err(no_spec(target, named.keys()));
        }
        if let [spec, server] = words
            && is_ports(spec)
            && !is_ports(server)
        {
            return Err(
                Error::usage("the server stands before its ports").hint(hint!(
                    "turn them round: ops forward {} {}",
                    server.as_str(),
                    spec.as_str()
                )),
            );
        }
        let target: Target = target
            .parse()
            .map_err(|error| Error::usage(format!("{error}")))?;
        for text in specs {
            let spec: Spec = text.parse().map_err(|error| {
                let (name, other) = if named.contains_key(text) {
                    (text.as_str(), target.as_str())
                } else {
                    (target.as_str(), text.as_str())
                };
                if named.contains_key(name) {
                    Error::usage(format!("`{name}` is the name of a forward, but `{other}` is none"))
                        .hint("give names only, or a target and specs: ops forward TARGET LOCAL:HOST:PORT")
                } else {
                    spec_error(&error)
                }
            })?;
            forwards.push(Forward {
                name: None,
                target: target.clone(),
                local: spec.local,
                remote: Some(spec.remote),
                open: None,
            });
        }
        for text in typed.socks {
            forwards.push(Forward {
                name: None,
                target: target.clone(),
                local: parse_listen(text).map_err(|error| spec_error(&error))?,
                remote: None,
                open: None,
            });
        }
    } else if !typed.socks.is_empty() {
        return Err(Error::usage("a SOCKS proxy needs a server to go through")
            .hint(hint!("ops forward TARGET -D {}", typed.socks[0])));
    }
    if forwards.is_empty() {
        let error = Error::usage("nothing to forward was given");
        return Err(if named.is_empty() {
            error.hint("ops forward TARGET LOCAL:HOST:PORT")
        } else {
            error.hint("see what the profile names: ops forward --list")
        });
    }
    let forwards = distinct(forwards);
    refuse_collisions(&forwards)?;
    Ok(forwards)
}

/// Two that want the same local end: the second would find it taken by this very process.
fn refuse_collisions(forwards: &[Forward]) -> Result<()> {
    let mut seen: Vec<&Forward> = Vec::new();
    for forward in forwards {
        let is_any = matches!(forward.local, LocalAddress::Tcp { port: 0, .. });
        if !is_any && let Some(other) = seen.iter().find(|seen| seen.local == forward.local) {
            let names: Vec<_> = [*other, forward]
                .iter()
                .map(|f| match (&f.name, &f.remote) {
                    (Some(name), _) => format!("`{name}`"),
                    (None, Some(remote)) => format!("that to `{remote}`"),
                    (None, None) => "the SOCKS proxy".to_owned(),
                })
                .collect();
            return Err(Error::usage(format!(
                "two forwards listen on `{}`: {}",
                forward.local,
                names.join(" and ")
            ))
            .hint("give each a local port of its own; 0 is any free one"));
        }
        seen.push(forward);
    }
    Ok(())
}

/// A name that is also in a group is started once.
fn distinct(forwards: Vec<Forward>) -> Vec<Forward> {
    let mut seen = BTreeSet::new();
    forwards
        .into_iter()
        .filter(|forward| {
            forward
                .name
                .as_ref()
                .is_none_or(|name| seen.insert(name.clone()))
        })
        .collect()
}

fn of_profile(name: &str, forward: &ops_profile::Forward) -> Result<Forward> {
    let Some(via) = &forward.via else {
        return Err(Error::usage(format!(
            "the forward `{name}` does not say which server it goes through"
        ))
        .hint(hint!(
            "add via: TARGET to forwards.{} of the profile, or: ops forward TARGET {}",
            name,
            forward.to.to_string()
        )));
    };
    Ok(Forward {
        name: Some(name.to_owned()),
        target: via.target().clone(),
        local: LocalAddress::Tcp {
            bind: forward.listen.as_ref().and_then(|l| l.address.clone()),
            port: forward.listen.as_ref().map_or(forward.to.port, |l| l.port),
        },
        remote: Some(RemoteAddress {
            host: forward.to.host.clone(),
            port: forward.to.port,
        }),
        open: forward.open.clone(),
    })
}

fn spec_error(error: &SpecError) -> Error {
    Error::usage(error.to_string()).hint("all forms of SPEC: ops forward --help")
}

fn no_spec<'a>(word: &str, names: impl Iterator<Item = &'a String> + Clone) -> Error {
    if is_ports(word) {
        return Error::usage(format!("`{word}` is a port, and the server is missing"))
            .hint(hint!("name the server first: ops forward TARGET {}", word))
            .hint("see what there is: ops ls");
    }
    let error = Error::usage(format!(
        "`{word}` is not the name of a forward, and a target needs a port to forward"
    ));
    match nearest(word, names.map(String::as_str)) {
        Some(name) => error.hint(hint!("did you mean: ops forward {}", name)),
        None => error
            .hint(hint!(
                "port 80 of it, here as 8080: ops forward {} 8080:80",
                word
            ))
            .hint(hint!(
                "a host that it reaches: ops forward {} 3307:db.internal:3306",
                word
            )),
    }
}

/// Whether `word` is a port, or several between colons, as no server is called.
fn is_ports(word: &str) -> bool {
    word.split(':')
        .all(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn unknown_group<'a>(
    group: &str,
    forwards: impl Iterator<Item = &'a ops_profile::Forward>,
) -> Error {
    let groups: BTreeSet<&str> = forwards.filter_map(|f| f.group.as_deref()).collect();
    let error = Error::usage(format!("no forward is in the group `{group}`"));
    if groups.is_empty() {
        error.hint("see what the profile names: ops forward --list")
    } else {
        error.hint(hint!("there are: {}", Hint::names(groups, ", ")))
    }
}
