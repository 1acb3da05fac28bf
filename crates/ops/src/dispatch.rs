//! From words to a command: built in, alias, external, or a did-you-mean.

use std::ffi::OsString;

use clap::{ArgMatches, ValueEnum as _};
use ops_core::Entry;
use ops_profile::nearest;
use ops_ui::{
    ColorChoice, Env, Error, ErrorKind, Exit, Globals, Output, Source, globals::ErrorFormat, hint,
};

use crate::{
    alias, cli, globals, hoist,
    meaning::{self, Meaning},
    pick, plugin,
    policy::Policy,
    registry, run, usage,
};

/// Runs the line `words` (without the program's name) in `env`.
pub(crate) fn dispatch(words: Vec<OsString>, env: &Env) -> Exit {
    let mut words = words;
    let mut seen = Vec::new();
    loop {
        match next_step(&words, env, &mut seen) {
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
    fn new(error: Error, globals: Globals) -> Box<Self> {
        Box::new(Self { error, globals })
    }

    fn show(&self, env: &Env) -> Exit {
        registry::new_context(self.globals.clone(), env.clone())
            .output()
            .error(&self.error);
        self.error.kind().exit()
    }
}

fn next_step(words: &[OsString], env: &Env, seen: &mut Vec<String>) -> Result<Step, Box<Failure>> {
    if words.is_empty() {
        return Ok(Step::Again(vec!["-h".into()]));
    }
    if let Some(line) = help_behind_verb(words) {
        return Ok(Step::Again(line));
    }
    let root = cli::root_command();
    let words = &hoist_globals(words);
    let matches = match root
        .try_get_matches_from(std::iter::once(OsString::from("ops")).chain(words.iter().cloned()))
    {
        Ok(matches) => matches,
        Err(error) => {
            if error.kind() == clap::error::ErrorKind::MissingRequiredArgument
                && let Some(place) = meaning::place_of_verb(words)
            {
                match pick::words_with_choice(words, place, env) {
                    Ok(Some(line)) => return Ok(Step::Again(line)),
                    Ok(None) => {}
                    Err(error) => return Err(Failure::new(error, Globals::default())),
                }
            }
            return Ok(Step::Done(refuse_usage(&error, words, env)));
        }
    };
    let (Some((_, below)), Some(place)) = (matches.subcommand(), meaning::place_of_verb(words))
    else {
        // Options and nothing else: as no argument at all, but asked for something.
        let error = Error::usage("which command?").hint("see them all: ops --help");
        return Err(Failure::new(error, globals::merge_globals(&[&matches])));
    };
    let name = words[place].to_string_lossy();
    let mut globals = globals::merge_globals(&[&matches]);
    let rules = |globals: &Globals| {
        let cx = registry::new_context(globals.clone(), env.clone());
        Policy::load(&cx).map(Some)
    };
    let meant = match meaning::understand(words, place, &mut globals, env, &rules) {
        Ok(meant) => meant,
        Err(error) => return Err(Failure::new(error, globals)),
    };
    let result = match meant {
        Meaning::Verb(entry) => return Ok(Step::Done(built_in(entry, &matches, below, env))),
        Meaning::Help => {
            let mut line = words[..place].to_vec();
            line.extend_from_slice(&words[place + 1..]);
            line.push("--help".into());
            Ok(Step::Again(line))
        }
        Meaning::Alias(meaning, rules) => rules
            .check(&name)
            .and_then(|()| alias::expand_alias(words, place, &meaning, seen))
            .map(Step::Again),
        Meaning::External(found, used, rules) => rules
            .map_or(Ok(()), |rules| rules.check(&found.name))
            .and_then(|()| {
                let cx = registry::new_context(globals.clone(), env.clone());
                run::run_external(&found, &words[place + used..], &cx)
            })
            .map(Step::Done),
        Meaning::Nothing(rules) => Err(unknown_verb(&name, rules.as_ref(), env)),
    };
    result.map_err(|error| Failure::new(error, globals))
}

fn built_in(entry: &'static Entry, root: &ArgMatches, below: &ArgMatches, env: &Env) -> Exit {
    let mut levels = vec![root, below];
    while let Some((_, deeper)) = levels.last().and_then(|last| last.subcommand()) {
        levels.push(deeper);
    }
    run::run(entry, below, globals::merge_globals(&levels), env.clone())
}

/// `ops foo`: nothing is called that.
fn unknown_verb(name: &str, policy: Option<&Policy>, env: &Env) -> Error {
    let error = Error::new(ErrorKind::Usage, format!("there is no command `{name}`")).caused_by(
        format!("it is not built in, no alias of the profile, and no `ops-{name}` is on PATH"),
    );
    let mut names: Vec<String> = registry::entries()
        .filter(|entry| !entry.traits.hidden)
        .flat_map(|entry| std::iter::once(&entry.name).chain(entry.aliases))
        .map(ToString::to_string)
        .collect();
    if let Some(policy) = policy {
        names.extend(policy.aliases().map(|(name, _)| name.to_owned()));
    }
    names.extend(
        plugin::listed_plugins(env, registry::known_verbs())
            .into_iter()
            .map(|(name, _)| name),
    );
    let elsewhere = WORDS_OF_OTHERS.iter().find(|(word, _)| *word == name);
    let near = elsewhere
        .map(|(_, ours)| *ours)
        .or_else(|| nearest(name, names.iter().map(String::as_str)));
    let error = match near {
        Some(near) => error.hint(hint!("did you mean: ops {}", near)),
        // Whoever types what no verb is like may mean a server.
        None => error.hint(hint!(
            "a shell on a server of that name: ops shell {}",
            name
        )),
    };
    error.hint("see all commands: ops --help")
}

/// What other programs for the same purpose call what we have a verb for.
const WORDS_OF_OTHERS: [(&str, &str); 20] = [
    ("connect", "shell"),
    ("copy", "cp"),
    ("download", "cp"),
    ("get", "ls"),
    ("hosts", "ls"),
    ("info", "describe"),
    ("instances", "ls"),
    ("list-instances", "ls"),
    ("port-forward", "forward"),
    ("portforward", "forward"),
    ("run", "exec"),
    ("scp", "cp"),
    ("send-command", "exec"),
    ("servers", "ls"),
    ("show", "describe"),
    ("start-session", "shell"),
    ("tail", "logs"),
    ("terminate-session", "sessions"),
    ("tunnel", "forward"),
    ("upload", "cp"),
];

/// `ops -h shell` asks for the page of `shell`, as `ops shell -h` does.
fn help_behind_verb(words: &[OsString]) -> Option<Vec<OsString>> {
    let place = meaning::place_of_verb(words)?;
    let is_help = |word: &OsString| word == "-h" || word == "--help";
    let help = words[..place].iter().position(is_help)?;
    let verbs = understood_words(words).path.len().max(1);
    let mut line = words.to_vec();
    let word = line.remove(help);
    // One word fewer stands before the verb now.
    line.insert(place - 1 + verbs, word);
    Some(line)
}

/// Words with those after the verb as the verb wants them for clap, in the order that clap reads,
/// global options included.
fn hoist_globals(words: &[OsString]) -> Vec<OsString> {
    // `ops shell ssh` is no `ops ssh`: only options may stand before a verb.
    let verb = meaning::place_of_verb(words).and_then(|place| {
        let entry = registry::find_entry(&words[place].to_string_lossy())?;
        Some((place, entry))
    });
    match verb {
        Some((place, entry)) => {
            let (mut words, after) = (words[..=place].to_vec(), words[place + 1..].to_vec());
            words.extend((entry.arrange)(after, &cli::verb_command(entry)));
            if entry.traits.own_short_options {
                hoist::hoist_options(words, place, &(entry.clap)())
            } else {
                words
            }
        }
        None => words.to_vec(),
    }
}

/// What clap did not accept. No options are known then: what shows the error is read from the words
/// themselves.
fn refuse_usage(error: &clap::Error, words: &[OsString], env: &Env) -> Exit {
    let globals = options_among(words, env);
    let output = Output::new(&globals, env);
    usage::show_usage_error(error, &output, &globals, env, &understood_words(words))
}

/// The verb of `words`, what is below it, and the rest.
fn understood_words(words: &[OsString]) -> usage::Typed<'_> {
    let texts: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let wants_long_help = texts.contains(&"--help");
    let none = usage::Typed {
        path: Vec::new(),
        rest: Vec::new(),
        wants_long_help,
    };
    // Words that are no text are none of ours, and their places would be wrong.
    let Some(place) = meaning::place_of_verb(words).filter(|_| texts.len() == words.len()) else {
        return none;
    };
    let Some(entry) = registry::find_entry(texts[place]) else {
        return none;
    };
    let (mut path, mut rest) = (vec![entry.name], &texts[place + 1..]);
    let mut command = &(entry.clap)();
    while let Some((first, behind)) = rest.split_first()
        && let Some(below) = command.find_subcommand(first)
    {
        (command, rest) = (below, behind);
        path.push(*first);
    }
    usage::Typed {
        path,
        rest: rest.to_vec(),
        wants_long_help,
    }
}

/// The global options among words that clap did not accept: those that say how an answer is shown,
/// and those that a command in it has to repeat.
fn options_among(words: &[OsString], env: &Env) -> Globals {
    let ours = words.split(|word| word == "--").next().unwrap_or_default();
    let typed = |flag: &str, variable: &str| {
        value_among(ours, flag).or_else(|| env.var(variable).map(str::to_owned))
    };
    // Behind `ssh`, -p is a port.
    let verb = meaning::place_of_verb(words);
    let entry = verb.and_then(|place| registry::find_entry(&words[place].to_string_lossy()));
    let of_profile = match (verb, entry) {
        (Some(place), Some(entry)) if entry.traits.own_short_options => &ours[..place],
        _ => ours,
    };
    let profile = alias::profile_among(of_profile);
    let mut globals = Globals {
        sandbox: ours.iter().any(|word| word == "--sandbox"),
        region: value_among(ours, "--region").into_iter().collect(),
        aws_profile: value_among(ours, "--aws-profile"),
        profiles_dir: value_among(ours, "--profiles-dir").map(OsString::from),
        no_pager: ours.iter().any(|word| word == "--no-pager") || env.var("OPS_NO_PAGER").is_some(),
        error_format: (typed("--error-format", "OPS_ERROR_FORMAT").as_deref() == Some("json"))
            .then_some(ErrorFormat::Json),
        color: typed("--color", "OPS_COLOR")
            .and_then(|when| ColorChoice::from_str(&when, true).ok()),
        ..Globals::default()
    };
    for (name, is_typed) in [
        ("sandbox", globals.sandbox),
        ("region", !globals.region.is_empty()),
        ("aws_profile", globals.aws_profile.is_some()),
        ("profiles_dir", globals.profiles_dir.is_some()),
        ("profile", profile.is_some()),
    ] {
        if is_typed {
            let flag = format!("--{}", name.replace('_', "-"));
            globals.sources.insert(name, Source::Flag(flag));
        }
    }
    globals.profile = profile.or_else(|| env.var("OPS_PROFILE").map(str::to_owned));
    globals
}

/// The value of a long option among `words`, as one word or two; the last one counts.
fn value_among(words: &[OsString], flag: &str) -> Option<String> {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let of = |place: usize| match words[place].strip_prefix(flag)? {
        "" => words.get(place + 1).map(ToString::to_string),
        rest => rest.strip_prefix('=').map(str::to_owned),
    };
    (0..words.len()).rev().find_map(of)
}
