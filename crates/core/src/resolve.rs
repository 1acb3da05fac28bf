//! What the user typed, turned into the one machine it means; never by a silent guess.

mod args;
mod ask;
mod failure;
mod near;
mod search;

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
};

use ops_profile::{Instance, Selector, Target};
use ops_ui::{Error, ErrorKind, Result};

use crate::{
    BoxFuture,
    cache::FleetFile,
    context::{Context, FromCache},
    picker::Question,
};

use self::search::TargetSearch;
pub use args::{ChoiceArgs, SessionArgs};

/// What to do when several machines match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Ask on a terminal; elsewhere it is an error (exit 6).
    #[default]
    Ask,
    /// The first by name, then oldest launch.
    First,
    /// The one launched last.
    Newest,
}

impl Context {
    /// The machine that `target` means. In order of meaning: id, host alias of the profile, Name,
    /// IP address, DNS name; running ones only, but an id means its machine in any state. Agents
    /// are not asked about. It is looked for in every region of `--region` or the profile, side by
    /// side. `-` means the one that was used last with this profile. Where none is meant and
    /// somebody is at the terminal, those that are called nearly so are offered.
    ///
    /// With `--cached` a name or id that the cache knows once is taken from there;
    /// [`Context::open`] looks it up again if it is gone.
    ///
    /// # Errors
    /// None (3), or only one that is stopped (7); several and no choice made (6); those of the
    /// calls.
    pub fn resolve<'a>(
        &'a self,
        target: &'a Target,
        choice: Choice,
    ) -> BoxFuture<'a, Result<Instance>> {
        Box::pin(self.resolve_unboxed(target, choice))
    }

    async fn resolve_unboxed(&self, target: &Target, choice: Choice) -> Result<Instance> {
        let target = &*self.with_last(target)?;
        if self.globals().cached {
            let regions = self.regions_of(target).await?;
            if let Some(instance) = self.known(target, &regions) {
                self.output().detail(format!(
                    "`{}` is {}, from the cache",
                    target.as_str(),
                    instance.id
                ));
                self.cached_targets()
                    .insert(instance.id.clone(), FromCache::Unproven(target.clone()));
                return Ok(instance);
            }
        }
        self.resolve_now(target, choice).await
    }

    /// As [`Self::resolve`], whatever the cache says.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_now<'a>(
        &'a self,
        target: &'a Target,
        choice: Choice,
    ) -> BoxFuture<'a, Result<Instance>> {
        Box::pin(self.resolve_now_unboxed(target, choice))
    }

    async fn resolve_now_unboxed(&self, target: &Target, choice: Choice) -> Result<Instance> {
        let target = &*self.with_last(target)?;
        let regions = self.regions_of(target).await?;
        let found = self.search().await?.candidates(target, &regions).await?;
        let choice = found.choice.unwrap_or(choice);
        self.choose(target, &regions, found.instances, choice).await
    }

    /// As [`Self::resolve`], for a verb that has no use for a user: where no machine is called
    /// `name` of `user@name`, one that is called `user@name` as a whole is meant.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_whole<'a>(
        &'a self,
        target: &'a Target,
        choice: Choice,
    ) -> BoxFuture<'a, Result<Instance>> {
        Box::pin(self.resolve_whole_unboxed(target, choice))
    }

    async fn resolve_whole_unboxed(&self, target: &Target, choice: Choice) -> Result<Instance> {
        match (self.resolve(target, choice).await, target.whole()) {
            (Err(error), Some(whole))
                if error.kind() == ErrorKind::NotFound && target.user.is_some() =>
            {
                let regions = self.regions_of(target).await?;
                let found = self.search().await?.matching(whole, &regions).await?;
                if found.is_empty() {
                    return Err(error);
                }
                self.choose(target, &regions, found, choice).await
            }
            (result, _) => result,
        }
    }

    async fn search(&self) -> Result<TargetSearch<'_>> {
        Ok(TargetSearch {
            profile: self.profile()?,
            inventory: self.inventory().await?,
        })
    }

    /// Where `target` is looked for: in the region that it names itself, else in all of `--region`
    /// or the profile.
    ///
    /// # Errors
    /// Nothing names a region.
    pub async fn regions_of(&self, target: &Target) -> Result<Vec<String>> {
        match &target.region {
            Some(region) => Ok(vec![region.clone()]),
            None => self.regions().await,
        }
    }

    /// What the cache knows of `target`: names, ids, and host aliases for one of them. A choice
    /// among several is never made from it.
    fn known(&self, target: &Target, regions: &[String]) -> Option<Instance> {
        if target.index.is_some() {
            return None;
        }
        let of_host: Target;
        let mut selector = &target.selector;
        if let Selector::Word(word) = selector
            && let Some(host) = self.profile().ok()?.hosts.get(word)
        {
            of_host = host.target.as_ref()?.as_str().parse().ok()?;
            selector = &of_host.selector;
        }
        let fleet = FleetFile::of(self.invocation(), self.settings().ok()?);
        // Once in all regions, or not at all: the cache never chooses.
        let mut known = regions
            .iter()
            .filter_map(|region| fleet.instance(selector, region));
        let only = known.next()?;
        known.next().is_none().then_some(only)
    }

    /// What is known of an instance that came from the cache; `None` for any other.
    pub(crate) fn of_cache(&self, id: &str) -> Option<FromCache> {
        self.cached_targets().get(id).cloned()
    }

    /// An instance of the cache is there, or `found` in its place.
    pub(crate) fn settle_cached(&self, id: &str, found: Option<Instance>) {
        let mut targets = self.cached_targets();
        match found {
            Some(found) => {
                targets.insert(id.to_owned(), FromCache::Replaced(Box::new(found)));
            }
            None => {
                targets.remove(id);
            }
        }
    }

    /// `instances` with those that came from the cache looked up again by what was typed for them.
    /// What is opened later is what is found now.
    ///
    /// # Errors
    /// As [`Self::resolve_now`].
    pub(crate) async fn resolve_cached_anew(
        &self,
        instances: &[Instance],
    ) -> Result<Vec<Instance>> {
        let mut resolved = Vec::with_capacity(instances.len());
        for instance in instances {
            let found = match self.of_cache(&instance.id) {
                None => instance.clone(),
                Some(FromCache::Replaced(found)) => *found,
                Some(FromCache::Unproven(target)) => {
                    let found = self.resolve_now(&target, Choice::Ask).await?;
                    let replaced = (found.id != instance.id).then(|| found.clone());
                    self.settle_cached(&instance.id, replaced);
                    found
                }
            };
            resolved.push(found);
        }
        Ok(resolved)
    }

    fn cached_targets(&self) -> MutexGuard<'_, BTreeMap<String, FromCache>> {
        self.0
            .from_cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The machines that `targets` mean, each once, in the order of the targets and then by name. A
    /// glob or `tag:` means all that match; anything else one.
    ///
    /// # Errors
    /// As [`Self::resolve`], for the first target that fails.
    pub fn resolve_many<'a>(
        &'a self,
        targets: &'a [Target],
    ) -> BoxFuture<'a, Result<Vec<Instance>>> {
        Box::pin(self.resolve_many_unboxed(targets))
    }

    async fn resolve_many_unboxed(&self, targets: &[Target]) -> Result<Vec<Instance>> {
        let targets = targets.iter().map(|target| self.with_last(target));
        let targets = targets.collect::<Result<Vec<_>>>()?;
        // Side by side, as each target is a call or more; choices, which may ask, come one after
        // the other below.
        let found = futures_util::future::try_join_all(targets.iter().map(async |target| {
            let regions = self.regions_of(target).await?;
            let found = self.search().await?.candidates(target, &regions).await?;
            Ok::<_, Error>((regions, found))
        }))
        .await?;
        let mut instances: Vec<Instance> = Vec::new();
        for (target, (regions, found)) in targets.iter().zip(found) {
            let mut part = found.instances;
            if target.is_plural() {
                if part.is_empty() {
                    return Err(failure::none(self, target, &regions).await.error);
                }
                sort_by_name(&mut part);
            } else {
                let choice = found.choice.unwrap_or_default();
                part = vec![self.choose(target, &regions, part, choice).await?];
            }
            // Two targets may mean one machine: a command must not run on it twice.
            for instance in part {
                if instances.iter().all(|known| known.id != instance.id) {
                    instances.push(instance);
                }
            }
        }
        Ok(instances)
    }

    async fn choose(
        &self,
        target: &Target,
        regions: &[String],
        mut found: Vec<Instance>,
        choice: Choice,
    ) -> Result<Instance> {
        // A Name may end in brackets itself.
        let mut named = match target.whole() {
            Some(whole) if target.index.is_some() && target.user.is_none() => {
                self.search().await?.matching(whole, regions).await?
            }
            _ => Vec::new(),
        };
        // `web[2]` is the second `web` and the name of another machine: nobody can tell which was
        // meant.
        if !named.is_empty() && !found.is_empty() {
            named.extend(found);
            return Err(failure::index_or_name(target, &named));
        }
        if !named.is_empty() {
            found = named;
        } else if let Some(index) = target.index {
            // By launch, so that an index keeps its machine while others are added behind it.
            sort_by_launch(&mut found);
            let count = found.len();
            if count > 0 && index > count {
                return Err(failure::index(target, &found));
            }
            if let Some(instance) = found.into_iter().nth(index - 1) {
                return Ok(instance);
            }
            let missing = failure::none(self, target, regions).await;
            return self.near_or(target, missing).await;
        }
        match (found.len(), choice) {
            (0, _) => {
                let missing = failure::none(self, target, regions).await;
                self.near_or(target, missing).await
            }
            (1, _) => Ok(found.remove(0)),
            (_, Choice::First) => {
                sort_by_name(&mut found);
                Ok(found.remove(0))
            }
            (_, Choice::Newest) => {
                sort_by_launch(&mut found);
                Ok(found.remove(found.len() - 1))
            }
            (_, Choice::Ask) => {
                sort_by_name(&mut found);
                if self.output().may_ask() {
                    let question = Question {
                        text: format!("several match {}:", target.as_str()),
                        takes_several: false,
                        is_surprise: true,
                        names_region: found.iter().any(|one| one.region != found[0].region),
                    };
                    let chosen = self.pick_found(question, found).await?;
                    return chosen
                        .and_then(|mut chosen| chosen.pop())
                        .ok_or_else(|| failure::not_picked(target));
                }
                Err(failure::several(target, &found))
            }
        }
    }
}

/// By name, then oldest launch, then id.
pub(crate) fn sort_by_name(instances: &mut [Instance]) {
    instances.sort_by(|a, b| {
        (a.name.is_none(), &a.name, a.launched, &a.id).cmp(&(
            b.name.is_none(),
            &b.name,
            b.launched,
            &b.id,
        ))
    });
}

/// Oldest launch first, ties by id.
pub(crate) fn sort_by_launch(instances: &mut [Instance]) {
    instances.sort_by(|a, b| (a.launched, &a.id).cmp(&(b.launched, &b.id)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, name: Option<&str>, launched: &str) -> Instance {
        Instance {
            name: name.map(str::to_owned),
            launched: Some(launched.parse().expect(launched)),
            ..Instance::bare(id, "eu-west-1")
        }
    }

    #[test]
    fn first_is_by_name_and_newest_by_launch() {
        let mut found = vec![
            instance("i-00000003", Some("web-2"), "2024-01-01T00:00:00Z"),
            instance("i-00000002", Some("web-1"), "2025-01-01T00:00:00Z"),
            instance("i-00000001", Some("web-1"), "2023-01-01T00:00:00Z"),
            instance("i-00000004", None, "2020-01-01T00:00:00Z"),
        ];
        sort_by_name(&mut found);
        let ids: Vec<&str> = found.iter().map(|i| i.id.as_str()).collect();
        assert_eq!(
            ids,
            ["i-00000001", "i-00000002", "i-00000003", "i-00000004"]
        );
        sort_by_launch(&mut found);
        assert_eq!(found[0].id, "i-00000004");
        assert_eq!(found[3].id, "i-00000002");
    }
}
