//! What a line that is being typed means: which verb, whose arguments, which profile and region.

use std::{ffi::OsString, sync::Arc};

use ops_core::{Context, Entry, cache::Patience};
use ops_ui::{Env, Globals};

use super::{
    external, tree,
    values::{Source, starts_with},
};
use crate::shells::{Candidate, Request};
use crate::{
    alias, hoist,
    meaning::{self, Meaning},
    plugin,
    policy::Policy,
    registry, sandbox,
};

/// What the word that is being typed can become.
pub(super) fn line_candidates(request: &Request, env: Env, patience: Patience) -> Vec<Candidate> {
    let mut words = request.words.clone();
    let current = request.current.as_str();
    let mut seen = Vec::new();
    loop {
        let Some(place) = meaning::place_of_verb(&words) else {
            return of_root(&words, request, env, patience);
        };
        let mut globals = tree::globals_in_words(None, &words[..place]);
        // A profile that is wrong has no aliases; the next command says what is wrong with it.
        let rules = |globals: &Globals| {
            let cx = registry::new_context(globals.clone(), env.clone());
            Ok(Policy::load(&cx).ok())
        };
        let Ok(meant) = meaning::understand(&words, place, &mut globals, &env, &rules) else {
            return Vec::new();
        };
        match meant {
            Meaning::Verb(entry) => return of_verb(entry, &words, place, request, env, patience),
            Meaning::Help => return of_help(&words[place + 1..], current, &env),
            Meaning::Alias(meaning, _) => {
                match alias::expand_before_cursor(&words, place, &meaning, &mut seen) {
                    Some(line) => words = line,
                    None => return Vec::new(),
                }
            }
            Meaning::External(found, used, _) => {
                let cx = completion_context(globals, env);
                let words = &words[place + used..];
                return external::external_candidates(&found, words, current, &cx, patience);
            }
            Meaning::Nothing(_) => return Vec::new(),
        }
    }
}

/// The context of the line, with a sandbox that is served under it; none is started here.
fn completion_context(globals: Globals, mut env: Env) -> Context {
    sandbox::lay_served(&globals, &mut env);
    registry::new_context(globals, env)
}

/// No verb yet: verbs, aliases, external commands, global options and their values.
fn of_root(words: &[OsString], request: &Request, env: Env, patience: Patience) -> Vec<Candidate> {
    let current = request.current.as_str();
    let globals = tree::globals_in_words(None, words);
    let cx = completion_context(globals, env);
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
        found.extend(named_candidates(&cx, current));
    }
    found
}

/// What `named` by the profile and by files: aliases and external commands.
fn named_candidates(cx: &Context, current: &str) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let policy = Policy::load(cx).ok();
    let plugins = plugin::listed_plugins(cx.env(), cx.verbs());
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
    let cx = registry::new_context(Globals::default(), env.clone());
    let mut found: Vec<Candidate> = registry::entries()
        .filter(|entry| !entry.traits.hidden && starts_with(entry.name, current))
        .map(|entry| Candidate::new(entry.name, about_entry(entry)))
        .collect();
    found.extend(named_candidates(&cx, current));
    found
}

fn about_entry(entry: &Entry) -> String {
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
        let moved = hoist::hoist_options(words.to_vec(), place, &(entry.clap)());
        let place = meaning::place_of_verb(&moved).unwrap_or(place);
        (moved, place)
    } else {
        (words.to_vec(), place)
    };
    let globals = tree::globals_in_words(Some(entry), &words);
    let cx = completion_context(globals, env);
    let mut after = words[place + 1..].to_vec();
    // An option that still lacks its value stays where it is.
    let pending = after.last().filter(|last| {
        last.as_encoded_bytes().starts_with(b"-") && !last.as_encoded_bytes().starts_with(b"--")
    });
    let is_arranged = entry.traits.own_short_options || entry.traits.runs_a_command;
    if is_arranged && pending.is_none() {
        let command = crate::cli::verb_command(entry);
        after = (entry.arrange)(after, &command);
    }
    if entry.traits.runs_a_command && after.iter().any(|word| word == "--") {
        // What another program takes, on another computer, nobody knows here.
        return Vec::new();
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
