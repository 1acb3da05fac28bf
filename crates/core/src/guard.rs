//! The guard in front of servers: what the team profile demands before the first session of a
//! command.
//!
//! The rules are data of the profile ([`ops_profile::Guard`], [`ops_profile::SessionRules`],
//! [`ops_profile::Commands`]); here they are put to the user. [`Context::open`] runs the guard
//! for an instance that no command has put through it, so that a forgotten call protects all the
//! same.

use ops_profile::{Confirm, Instance, Profile, Refused};
use ops_ui::{Error, ErrorKind, Hint, Result, Text, hint};

use crate::{BoxFuture, context::Context};

impl Context {
    /// Checks what the profile says about `verb` on `instances`, and asks the user what it demands
    /// to be asked. To be called once per command with all its instances, before the first session;
    /// `reason` is that of `--reason`.
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
        Box::pin(self.guard_unboxed(verb, instances, reason))
    }

    async fn guard_unboxed(
        &self,
        verb: &str,
        instances: &[Instance],
        reason: Option<&str>,
    ) -> Result<()> {
        let settings = self.settings()?;
        settings
            .check_verb(verb)
            .map_err(|refused| refusal(&refused, settings.profile_label(), verb))?;
        self.clear(verb, instances, reason).await
    }

    /// Everything but whether the verb may be used.
    async fn clear(&self, verb: &str, instances: &[Instance], reason: Option<&str>) -> Result<()> {
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
        self.confirm(profile, label, verb, instances).await?;
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
        self.clear("a session", std::slice::from_ref(instance), reason)
            .await
    }

    fn cleared(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<String>> {
        self.0
            .cleared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn confirm(
        &self,
        profile: &Profile,
        label: &str,
        verb: &str,
        instances: &[Instance],
    ) -> Result<()> {
        let demanded = profile.guard.confirmation();
        if demanded == Confirm::None || self.globals().yes || instances.is_empty() {
            return Ok(());
        }
        let output = self.output();
        let answer = match (demanded, instances) {
            // A name with characters that cannot be typed is confirmed by its id.
            (Confirm::TypeName, [one]) => one.target_word().to_owned(),
            (Confirm::TypeName, _) => label.to_owned(),
            _ => "yes".to_owned(),
        };
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
            // Whoever says yes has to see to which servers.
            let names: Vec<&str> = instances.iter().map(Instance::label).collect();
            output.warn_line(names.join(", "));
        }
        let question = if demanded == Confirm::TypeName {
            Text::from(format!("Type {answer} to go on: "))
        } else {
            Text::from("Go on? Type yes: ")
        };
        let typed = output.ask(question).await?.unwrap_or_default();
        let typed = typed.trim();
        let agreed = if demanded == Confirm::TypeName {
            typed == answer
        } else {
            typed.eq_ignore_ascii_case("yes") || typed.eq_ignore_ascii_case("y")
        };
        if agreed {
            return Ok(());
        }
        Err(refused(if typed.is_empty() {
            "nothing was typed".to_owned()
        } else {
            format!("`{typed}` was typed, not `{answer}`")
        }))
    }
}

/// What is about to happen, in a few words.
fn describe(verb: &str, instances: &[Instance]) -> String {
    match instances {
        [one] if one.name.is_some() => {
            format!("{verb} on `{}` ({})", one.label(), one.id)
        }
        [one] => format!("{verb} on `{}`", one.id),
        many => format!("{verb} on {} servers", many.len()),
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
