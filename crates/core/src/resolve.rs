//! What the user typed, turned into the one machine it means; never by a silent guess.

mod args;
mod failure;

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
};

use ops_profile::{Host, Instance, Pick, Selector, Target};
use ops_ui::{Error, ErrorKind, Result};

use crate::{
    BoxFuture,
    cache::FleetFile,
    context::{Context, FromCache},
    inventory::{Query, TagFilter, answers_to, has_address},
    picker,
};

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
    /// side.
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
        let regions = self.regions_of(target).await?;
        let found = self.candidates(target, &regions).await?;
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
                let found = self.matching(whole, &regions).await?;
                if found.is_empty() {
                    return Err(error);
                }
                self.choose(target, &regions, found, choice).await
            }
            (result, _) => result,
        }
    }

    /// Asks on the terminal which of the running instances is meant, `purpose` being what for.
    ///
    /// # Errors
    /// Those of a list; nothing runs; nothing was chosen.
    pub async fn pick_server(&self, purpose: &'static str) -> Result<Instance> {
        self.pick_among(&[], &[], purpose).await
    }

    /// As [`Self::pick_server`], among those that `patterns` and `tags` mean; all where there are
    /// none.
    ///
    /// # Errors
    /// As [`Self::pick_server`].
    pub fn pick_among<'a>(
        &'a self,
        patterns: &'a [Target],
        tags: &'a [TagFilter],
        purpose: &'static str,
    ) -> BoxFuture<'a, Result<Instance>> {
        Box::pin(self.pick_among_unboxed(patterns, tags, purpose))
    }

    async fn pick_among_unboxed(
        &self,
        patterns: &[Target],
        tags: &[TagFilter],
        purpose: &'static str,
    ) -> Result<Instance> {
        let mut query = Query::of_targets(self.profile()?);
        for pattern in patterns {
            query.add(pattern);
        }
        query.tags.extend_from_slice(tags);
        query.reach = true;
        let regions = self.regions().await?;
        let mut listing = self.list(&query, &regions).await?;
        let mut found = std::mem::take(&mut listing.instances);
        if found.is_empty() {
            return Err(listing.into_failure().unwrap_or_else(|| {
                Error::new(ErrorKind::NotFound, "no instance is running here")
                    .hint("see what there is: ops ls --state all")
            }));
        }
        sort_by_name(&mut found);
        match picker::pick(self.output(), purpose, &found).await? {
            Some(index) => Ok(found.swap_remove(index)),
            None => Err(Error::new(ErrorKind::Ambiguous, "no target was chosen")),
        }
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
        let found = futures_util::future::try_join_all(targets.iter().map(async |target| {
            let regions = self.regions_of(target).await?;
            let found = self.candidates(target, &regions).await?;
            Ok::<_, Error>((regions, found))
        }))
        .await?;
        let mut instances: Vec<Instance> = Vec::new();
        for (target, (regions, found)) in targets.iter().zip(found) {
            let mut part = found.instances;
            if target.is_plural() {
                if part.is_empty() {
                    return Err(failure::none(self, target, &regions).await);
                }
                sort_by_name(&mut part);
            } else {
                let choice = found.choice.unwrap_or_default();
                part = vec![self.choose(target, &regions, part, choice).await?];
            }
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
                self.matching(whole, regions).await?
            }
            _ => Vec::new(),
        };
        if !named.is_empty() && !found.is_empty() {
            named.extend(found);
            return Err(failure::index_or_name(target, &named));
        }
        if !named.is_empty() {
            found = named;
        } else if let Some(index) = target.index {
            sort_by_launch(&mut found);
            let count = found.len();
            if count > 0 && index > count {
                return Err(failure::index(target, &found));
            }
            if let Some(instance) = found.into_iter().nth(index - 1) {
                return Ok(instance);
            }
            return Err(failure::none(self, target, regions).await);
        }
        match (found.len(), choice) {
            (0, _) => Err(failure::none(self, target, regions).await),
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
                    let title = format!("several match {}", target.as_str());
                    return match picker::pick(self.output(), &title, &found).await? {
                        Some(index) => Ok(found.swap_remove(index)),
                        None => Err(failure::not_picked(target)),
                    };
                }
                Err(failure::several(target, &found))
            }
        }
    }

    /// Everything that `target` may mean in `regions`, already cut down to the first of its
    /// meanings that has any.
    async fn candidates(&self, target: &Target, regions: &[String]) -> Result<Found> {
        if let Selector::Id(id) = &target.selector {
            return self.by_id(id, regions).await.map(Found::of);
        }
        if let Selector::Word(word) = &target.selector
            && let Some(host) = self.profile()?.hosts.get(word)
        {
            return self.host(word, host, regions).await;
        }
        self.matching(&target.selector, regions)
            .await
            .map(Found::of)
    }

    /// The machines that `selector` means by the first of its meanings that has any.
    async fn matching(&self, selector: &Selector, regions: &[String]) -> Result<Vec<Instance>> {
        let mut query = Query::of_targets(self.profile()?);
        query.patterns.push(selector.clone());
        let mut found = self.search(&query, regions).await?;
        if let Selector::Word(word) = selector {
            let by_name = |instance: &Instance| instance.full_names().any(|name| name == word);
            if found.iter().any(by_name) {
                found.retain(by_name);
            } else {
                found.retain(|instance| has_address(instance, word));
            }
        } else {
            found.retain(|instance| answers_to(instance, selector));
        }
        Ok(found)
    }

    /// What answers to `query` in any of `regions`. A region that cannot be searched may hold
    /// another machine of the same name, so that it fails the search: a name means one machine or
    /// none.
    async fn search(&self, query: &Query, regions: &[String]) -> Result<Vec<Instance>> {
        let mut listing = self.list(query, regions).await?;
        for note in &listing.notes {
            self.output()
                .detail(format!("hybrid nodes may be missing: {note}"));
        }
        let instances = std::mem::take(&mut listing.instances);
        match listing.into_failure() {
            Some(error) => Err(error),
            None => Ok(instances),
        }
    }

    /// What the profile's host alias `name` means: its target, or the machines that have its tags.
    async fn host(&self, name: &str, host: &Host, regions: &[String]) -> Result<Found> {
        if let Some(text) = &host.target {
            let target: Target = text.as_str().parse().map_err(|error| {
                Error::usage(format!(
                    "host `{name}` of the profile has a target that is none"
                ))
                .caused_by(error)
            })?;
            // A name of the alias's own kind would go round in circles: here it is a Name.
            if let Selector::Id(id) = &target.selector {
                return self.by_id(id, regions).await.map(Found::of);
            }
            return self
                .matching(&target.selector, regions)
                .await
                .map(Found::of);
        }
        let mut query = Query::of_targets(self.profile()?);
        query
            .tags
            .extend(host.tags.iter().map(|(key, globs)| TagFilter {
                key: key.clone(),
                values: globs.iter().map(|glob| glob.as_str().to_owned()).collect(),
                negated: false,
            }));
        let mut instances = self.search(&query, regions).await?;
        let choice = match host.pick.unwrap_or_default() {
            Pick::Only => None,
            Pick::Newest => Some(Choice::Newest),
            Pick::Oldest => {
                sort_by_launch(&mut instances);
                instances.truncate(1);
                None
            }
            Pick::Any => Some(Choice::First),
        };
        Ok(Found { instances, choice })
    }

    /// An id means its machine in any state and whatever the profile selects. Without the
    /// permission to look, it is taken as it is.
    async fn by_id(&self, id: &str, regions: &[String]) -> Result<Vec<Instance>> {
        let mut query = Query::of_targets(self.profile()?);
        query.states.clear();
        query.patterns.push(Selector::Id(id.to_owned()));
        let mut listing = self.list(&query, regions).await?;
        // An id is that of one machine in the world: what other regions would say is of no
        // interest.
        if !listing.instances.is_empty() {
            return Ok(listing.instances);
        }
        let failure = match (listing.failures.as_slice(), regions) {
            ([(_, error)], [region]) if error.kind() == ErrorKind::Denied => {
                self.output()
                    .detail(format!("`{id}` is taken as it is: {error}"));
                return Ok(vec![Instance::bare(id, region)]);
            }
            _ => std::mem::take(&mut listing).into_failure(),
        };
        match failure {
            Some(error) => Err(error),
            None => Ok(Vec::new()),
        }
    }
}

struct Found {
    instances: Vec<Instance>,
    /// What a host alias of the profile says about several.
    choice: Option<Choice>,
}

impl Found {
    fn of(instances: Vec<Instance>) -> Self {
        Self {
            instances,
            choice: None,
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
