//! Which machines a target may mean: by the profile's words and what AWS lists. Nobody is asked
//! here, and nothing is chosen among several.

use ops_profile::{Host, Instance, Pick, Profile, Selector, Target};
use ops_ui::{Error, ErrorKind, Result};

use super::{Choice, sort_by_launch};
use crate::inventory::{Inventory, Query, TagFilter, answers_to, has_address};

/// Looks for what targets mean.
pub(super) struct TargetSearch<'a> {
    pub(super) profile: &'a Profile,
    pub(super) inventory: Inventory<'a>,
}

impl TargetSearch<'_> {
    /// Everything that `target` may mean in `regions`, already cut down to the first of its
    /// meanings that has any.
    pub(super) async fn candidates(&self, target: &Target, regions: &[String]) -> Result<Found> {
        if let Selector::Id(id) = &target.selector {
            return self.by_id(id, regions).await.map(Found::of);
        }
        if let Selector::Word(word) = &target.selector
            && let Some(host) = self.profile.hosts.get(word)
        {
            return self.host(word, host, regions).await;
        }
        self.matching(&target.selector, regions)
            .await
            .map(Found::of)
    }

    /// The machines that `selector` means by the first of its meanings that has any.
    pub(super) async fn matching(
        &self,
        selector: &Selector,
        regions: &[String],
    ) -> Result<Vec<Instance>> {
        let mut query = Query::of_targets(self.profile);
        query.patterns.push(selector.clone());
        let mut found = self.search(&query, regions).await?;
        if let Selector::Word(word) = selector {
            let by_name = |instance: &Instance| instance.full_names().any(|name| name == word);
            // The names first: a machine may be called what is the address of another.
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
        let mut listing = self.inventory.list(query, regions).await?;
        for note in &listing.notes {
            self.inventory
                .output
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
        let mut query = Query::of_targets(self.profile);
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
        let mut query = Query::of_targets(self.profile);
        // Whoever types an id has it from somewhere, and hears what state the machine is in.
        query.states.clear();
        query.patterns.push(Selector::Id(id.to_owned()));
        let mut listing = self.inventory.list(&query, regions).await?;
        // An id is that of one machine in the world: what other regions would say is of no
        // interest.
        if !listing.instances.is_empty() {
            return Ok(listing.instances);
        }
        let failure = match (listing.failures.as_slice(), regions) {
            // With one region there is one place where it can be; with several nobody could tell.
            ([(_, error)], [region]) if error.kind() == ErrorKind::Denied => {
                self.inventory
                    .output
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

/// What a target may mean.
pub(super) struct Found {
    pub(super) instances: Vec<Instance>,
    /// What a host alias of the profile says about several.
    pub(super) choice: Option<Choice>,
}

impl Found {
    fn of(instances: Vec<Instance>) -> Self {
        Self {
            instances,
            choice: None,
        }
    }
}
