//! What a line that is being typed means: which verb, whose arguments, which profile and region.

use std::{ffi::OsString, sync::Arc};

use ops_core::{Context, Entry, Env, Globals, cache::Patience};

use super::{
    Candidate, Request, external, tree,
    values::{Source, starts_with},
};
use crate::{alias, dispatch, hoist, plugin, policy::Policy, registry, sandbox};

/// How deep aliases may lead.
const DEPTH: usize = 8;

/// What the word that is being typed can become.
pub(super) fn candidates(request: &Request, env: Env, patience: Patience) -> Vec<Candidate> {
    let mut words = request.words.clone();
    let current = request.current.as_str();
    for _ in 0..DEPTH {
        let Some(place) = dispatch::first_verb(&words) else {
            return of_root(&words, request, env, patience);
        };
        let name = words[place].to_string_lossy().into_owned();
        if let Some(entry) = registry::find(&name) {
            return of_verb(entry, &words, place, request, env, patience);
        }
        if name == "help" {
            return of_help(&words[place + 1..], current, &env);
        }
        let after = &words[place + 1..];
        let mut globals = tree::globals(None, &words[..place]);
        if let Some(alias) = meaning(&name, &globals, &env) {
            words = expanded(&words, place, &alias);
            continue;
        }
        let called: Vec<OsString> = words[place..].to_vec();
        if let Some((found, used)) = plugin::find(&env, &called) {
            let cx = context(globals, env);
            return external::candidates(&found, &called[used..], current, &cx, patience);
        }
        // Words after an alias may name the profile that has it.
        if let Some(profile) = alias::profile_among(after) {
            globals.profile = Some(profile);
            if let Some(alias) = meaning(&name, &globals, &env) {
                words = expanded(&words, place, &alias);
                continue;
            }
        }
        return Vec::new();
    }
    Vec::new()
}

fn meaning(name: &str, globals: &Globals, env: &Env) -> Option<Vec<String>> {
    let cx = Context::new(globals.clone(), env.clone());
    Policy::load(&cx).ok()?.alias(name).map(<[String]>::to_vec)
}

fn expanded(words: &[OsString], place: usize, meaning: &[String]) -> Vec<OsString> {
    let mut line = words[..place].to_vec();
    line.extend(meaning.iter().map(OsString::from));
    line.extend_from_slice(&words[place + 1..]);
    line
}

/// The context of the line, with a sandbox that is served under it; none is started here.
fn context(globals: Globals, mut env: Env) -> Context {
    sandbox::lay_served(&globals, &mut env);
    Context::new(globals, env)
}

/// No verb yet: verbs, aliases, external commands, global options and their values.
fn of_root(words: &[OsString], request: &Request, env: Env, patience: Patience) -> Vec<Candidate> {
    let current = request.current.as_str();
    let globals = tree::globals(None, words);
    let cx = context(globals, env);
    // Of the options before, only one that still lacks its value matters.
    let pending: Vec<OsString> = words
        .last()
        .filter(|last| alias::takes_next(last))
        .cloned()
        .into_iter()
        .collect();
    let is_value = !pending.is_empty();
    let source = Arc::new(Source::new(cx.clone(), patience, &[], request.described));
    let mut found = source.run(tree::with_values(None, &source), pending, current);
    if !is_value && !current.starts_with('-') {
        found.extend(named(&cx, current));
    }
    found
}

/// What `named` by the profile and by files: aliases and external commands.
fn named(cx: &Context, current: &str) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let policy = Policy::load(cx).ok();
    let plugins = plugin::listed(cx.env());
    if let Some(policy) = &policy {
        let aliases = policy
            .aliases()
            .filter(|(name, _)| starts_with(name, current));
        found.extend(aliases.map(|(name, meaning)| Candidate::new(name, format!("ops {meaning}"))));
    }
    for (name, about) in plugins {
        let taken = found.iter().any(|known| known.value == name);
        let allowed = policy
            .as_ref()
            .is_none_or(|policy| policy.check(&name).is_ok());
        if !taken && allowed && starts_with(&name, current) {
            let about = if about.is_empty() {
                "external command".to_owned()
            } else {
                about
            };
            found.push(Candidate::new(name, about));
        }
    }
    found
}

fn of_help(after: &[OsString], current: &str, env: &Env) -> Vec<Candidate> {
    if !after.is_empty() {
        return Vec::new();
    }
    let cx = Context::new(Globals::default(), env.clone());
    let mut found: Vec<Candidate> = registry::entries()
        .filter(|entry| !entry.traits.hidden && starts_with(entry.name, current))
        .map(|entry| Candidate::new(entry.name, about(entry)))
        .collect();
    found.extend(named(&cx, current));
    found
}

fn about(entry: &Entry) -> String {
    let about = (entry.clap)().get_about().map(ToString::to_string);
    about
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn of_verb(
    entry: &'static Entry,
    words: &[OsString],
    place: usize,
    request: &Request,
    env: Env,
    patience: Patience,
) -> Vec<Candidate> {
    // As the dispatcher does, for verbs that take another program's command line.
    let (words, place) = if entry.traits.own_short_options {
        let moved = hoist::hoist(words.to_vec(), place, &(entry.clap)());
        let place = dispatch::first_verb(&moved).unwrap_or(place);
        (moved, place)
    } else {
        (words.to_vec(), place)
    };
    let globals = tree::globals(Some(entry), &words);
    let cx = context(globals, env);
    let mut after = words[place + 1..].to_vec();
    // An option that still lacks its value stays where it is.
    let pending = after.last().filter(|last| {
        last.as_encoded_bytes().starts_with(b"-") && !last.as_encoded_bytes().starts_with(b"--")
    });
    if entry.traits.own_short_options && pending.is_none() {
        let command = crate::cli::verb(entry);
        after = (entry.arrange)(after, &command);
    }
    let source = Arc::new(Source::new(cx, patience, &after, request.described));
    let mut line = vec![OsString::from(entry.name)];
    line.extend(after);
    source.run(
        tree::with_values(Some(entry), &source),
        line,
        &request.current,
    )
}
