//! The user is asked on the terminal which server is meant: where none was named, or one that is
//! not there.

use std::pin::pin;

use ops_profile::{Instance, Target};
use ops_ui::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::failure::Missing;
use crate::{
    BoxFuture,
    context::Context,
    inventory::{Listing, Query, TagFilter},
    picker::{self, Feed, Question},
};

impl Context {
    /// Asks on the terminal which of the running instances is meant, `purpose` being what for.
    ///
    /// # Errors
    /// Those of a list; nothing runs; nothing was chosen.
    pub async fn pick_server(&self, purpose: &str) -> Result<Instance> {
        let mut chosen = self.pick_among(&[], &[], purpose, false).await?;
        chosen.pop().ok_or_else(nothing_chosen)
    }

    /// As [`Self::pick_server`], for a command that takes several of them.
    ///
    /// # Errors
    /// As [`Self::pick_server`].
    pub async fn pick_servers(&self, purpose: &str) -> Result<Vec<Instance>> {
        self.pick_among(&[], &[], purpose, true).await
    }

    /// Asks which of those that `patterns` and `tags` mean, all where there are none, are meant.
    /// The list is drawn at once, and fills as its pages arrive. Gives at least one.
    ///
    /// # Errors
    /// As [`Self::pick_server`].
    pub fn pick_among<'a>(
        &'a self,
        patterns: &'a [Target],
        tags: &'a [TagFilter],
        purpose: &'a str,
        takes_several: bool,
    ) -> BoxFuture<'a, Result<Vec<Instance>>> {
        Box::pin(self.pick_among_unboxed(patterns, tags, purpose, takes_several))
    }

    async fn pick_among_unboxed(
        &self,
        patterns: &[Target],
        tags: &[TagFilter],
        purpose: &str,
        takes_several: bool,
    ) -> Result<Vec<Instance>> {
        let mut query = Query::of_targets(self.profile()?);
        for pattern in patterns {
            query.add(&*self.with_last(pattern)?);
        }
        query.tags.extend_from_slice(tags);
        query.reach = true;
        let regions = self.regions().await?;
        // Whoever has to log in for it is asked before the list is on the terminal.
        self.aws().await?.credentials().await?;
        let question = Question {
            text: purpose.to_owned(),
            takes_several,
            is_surprise: false,
            names_region: regions.len() > 1,
        };
        let (news, feed) = mpsc::unbounded_channel();
        let mut picking = pin!(picker::pick_from(
            self.output(),
            question,
            self.recents()?,
            feed
        ));
        let mut listing = pin!(self.list_as_news(&query, &regions, news));
        let mut listed = None;
        let chosen = loop {
            tokio::select! {
                chosen = &mut picking => break chosen?,
                outcome = &mut listing, if listed.is_none() => listed = Some(outcome),
            }
        };
        match (chosen, listed) {
            (Some(chosen), _) => Ok(chosen),
            (None, Some(Err(error))) => Err(error),
            (None, Some(Ok(listing))) if listing.instances.is_empty() => {
                Err(listing.into_failure().unwrap_or_else(|| {
                    Error::new(ErrorKind::NotFound, "no instance is running here")
                        .hint("see what there is: ops ls --state all")
                }))
            }
            (None, _) => Err(nothing_chosen()),
        }
    }

    /// The list, told to the picker page by page and then as a whole.
    async fn list_as_news(
        &self,
        query: &Query,
        regions: &[String],
        news: mpsc::UnboundedSender<Feed>,
    ) -> Result<Listing> {
        let (rows, mut pages) = mpsc::unbounded_channel();
        let mut listing = pin!(self.list_into(query, regions, rows));
        let listed = loop {
            tokio::select! {
                Some(page) = pages.recv() => { let _ = news.send(Feed::Page(page)); }
                listed = &mut listing => break listed,
            }
        };
        let last = match &listed {
            Ok(listing) if !listing.instances.is_empty() => {
                let missing: Vec<&str> = listing
                    .failures
                    .iter()
                    .map(|(region, _)| region.as_str())
                    .collect();
                Feed::Whole {
                    instances: listing.instances.clone(),
                    note: (!missing.is_empty())
                        .then(|| format!("not listed: {}", missing.join(", "))),
                }
            }
            _ => Feed::Failed,
        };
        let _ = news.send(last);
        listed
    }

    /// Asks which of `found` is meant. They are drawn at once; what Systems Manager knows of their
    /// agents is drawn when it comes, and where it does not come the choice is the same.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub(super) async fn pick_found(
        &self,
        question: Question,
        found: Vec<Instance>,
    ) -> Result<Option<Vec<Instance>>> {
        let (news, feed) = mpsc::unbounded_channel();
        let _ = news.send(Feed::Page(found.clone()));
        let mut picking = pin!(picker::pick_from(
            self.output(),
            question,
            self.recents()?,
            feed
        ));
        let mut asking = pin!(async {
            let instances = match self.inventory().await {
                Ok(inventory) => inventory.with_agents(found).await,
                Err(_) => found,
            };
            let _ = news.send(Feed::Whole {
                instances,
                note: None,
            });
        });
        let mut is_asked = false;
        loop {
            tokio::select! {
                chosen = &mut picking => return chosen,
                () = &mut asking, if !is_asked => is_asked = true,
            }
        }
    }

    /// The one that the user chooses of those that are called nearly so, where somebody is there to
    /// choose; nothing is ever taken for what was meant without that.
    ///
    /// # Errors
    /// Nothing comes near, nobody can be asked, or none of them was meant: that of `missing`.
    pub(super) async fn near_or(&self, target: &Target, missing: Missing) -> Result<Instance> {
        let Missing { error, near } = missing;
        if near.is_empty() || !self.output().may_ask() {
            return Err(error);
        }
        let question = Question {
            text: format!("nothing is called `{}`; one of these?", target.as_str()),
            takes_several: false,
            is_surprise: true,
            names_region: near.iter().any(|one| one.region != near[0].region),
        };
        let chosen = self.pick_found(question, near).await?;
        chosen.and_then(|mut chosen| chosen.pop()).ok_or(error)
    }
}

fn nothing_chosen() -> Error {
    Error::new(ErrorKind::Ambiguous, "no target was chosen")
}
