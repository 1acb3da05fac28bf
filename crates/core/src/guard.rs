//! The guard in front of servers: what the team profile demands before the first session of a
//! command.
//!
//! The rules are data of the profile ([`ops_profile::Guard`], [`ops_profile::SessionRules`],
//! [`ops_profile::Commands`]); here they are put to the user. [`Context::open`] runs the guard
//! for an instance that no command has put through it, so that a forgotten call protects all the
//! same.

use std::collections::BTreeMap;

use ops_profile::{Confirm, Instance, Profile, Refused};
use ops_ui::{
    Error, ErrorKind, Hint, Result, Text, confirm::Preset, fill::columns_of, hint, text::cut,
};

use crate::{BoxFuture, context::Context};

impl Context {
    /// Checks what the profile says about `verb` on `instances`, and asks the user what it demands
    /// to be asked. To be called once per command with all its instances, before the first session;
    /// `reason` is that of `--reason`. What is let through is remembered as used last.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] (exit 9): the profile forbids the verb, fewer instances are allowed,
    /// a reason is missing or does not fit, or the question was not answered with what it asks for.
    /// The hint names the flag that helps.
    pub fn guard<'a>(
        &'a self,
        verb: &'a str,
        instances: &'a [Instance],
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<()>> {
        self.guard_work(verb, instances, reason, &[])
    }

    /// As [`Self::guard`], for a verb that says more about its work than its name does: whoever is
    /// asked sees each of `work` on a line of its own, such as `command:` and the command.
    ///
    /// # Errors
    /// As [`Self::guard`].
    pub fn guard_work<'a>(
        &'a self,
        verb: &'a str,
        instances: &'a [Instance],
        reason: Option<&'a str>,
        work: &'a [WorkLine],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.guard_unboxed(verb, instances, reason, work))
    }

    async fn guard_unboxed(
        &self,
        verb: &str,
        instances: &[Instance],
        reason: Option<&str>,
        work: &[WorkLine],
    ) -> Result<()> {
        let settings = self.settings()?;
        settings
            .check_verb(verb)
            .map_err(|refused| refusal(&refused, settings.profile_label(), verb))?;
        self.clear(verb, instances, reason, work).await?;
        self.remember_use(verb, instances);
        Ok(())
    }

    /// Everything but whether the verb may be used.
    async fn clear(
        &self,
        verb: &str,
        instances: &[Instance],
        reason: Option<&str>,
        work: &[WorkLine],
    ) -> Result<()> {
        let settings = self.settings()?;
        let profile = settings.profile();
        let label = settings.profile_label();
        profile
            .guard
            .check_targets(instances.len())
            .and_then(|()| profile.session.check_reason(reason))
            .map_err(|refused| refusal(&refused, label, verb))?;
        let is_asked = profile.guard.confirmation() != Confirm::None && !self.globals().yes;
        let resolved;
        // Whoever confirms looks at a name, and the cache may be ten minutes behind: the name may
        // be another server's by now.
        let instances = if is_asked {
            // Boxed: nearly every command has this future within its own.
            resolved = Box::pin(self.resolve_cached_anew(instances)).await?;
            resolved.as_slice()
        } else {
            instances
        };
        self.confirm_work(profile, label, verb, instances, work)
            .await?;
        let mut cleared = self.cleared();
        cleared.extend(instances.iter().map(|instance| instance.id.clone()));
        Ok(())
    }

    /// As [`Self::guard`] for an instance that has not been through it. The verb is not known here;
    /// whether it may be used has been checked before the command ran.
    pub(crate) async fn ensure_guarded(
        &self,
        instance: &Instance,
        reason: Option<&str>,
    ) -> Result<()> {
        if self.cleared().contains(&instance.id) {
            // Another session of the command may come with another reason.
            let settings = self.settings()?;
            return settings
                .profile()
                .session
                .check_reason(reason)
                .map_err(|refused| refusal(&refused, settings.profile_label(), "session"));
        }
        self.clear("a session", std::slice::from_ref(instance), reason, &[])
            .await
    }

    fn cleared(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<String>> {
        self.0
            .cleared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn confirm_work(
        &self,
        profile: &Profile,
        label: &str,
        verb: &str,
        instances: &[Instance],
        work: &[WorkLine],
    ) -> Result<()> {
        let demanded = profile.guard.confirmation();
        if demanded == Confirm::None || self.globals().yes || instances.is_empty() {
            return Ok(());
        }
        let output = self.output();
        let what = describe(verb, instances);
        let refused = |why: String| {
            Error::new(ErrorKind::Refused, format!("{what} is not confirmed"))
                .caused_by(why)
                .hint("answer without being asked: --yes")
        };
        if !output.may_ask() {
            return Err(refused(format!(
                "profile `{label}` demands a confirmation, and there is no terminal to ask on or asking is forbidden"
            )));
        }
        let mark = output.mark(profile.guard.color, format!("[{label}]"));
        output.warn_line(mark.then(" ").then(what.clone()));
        if instances.len() > 1 {
            // Whoever says yes has to see to which servers. Nobody reads a hundred names.
            if instances.len() > MOST_NAMED {
                for line in counts_by_tag(instances) {
                    output.warn_line(line);
                }
            } else {
                let names = names_to_confirm(instances);
                output.warn_names("", names.iter().map(String::as_str), "");
            }
        }
        for &(what, ref value) in work {
            output.warn_value(what, value);
        }
        if demanded != Confirm::TypeName {
            let answer = output.confirm("Go on?", Preset::No).await?;
            return if answer.is_yes() {
                Ok(())
            } else {
                Err(refused(answer.why_not()))
            };
        }
        let wanted = match instances {
            // A name with characters that cannot be typed is confirmed by its id.
            [one] => one.target_word(),
            _ => label,
        };
        let question = format!("Type {wanted} to go on: ");
        let typed = output.ask(question).await?.unwrap_or_default();
        match typed.trim() {
            typed if typed == wanted => Ok(()),
            "" => Err(refused("nothing was typed".to_owned())),
            typed => Err(refused(format!("`{typed}` was typed, not `{wanted}`"))),
        }
    }
}

/// What each server is called where somebody confirms all of them: by its name, and with its id
/// where others are called the same, or where the name is none that could be typed. Such a name may
/// look like several, or like another one.
fn names_to_confirm(instances: &[Instance]) -> Vec<String> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in instances {
        *uses.entry(instance.label()).or_default() += 1;
    }
    let name_of = |instance: &Instance| match (instance.plain_name(), &instance.name) {
        (Some(name), _) if uses[name] == 1 && !name.contains(',') => name.to_owned(),
        (_, Some(name)) => format!("{name} ({})", instance.id),
        (_, None) => instance.id.clone(),
    };
    instances.iter().map(name_of).collect()
}

/// A line about the work of a verb for whoever confirms it: a label that ends with a colon, and a
/// value that is shown as it is.
pub type WorkLine = (&'static str, Text);

/// Columns of a command that are shown: five lines of a usual terminal, so that the servers above
/// it stay in sight.
const SHOWN_COLUMNS: usize = 400;

/// A line with `words`, each as a shell would take it. A long one has its end cut off and a mark
/// that says so: nobody may take a beginning for the whole.
pub fn words_line(label: &'static str, words: &Hint) -> WorkLine {
    if columns_of(words) <= SHOWN_COLUMNS {
        return (label, Text::from(words.clone()));
    }
    let text = format!(
        "{} (cut here: it has {} characters)",
        cut(words, SHOWN_COLUMNS),
        words.chars().count()
    );
    (label, Text::from(text))
}

/// More servers than these are counted by their tags in place of being named.
const MOST_NAMED: usize = 50;
/// Tags that are counted.
const MOST_TAGS: usize = 4;
/// A tag with more values than these tells nothing.
const MOST_VALUES: usize = 6;

/// How many servers have which value of the tags that divide them into few kinds, a line for each
/// tag: `Env: 800 production, 200 staging`.
fn counts_by_tag(instances: &[Instance]) -> Vec<String> {
    let mut tags: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for instance in instances {
        for (key, value) in &instance.tags {
            *tags.entry(key).or_default().entry(value).or_default() += 1;
        }
    }
    // A tag that most servers lack does not tell what they are.
    let counted = tags.into_iter().filter(|(_, values)| {
        values.len() <= MOST_VALUES && values.values().sum::<usize>() * 2 > instances.len()
    });
    let lines = counted.take(MOST_TAGS).map(|(key, values)| {
        let mut values: Vec<(&str, usize)> = values.into_iter().collect();
        values.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
        let parts: Vec<String> = values
            .into_iter()
            .map(|(value, count)| format!("{count} {value}"))
            .collect();
        format!("{key}: {}", parts.join(", "))
    });
    lines.collect()
}

/// What is about to happen, in a few words.
fn describe(verb: &str, instances: &[Instance]) -> String {
    let mut regions: Vec<&str> = instances.iter().map(|one| one.region.as_str()).collect();
    regions.sort_unstable();
    regions.dedup();
    let regions = regions.join(", ");
    match instances {
        [one] if one.name.is_some() => {
            format!("{verb} on `{}` ({}) in {regions}", one.label(), one.id)
        }
        [one] => format!("{verb} on `{}` in {regions}", one.id),
        many => format!("{verb} on {} servers in {regions}", many.len()),
    }
}

fn refusal(refused: &Refused, label: &str, verb: &str) -> Error {
    let hint: Hint = match refused.key {
        "session.reason" | "session.reason_pattern" => "give one: --reason TEXT".into(),
        "guard.max_targets" => "name fewer servers, or ask who keeps the profile".into(),
        key => hint!("see who says so: ops config show | grep {}", key),
    };
    Error::new(
        ErrorKind::Refused,
        format!("profile `{label}` refuses `{verb}`"),
    )
    .caused_by(&refused.why)
    .hint(hint)
}

#[cfg(test)]
mod tests;
