//! What only the whole, merged profile can show to be wrong.

use std::time::Duration;

use ops_ui::{
    hint,
    text::named,
    yaml::{Node, Problem, SourceSpan},
};

use super::{plain_http, schema::Profile, suggest::nearest, verbs::Verbs};
use crate::target::is_instance_id;

/// Checks `profile`, read from `tree`.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub(crate) fn check(profile: &Profile, tree: &Node, verbs: Verbs) -> Result<(), Problem> {
    let checker = Checker { tree, verbs };
    checker.numbers(profile)?;
    checker.aws(profile)?;
    checker.hosts(profile)?;
    checker.forwards(profile)?;
    checker.logs(profile)?;
    checker.aliases(profile)?;
    checker.verbs(profile)
}

/// The aliases that cannot work: those of a circle, told once for each circle, and those whose verb
/// nobody knows. None of these stops other commands: the external command that an alias means may
/// be missing on this machine alone.
pub(crate) fn mistaken_aliases(
    profile: &Profile,
    tree: &Node,
    verbs: Verbs,
    is_external: &dyn Fn(&str) -> bool,
) -> Vec<Problem> {
    let checker = Checker { tree, verbs };
    let mut in_told_circles: Vec<&str> = Vec::new();
    let mut problems = Vec::new();
    for (name, words) in &profile.aliases {
        if in_told_circles.contains(&name.as_str()) {
            continue;
        }
        let place = checker.key_place("aliases", name);
        if let Some(ring) = circle(profile, name) {
            let message = format!("the aliases lead in a circle: {}", ring.join(" -> "));
            problems.push(Problem::at(&place, message).hint("let one of them mean a verb"));
            in_told_circles.extend(ring);
            continue;
        }
        let Some(verb) = verb_of(&words.0) else {
            continue;
        };
        // An alias may mean another alias; whether that one works is told of itself.
        if verbs.find(verb).is_some() || profile.aliases.contains_key(verb) || is_external(verb) {
            continue;
        }
        let message = format!("the alias `{name}` means `{verb}`, which is no command");
        let problem = Problem::at(&place, message);
        problems.push(match nearest(verb, verbs.names()) {
            Some(near) => problem.hint(hint!("did you mean {}?", named(near))),
            None => problem.hint("the commands: ops --help"),
        });
    }
    problems
}

/// The circle that the alias `name` is a part of. One that it only leads into is told of those that
/// are in it.
fn circle<'a>(profile: &'a Profile, name: &'a str) -> Option<Vec<&'a str>> {
    let mut ring = vec![name];
    loop {
        let words = profile.aliases.get(*ring.last()?)?;
        let next = verb_of(&words.0)?;
        // Looked up before it is pushed: the ring holds `next` from then on in any case.
        let is_entered = ring.contains(&next);
        ring.push(next);
        if next == name {
            return Some(ring);
        }
        if is_entered {
            return None;
        }
    }
}

/// The verb of an alias: its first word, unless options stand before it, whose values cannot be
/// told from verbs here.
fn verb_of(words: &[String]) -> Option<&str> {
    let first = words.first()?;
    (!first.starts_with('-')).then_some(first)
}

struct Checker<'a> {
    tree: &'a Node,
    verbs: Verbs,
}

impl Checker<'_> {
    /// The place of a value, or of the nearest map around it.
    fn place(&self, path: &[&str]) -> SourceSpan {
        // A value that is missing, or was merged away, has no place of its own.
        (0..=path.len())
            .rev()
            .find_map(|len| self.tree.at(&path[..len]))
            .unwrap_or(self.tree)
            .place
            .clone()
    }

    fn key_place(&self, map: &str, key: &str) -> SourceSpan {
        self.tree
            .get(map)
            .and_then(|node| node.key(key))
            .map_or_else(|| self.place(&[map]), |key| key.place.clone())
    }

    fn problem(&self, path: &[&str], message: impl Into<ops_ui::Text>) -> Problem {
        Problem::at(&self.place(path), message)
    }

    fn numbers(&self, profile: &Profile) -> Result<(), Problem> {
        let zero = |path: &[&str], is_zero: bool| {
            if is_zero {
                Err(self.problem(path, format!("`{}` is at least 1", path.join("."))))
            } else {
                Ok(())
            }
        };
        zero(&["ssh", "port"], profile.ssh.port == Some(0))?;
        zero(&["copy", "sessions"], profile.copy.sessions == Some(0))?;
        zero(&["exec", "parallel"], profile.exec.parallel == Some(0))?;
        zero(
            &["exec", "fleet_threshold"],
            profile.exec.fleet_threshold == Some(0),
        )?;
        zero(
            &["guard", "max_targets"],
            profile.guard.max_targets == Some(0),
        )
    }

    fn aws(&self, profile: &Profile) -> Result<(), Problem> {
        let aws = &profile.aws;
        if let Some(arn) = &aws.role_arn {
            // `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`: IAM is not of a region, so that the
            // fourth part is empty. The path of a role may hold no colon, and would stay whole if
            // it did.
            let parts: Vec<&str> = arn.splitn(6, ':').collect();
            let [arn_word, partition, "iam", "", account, role] = parts[..] else {
                return Err(self.no_role(arn));
            };
            if arn_word != "arn" || !partition.starts_with("aws") || !role.starts_with("role/") {
                return Err(self.no_role(arn));
            }
            // Told here, since `check_account` would refuse every session later, and with words
            // about credentials that are not at fault.
            if let Some(wanted) = aws
                .account
                .as_ref()
                .filter(|wanted| wanted.as_str() != account)
            {
                return Err(self
                    .problem(
                        &["aws", "account"],
                        format!("the account `{wanted}` is not that of `aws.role_arn`, which is in `{account}`"),
                    )
                    .hint("every session would stop: make them the same account"));
            }
        }
        if let Some(name) = &aws.session_name {
            // The pattern of `RoleSessionName` in STS AssumeRole, `[\w+=,.@-]{2,64}`.
            let fits = (2..=64).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b));
            if !fits {
                return Err(self.problem(
                    &["aws", "session_name"],
                    format!(
                        "`{}` is no name of a role session: 2 to 64 of A-Z a-z 0-9 _+=,.@-",
                        name.escape_debug()
                    ),
                ));
            }
        }
        let of_all = (vec!["aws", "endpoint_url"], aws.endpoint_url.as_ref());
        let of_each = aws.endpoints.each();
        let of_each = of_each.map(|(key, url)| (vec!["aws", "endpoints", key], url));
        for (path, url) in [of_all].into_iter().chain(of_each) {
            if aws.allow_plain_http != Some(true)
                && let Some(Err(refused)) = url.map(|url| plain_http::check(url.as_str()))
            {
                return Err(self.problem(&path, refused.to_string()).hint(
                    "write https://, or say that it is meant: `allow_plain_http: true` in `aws`",
                ));
            }
        }
        // `DurationSeconds` of STS AssumeRole: from 900 to the maximum of the role, which is 43,200
        // at most. What the role itself allows is for STS to say.
        if let Some(duration) = aws.duration
            && !(Duration::from_mins(15)..=Duration::from_hours(12)).contains(&duration.0)
        {
            return Err(self.problem(
                &["aws", "duration"],
                format!("a role's credentials last from 15m to 12h, not {duration}"),
            ));
        }
        Ok(())
    }

    fn no_role(&self, arn: &str) -> Problem {
        self.problem(
            &["aws", "role_arn"],
            format!("`{}` is no role", arn.escape_debug()),
        )
        .hint("one looks like arn:aws:iam::111122223333:role/oncall")
    }

    fn hosts(&self, profile: &Profile) -> Result<(), Problem> {
        for (name, host) in &profile.hosts {
            let at_key = |message: String| Problem::at(&self.key_place("hosts", name), message);
            // Characters that mean something in a target or in a place of `ops cp`: such a name
            // could be written here and never be reached.
            if name.is_empty()
                || name.contains(['*', '?', '@', '[', ']', ':', '/'])
                || name.contains(char::is_whitespace)
                || name.starts_with('-')
            {
                return Err(at_key(format!(
                    "`{}` cannot be the name of a host",
                    name.escape_debug()
                )));
            }
            // An id that is a host's name would lead people to another machine than the one they
            // have copied from an alarm.
            if is_instance_id(name) {
                return Err(at_key(format!(
                    "`{name}` is an instance id, which always means that instance"
                )));
            }
            match (&host.target, host.tags.is_empty()) {
                (None, true) => {
                    return Err(at_key(format!(
                        "the host `{name}` has neither `target` nor `tags`"
                    )));
                }
                (Some(_), false) => {
                    return Err(
                        at_key(format!("the host `{name}` has both `target` and `tags`")).hint(
                            "remove one of them; `tags: null` removes what another profile says",
                        ),
                    );
                }
                // Refused and not ignored: whoever wrote it expects a choice to be made.
                (Some(_), true) if host.pick.is_some() => {
                    return Err(self.problem(
                        &["hosts", name, "pick"],
                        "`pick` chooses among servers with the same `tags`; this host has a `target`",
                    ));
                }
                _ => {}
            }
            if host.ssh.port == Some(0) {
                return Err(self.problem(&["hosts", name, "ssh", "port"], "`port` is at least 1"));
            }
        }
        Ok(())
    }

    fn forwards(&self, profile: &Profile) -> Result<(), Problem> {
        for (name, forward) in &profile.forwards {
            let at_key = |message: String| Problem::at(&self.key_place("forwards", name), message);
            // It is typed as an argument: a dash would make an option of it.
            if name.is_empty() || name.starts_with('-') || name.contains(char::is_whitespace) {
                return Err(at_key(format!(
                    "`{}` cannot be the name of a forward",
                    name.escape_debug()
                )));
            }
            if forward.to.is_missing() {
                return Err(
                    at_key(format!("the forward `{name}` does not say where it leads"))
                        .hint("add to: PORT of the server itself, or to: HOST:PORT"),
                );
            }
        }
        Ok(())
    }

    fn logs(&self, profile: &Profile) -> Result<(), Problem> {
        for (name, sources) in &profile.logs {
            // What begins so is a path, or an option, on the command line of `ops logs`.
            if name.is_empty() || name.starts_with(['/', '~', '-']) {
                return Err(Problem::at(
                    &self.key_place("logs", name),
                    format!("`{}` cannot be the name of a log", name.escape_debug()),
                )
                .hint("use a word that does not begin with / ~ or -"));
            }
            let is_source = |text: &String| {
                text.starts_with('/')
                    || text.starts_with("~/")
                    || text
                        .strip_prefix("unit:")
                        .is_some_and(|unit| !unit.is_empty())
            };
            if let Some(wrong) = sources.0.iter().find(|text| !is_source(text)) {
                return Err(self
                    .problem(
                        &["logs", name],
                        format!("`{}` is neither a file nor a unit", wrong.escape_debug()),
                    )
                    .hint("write /var/log/syslog, ~/app.log or unit:nginx"));
            }
        }
        Ok(())
    }

    fn aliases(&self, profile: &Profile) -> Result<(), Problem> {
        for name in profile.aliases.keys() {
            let at_key = |message: String| Problem::at(&self.key_place("aliases", name), message);
            // Verbs to come too: an alias that works today must not change its meaning with a
            // release.
            if self.verbs.is_taken(name) {
                let what = if self.verbs.find(name).is_some() {
                    "would hide the verb"
                } else {
                    "takes a name that is kept for the verb"
                };
                return Err(at_key(format!("the alias `{name}` {what} `{name}`"))
                    .hint("give it another name"));
            }
            if !is_verb(name) {
                return Err(at_key(format!(
                    "`{}` cannot be the name of an alias",
                    name.escape_debug()
                ))
                .hint("use small letters, digits and single dashes, a letter first"));
            }
        }
        Ok(())
    }

    /// A slip in a list of verbs would protect nothing.
    fn verbs(&self, profile: &Profile) -> Result<(), Problem> {
        let enable = profile.commands.enable.as_deref().unwrap_or_default();
        let lists: [(&[&str], &[String]); 3] = [
            (&["guard", "deny"], &profile.guard.deny),
            (&["commands", "enable"], enable),
            (&["commands", "disable"], &profile.commands.disable),
        ];
        for (path, names) in lists {
            for name in names {
                // Names of verbs to come may be forbidden today.
                if self.verbs.is_taken(name) || profile.aliases.contains_key(name) {
                    continue;
                }
                // Any other word may be an external command, which need not be on this machine. One
                // that comes near a verb is taken for a slip: `shel` would forbid nothing.
                let near = nearest(name, self.verbs.names());
                if !is_verb(name) || near.is_some() {
                    let place = self.item_place(path, name);
                    let problem = Problem::at(
                        &place,
                        format!("`{}` is no verb of ops", name.escape_debug()),
                    );
                    return Err(match near {
                        Some(near) => problem.hint(hint!("did you mean {}?", named(near))),
                        None => problem.hint("the verbs: ops help"),
                    });
                }
            }
        }
        Ok(())
    }

    fn item_place(&self, path: &[&str], item: &str) -> SourceSpan {
        use ops_ui::yaml::Value;
        let Some(list) = self.tree.at(path) else {
            return self.place(path);
        };
        match &list.value {
            Value::List(items) => items
                .iter()
                .find(|node| matches!(&node.value, Value::Text(text) if text == item))
                .unwrap_or(list)
                .place
                .clone(),
            _ => list.place.clone(),
        }
    }
}

/// Whether `name` can be a verb, built in or external: `[a-z][a-z0-9]*(-[a-z0-9]+)*`.
fn is_verb(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.split('-').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}
