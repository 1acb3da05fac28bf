//! From words to a command: built in, alias, external, or a did-you-mean.

use std::ffi::{OsStr, OsString};

use clap::ArgMatches;
use ops_core::{
    Context, Entry, Env, Error, ErrorKind, Exit, Globals, Output, globals::ErrorFormat, hint,
    profile::nearest,
};

use crate::{alias, cli, globals, hoist, plugin, policy::Policy, registry, run, usage};

/// Runs the line `words` (without the program's name) in `env`.
pub(crate) fn dispatch(words: Vec<OsString>, env: &Env) -> Exit {
    let mut words = words;
    let mut seen = Vec::new();
    loop {
        match step(&words, env, &mut seen) {
            Ok(Step::Done(exit)) => return exit,
            Ok(Step::Again(line)) => words = line,
            Err(failure) => return failure.show(env),
        }
    }
}

enum Step {
    Done(Exit),
    /// An alias or `help` was replaced by what it means.
    Again(Vec<OsString>),
}

/// An error with the options that say how to show it.
struct Failure {
    error: Error,
    globals: Globals,
}

impl Failure {
    fn show(&self, env: &Env) -> Exit {
        Context::new(self.globals.clone(), env.clone())
            .output()
            .error(&self.error);
        self.error.kind().exit()
    }
}

fn step(words: &[OsString], env: &Env, seen: &mut Vec<String>) -> Result<Step, Box<Failure>> {
    if words.is_empty() {
        return Ok(Step::Again(vec!["-h".into()]));
    }
    let root = cli::root();
    let words = &hoisted(words);
    let matches = match root
        .try_get_matches_from(std::iter::once(OsString::from("ops")).chain(words.iter().cloned()))
    {
        Ok(matches) => matches,
        Err(error) => return Ok(Step::Done(refuse(&error, words, env))),
    };
    match matches.subcommand() {
        None => {
            // Options and nothing else: as no argument at all, but asked for something.
            let error = Error::usage("which command?").hint("see them all: ops --help");
            Err(Box::new(Failure {
                error,
                globals: globals::merge(&[&matches]),
            }))
        }
        Some((name, below)) => match registry::find(name) {
            Some(entry) => built_in(entry, &matches, below, env),
            None => external(words, name, &matches, below, env, seen),
        },
    }
}

fn built_in(
    entry: &'static Entry,
    root: &ArgMatches,
    below: &ArgMatches,
    env: &Env,
) -> Result<Step, Box<Failure>> {
    let mut levels = vec![root, below];
    while let Some((_, deeper)) = levels.last().and_then(|last| last.subcommand()) {
        levels.push(deeper);
    }
    let globals = globals::merge(&levels);
    Ok(Step::Done(run::run(entry, below, globals, env.clone())))
}

/// Not built in: `help`, an alias, an external command, or a slip.
fn external(
    words: &[OsString],
    name: &str,
    root: &ArgMatches,
    below: &ArgMatches,
    env: &Env,
    seen: &mut Vec<String>,
) -> Result<Step, Box<Failure>> {
    let mut globals = globals::merge(&[root]);
    let failure = |error: Error, globals: &Globals| {
        Box::new(Failure {
            error,
            globals: globals.clone(),
        })
    };
    let arguments: Vec<OsString> = below
        .get_many::<OsString>("")
        .map(|all| all.cloned().collect())
        .unwrap_or_default();
    let place =
        alias::position(words, OsStr::new(name)).unwrap_or(words.len() - arguments.len() - 1);
    if name == "help" {
        let mut line = words[..place].to_vec();
        line.extend(arguments);
        line.push("--help".into());
        return Ok(Step::Again(line));
    }
    let policy = |globals: &Globals| {
        let cx = Context::new(globals.clone(), env.clone());
        Policy::load(&cx).map_err(|error| failure(error, globals))
    };
    let rules = policy(&globals)?;
    if let Some(meaning) = rules.alias(name) {
        return again(words, place, meaning, &rules, seen)
            .map_err(|error| failure(error, &globals));
    }
    let mut called = vec![OsString::from(name)];
    called.extend(arguments.iter().cloned());
    if let Some((found, used)) = plugin::find(env, &called) {
        let cx = Context::new(globals.clone(), env.clone());
        return rules
            .check(&found.name)
            .and_then(|()| run::external(&found, &called[used..], &cx))
            .map(Step::Done)
            .map_err(|error| failure(error, &globals));
    }
    // The words after an alias may name the profile that has it; those after an external command are its own.
    if let Some(profile) = alias::profile_among(&arguments) {
        globals.profile = Some(profile);
        let rules = policy(&globals)?;
        if let Some(meaning) = rules.alias(name) {
            return again(words, place, meaning, &rules, seen)
                .map_err(|error| failure(error, &globals));
        }
    }
    Err(failure(unknown(name, &rules, env), &globals))
}

/// The line with an alias replaced.
fn again(
    words: &[OsString],
    place: usize,
    meaning: &[String],
    rules: &Policy,
    seen: &mut Vec<String>,
) -> ops_core::Result<Step> {
    rules.check(&words[place].to_string_lossy())?;
    alias::expand(words, place, meaning, seen).map(Step::Again)
}

/// `ops foo`: nothing is called that.
fn unknown(name: &str, policy: &Policy, env: &Env) -> Error {
    let error = Error::new(ErrorKind::Usage, format!("there is no command `{name}`")).caused_by(
        format!("it is not built in, no alias of the profile, and no `ops-{name}` is on PATH"),
    );
    let mut names: Vec<String> = registry::entries()
        .filter(|entry| !entry.traits.hidden)
        .flat_map(|entry| std::iter::once(&entry.name).chain(entry.aliases))
        .map(ToString::to_string)
        .collect();
    names.extend(policy.aliases().map(|(name, _)| name.to_owned()));
    names.extend(plugin::listed(env).into_iter().map(|(name, _)| name));
    let error = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.hint(hint!("did you mean: ops {}", near)),
        None => error,
    };
    error.hint("see all commands: ops --help")
}

/// Words with those after a verb that takes another program's command line in the order that clap reads, global options included.
fn hoisted(words: &[OsString]) -> Vec<OsString> {
    let verb = registry::entries()
        .filter(|entry| entry.traits.own_short_options)
        .find_map(|entry| {
            let names = std::iter::once(&entry.name).chain(entry.aliases);
            let places = names.filter_map(|name| alias::position(words, OsStr::new(name)));
            // `ops shell ssh` is no `ops ssh`: only options may stand before a verb.
            let place = places
                .min()
                .filter(|place| first_verb(words) == Some(*place))?;
            Some((place, entry))
        });
    match verb {
        Some((place, entry)) => {
            let (mut words, after) = (words[..=place].to_vec(), words[place + 1..].to_vec());
            words.extend((entry.arrange)(after, &cli::verb(entry)));
            hoist::hoist(words, place, &(entry.clap)())
        }
        None => words.to_vec(),
    }
}

/// The place of the first word that is neither a global option nor the value of one.
pub(crate) fn first_verb(words: &[OsString]) -> Option<usize> {
    words.iter().enumerate().find_map(|(index, word)| {
        (!word.to_string_lossy().starts_with('-') && alias::position(words, word) == Some(index))
            .then_some(index)
    })
}

/// What clap did not accept. No options are known then: what shows the error is read from the words themselves.
fn refuse(error: &clap::Error, words: &[OsString], env: &Env) -> Exit {
    let json = words
        .windows(2)
        .any(|pair| pair[0] == "--error-format" && pair[1] == "json")
        || words.iter().any(|word| word == "--error-format=json")
        || env.var("OPS_ERROR_FORMAT") == Some("json");
    let globals = Globals {
        profile: alias::profile_among(words).or_else(|| env.var("OPS_PROFILE").map(str::to_owned)),
        error_format: json.then_some(ErrorFormat::Json),
        ..Globals::default()
    };
    let output = Output::new(&globals, env, None, None);
    let verb = first_verb(words);
    let name = verb
        .and_then(|place| words[place].to_str())
        .filter(|name| registry::find(name).is_some());
    let bare = verb.is_some_and(|place| place + 1 == words.len());
    usage::show(error, &output, &globals, env, name, bare)
}
