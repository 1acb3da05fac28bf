//! Looking after commands that the service runs: counts, results, and what Ctrl-C means.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use ops_core::{
    Context,
    calls::run_command::{Invocation, InvocationPage, MOST_IDS, SentCommand},
};
use ops_ui::{Interrupt, Result};
use tokio::time::Instant;

use super::screen::{Counts, Screen};

/// Between two looks at one command: nobody reads counts faster.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first look comes sooner: many commands take no second.
const FIRST_LOOK: Duration = Duration::from_millis(300);
/// Between two calls of ListCommandInvocations or ListCommands, of all commands together. No rate
/// is published for them: an assumption, and a throttled call is tried again later.
const CALL_EVERY: Duration = Duration::from_millis(250);
/// Between two calls of CancelCommand, or of SendCommand; the same assumption.
pub(super) const ORDER_EVERY: Duration = Duration::from_millis(400);
/// How long a command may seem not to exist after it was sent.
const APPEARS_WITHIN: Duration = Duration::from_secs(30);
/// How long a call may go on after somebody has asked to leave: as long as a signal waits for the
/// word of a server.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// What whoever pressed Ctrl-C wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Leave it to the service.
    Detach,
    /// End it on the servers.
    Cancel,
    GoOn,
}

/// How looking after commands ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// All is known.
    Over,
    /// They go on without anybody who looks.
    Detached,
    /// They were cancelled, and all is known.
    Cancelled,
}

/// A command under way.
pub(crate) struct UnderWay {
    command: SentCommand,
    /// Numbers of servers by their ids.
    hosts: HashMap<String, usize>,
    sent_at: Instant,
    next_look: Instant,
    /// Errors that the failures shown so far stand for.
    errors_seen: usize,
    is_over: bool,
    /// Ids that the service has and nobody named.
    extra: Vec<String>,
    /// Ids that are cancelled once the service shows them.
    unwanted: Vec<String>,
}

impl UnderWay {
    /// `unwanted` are nodes that the command means and must not reach.
    pub(crate) fn new(
        command: SentCommand,
        hosts: HashMap<String, usize>,
        unwanted: Vec<String>,
    ) -> Self {
        let now = Instant::now();
        Self {
            command,
            hosts,
            sent_at: now,
            next_look: now + FIRST_LOOK,
            errors_seen: 0,
            is_over: false,
            extra: Vec::new(),
            unwanted,
        }
    }

    pub(crate) fn command(&self) -> &SentCommand {
        &self.command
    }

    /// Servers that have it and that nobody named.
    pub(crate) fn extra(&self) -> &[String] {
        &self.extra
    }

    /// Few enough for one page: one call tells everything.
    fn is_small(&self) -> bool {
        self.hosts.len().max(self.command.targets) <= MOST_IDS
    }
}

/// Looks after commands.
pub(crate) struct Watcher<'a> {
    cx: &'a Context,
    next_call: Instant,
    is_cancelled: bool,
    /// Servers in all, also of commands that are not sent yet.
    pub(crate) servers: usize,
    pub(crate) sent: usize,
    /// More failures than these stop what has not begun, whatever the service counts.
    pub(crate) max_failures: Option<usize>,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(cx: &'a Context, servers: usize) -> Self {
        Self {
            cx,
            next_call: Instant::now(),
            is_cancelled: false,
            servers,
            sent: 0,
            max_failures: None,
        }
    }

    /// Looks until all of these commands are over and their results taken in.
    ///
    /// # Errors
    /// A call fails; the output cannot be written.
    pub(crate) async fn watch(
        &mut self,
        all: &mut [UnderWay],
        screen: &mut Screen,
    ) -> Result<Watched> {
        loop {
            if self.cx.interrupt().requested().is_some() {
                match self.ask(screen).await? {
                    Wish::Detach => {
                        // Nobody would do it later.
                        for one in all.iter_mut().filter(|one| one.command.targets > 0) {
                            self.cancel_unwanted(one).await?;
                        }
                        return Ok(Watched::Detached);
                    }
                    Wish::GoOn => {}
                    Wish::Cancel => {
                        for one in all.iter().filter(|one| !one.is_over) {
                            let command = &one.command;
                            self.pace_for(ORDER_EVERY).await;
                            self.cx
                                .cancel_command(&command.region, &command.id, &[])
                                .await?;
                        }
                        self.is_cancelled = true;
                    }
                }
            }
            let now = Instant::now();
            let due = all
                .iter_mut()
                .filter(|one| !one.is_over)
                .min_by_key(|one| one.next_look);
            let Some(one) = due else {
                return Ok(if self.is_cancelled {
                    Watched::Cancelled
                } else {
                    Watched::Over
                });
            };
            let wait = one.next_look.saturating_duration_since(now);
            if !wait.is_zero() {
                if !self.cancel_some_unwanted(all).await? {
                    self.rest(wait).await;
                }
                continue;
            }
            one.next_look = now + LOOK_EVERY;
            let interrupt = self.cx.interrupt().clone();
            tokio::select! {
                looked = Box::pin(self.look(one, screen)) => looked?,
                // The service may not answer for as long as its retries last. The commands are
                // left to it, as by whoever cannot be asked.
                () = given_up(&interrupt) => return Ok(Watched::Detached),
            }
            self.draw(all, screen);
        }
    }

    /// Waits, but no longer than until somebody presses Ctrl-C.
    async fn rest(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = self.cx.interrupt().wait() => {}
        }
    }

    /// Holds calls apart from each other.
    async fn pace(&mut self) {
        self.pace_for(CALL_EVERY).await;
    }

    /// As calls that look, for one after which nothing is called for the time of `rest`.
    pub(super) async fn pace_for(&mut self, rest: Duration) {
        let now = Instant::now();
        if self.next_call > now {
            tokio::time::sleep(self.next_call - now).await;
        }
        self.next_call = Instant::now() + rest;
    }

    fn draw(&self, all: &[UnderWay], screen: &mut Screen) {
        let (mut ended_unseen, mut failed_unseen) = (0, 0);
        for one in all.iter().filter(|one| !one.is_over && !one.is_small()) {
            // While pages come, the screen has some of the servers that the service counts; and the
            // service counts those that were left out too.
            let seen = one.hosts.values().filter(|&&host| screen.has_ended(host));
            let failed = one.hosts.values().filter(|&&host| screen.has_failed(host));
            let named = one.hosts.len();
            ended_unseen += one
                .command
                .completed
                .min(named)
                .saturating_sub(seen.count());
            failed_unseen += one.command.errors.min(named).saturating_sub(failed.count());
        }
        screen.draw(Counts {
            servers: self.servers,
            ended: screen.ended() + ended_unseen,
            failed: screen.failures() + failed_unseen,
            sent: self.sent,
        });
    }

    async fn look(&mut self, one: &mut UnderWay, screen: &mut Screen) -> Result<()> {
        if one.is_small() {
            let is_over = self.take_all(one, screen).await?;
            one.is_over = is_over;
            return self.stop_after_failures(one, screen).await;
        }
        self.pace().await;
        let found = self
            .cx
            .sent_command(&one.command.region, &one.command.id)
            .await?;
        let Some(command) = found else {
            return check_appearance(one);
        };
        one.command = command;
        if one.command.errors > one.errors_seen && screen.shows_failures() {
            one.errors_seen = one.command.errors;
            self.show_failures(one, screen).await?;
        }
        if one.command.is_over() {
            self.draw(std::slice::from_ref(one), screen);
            self.take_all(one, screen).await?;
            one.is_over = true;
        }
        Ok(())
    }

    /// Waits until the service has found the nodes, and cancels the unwanted ones.
    ///
    /// # Errors
    /// A call fails.
    pub(crate) async fn leave_out(&mut self, one: &mut UnderWay) -> Result<()> {
        while !one.unwanted.is_empty() {
            self.rest(FIRST_LOOK).await;
            self.pace().await;
            let found = self
                .cx
                .sent_command(&one.command.region, &one.command.id)
                .await?;
            match found {
                Some(command) if command.targets > 0 => self.cancel_unwanted(one).await?,
                // Nobody was found at all.
                Some(command) if command.is_over() => return Ok(()),
                _ => check_appearance(one)?,
            }
        }
        Ok(())
    }

    /// As [`Self::cancel_unwanted`], one call of it; tells whether there was one to make. Hundreds
    /// of nodes take many calls, which come between looks and never in place of one: somebody waits
    /// for the first failure.
    async fn cancel_some_unwanted(&mut self, all: &mut [UnderWay]) -> Result<bool> {
        let found = all
            .iter_mut()
            .find(|one| !one.is_over && one.command.targets > 0 && !one.unwanted.is_empty());
        let Some(one) = found else { return Ok(false) };
        self.cancel_next_unwanted(one).await?;
        Ok(true)
    }

    /// The service may hold a command back for nodes that do not take it.
    async fn cancel_unwanted(&mut self, one: &mut UnderWay) -> Result<()> {
        while !one.unwanted.is_empty() {
            self.cancel_next_unwanted(one).await?;
        }
        Ok(())
    }

    /// Cancels as many of them as one call takes.
    async fn cancel_next_unwanted(&mut self, one: &mut UnderWay) -> Result<()> {
        let count = one.unwanted.len().min(MOST_IDS);
        let ids: Vec<String> = one.unwanted.drain(..count).collect();
        self.pace_for(ORDER_EVERY).await;
        let (region, id) = (&one.command.region, &one.command.id);
        self.cx.cancel_command(region, id, &ids).await
    }

    /// Takes in every page; tells whether all servers are done.
    async fn take_all(&mut self, one: &mut UnderWay, screen: &mut Screen) -> Result<bool> {
        let mut token = None;
        let mut met = 0;
        let mut is_over = true;
        loop {
            self.pace().await;
            let page = self
                .cx
                .invocation_page(&one.command.region, &one.command.id, None, token)
                .await;
            let page = match page {
                // Many may get an invocation and not list them.
                Err(error) if one.is_small() && met == 0 => {
                    self.one_by_one(one).await?.ok_or(error)?
                }
                page => page?,
            };
            for invocation in &page.invocations {
                met += 1;
                is_over &= invocation.is_over();
                self.take(one, invocation, screen).await?;
            }
            token = page.next;
            if token.is_none() {
                break;
            }
            self.draw(std::slice::from_ref(one), screen);
        }
        if met == 0 {
            check_appearance(one)?;
            return Ok(false);
        }
        // Fewer than were named may only be late, for a moment.
        let is_late = met < one.hosts.len() && one.sent_at.elapsed() < LOOK_EVERY * 3;
        Ok(is_over && !is_late)
    }

    /// The invocations of a small command, asked for one by one; `None` where that is refused too.
    async fn one_by_one(&mut self, one: &UnderWay) -> Result<Option<InvocationPage>> {
        let mut page = InvocationPage::default();
        for instance_id in one.hosts.keys() {
            self.pace().await;
            let found = self
                .cx
                .single_invocation(&one.command.region, &one.command.id, instance_id)
                .await;
            match found {
                Ok(Some((mut invocation, output))) => {
                    invocation.output = super::streams::joined(&output.stdout, &output.stderr);
                    page.invocations.push(invocation);
                }
                Ok(None) => {}
                Err(_) if page.invocations.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(page))
    }

    async fn take(
        &mut self,
        one: &mut UnderWay,
        invocation: &Invocation,
        screen: &mut Screen,
    ) -> Result<()> {
        match one.hosts.get(&invocation.instance_id) {
            Some(&host) => screen.take(self.cx, &one.command, host, invocation).await,
            None => {
                if !one.extra.contains(&invocation.instance_id) {
                    one.extra.push(invocation.instance_id.clone());
                }
                Ok(())
            }
        }
    }

    /// The first page of failures, while the command goes on.
    async fn show_failures(&mut self, one: &UnderWay, screen: &mut Screen) -> Result<()> {
        self.pace().await;
        let command = &one.command;
        let page = self
            .cx
            .invocation_page(&command.region, &command.id, Some("Failed"), None)
            .await?;
        for invocation in &page.invocations {
            if let Some(&host) = one.hosts.get(&invocation.instance_id) {
                screen.tell_early(host, invocation);
            }
        }
        Ok(())
    }

    /// The service counts no server that it could not reach; `--max-fail` counts all. What has not
    /// begun is cancelled by its id then, so that what runs may end.
    async fn stop_after_failures(&mut self, one: &mut UnderWay, screen: &mut Screen) -> Result<()> {
        let is_enough = self
            .max_failures
            .is_some_and(|most| screen.failures() > most);
        if !is_enough || one.is_over {
            return Ok(());
        }
        self.pace().await;
        let command = &one.command;
        let page = self
            .cx
            .invocation_page(&command.region, &command.id, Some("Pending"), None)
            .await?;
        let waiting: Vec<String> = page
            .invocations
            .into_iter()
            .map(|invocation| invocation.instance_id)
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        self.cx
            .cancel_command(&command.region, &command.id, &waiting)
            .await
    }

    /// Asks what Ctrl-C means. Where nobody can be asked the commands are left to the service.
    async fn ask(&self, screen: &mut Screen) -> Result<Wish> {
        let output = self.cx.output();
        screen.clear();
        if self.cx.interrupt().requested() != Some(ops_ui::ErrorKind::Interrupted)
            || !output.may_ask()
        {
            return Ok(Wish::Detach);
        }
        // From here on Ctrl-C is an answer too: to leave at once.
        let question = "It runs at AWS. Leave it there, cancel it, or go on looking? [d/c/g] ";
        loop {
            let answer = output.ask_anew(question).await?;
            let wish = match answer.as_deref().map(str::trim) {
                None | Some("d" | "detach") => Wish::Detach,
                Some("c" | "cancel") => Wish::Cancel,
                Some("g" | "go on" | "") => Wish::GoOn,
                Some(_) => continue,
            };
            if wish != Wish::Detach {
                self.cx.interrupt().withdraw();
            }
            return Ok(wish);
        }
    }
}

/// Ends when somebody has asked to leave, and has waited for [`LEAVES_WITHIN`].
async fn given_up(interrupt: &Interrupt) {
    interrupt.wait().await;
    tokio::time::sleep(LEAVES_WITHIN).await;
}

/// # Errors
/// The service has had time enough to show it.
fn check_appearance(one: &UnderWay) -> Result<()> {
    if one.sent_at.elapsed() < APPEARS_WITHIN {
        return Ok(());
    }
    Err(
        ops_ui::Error::unexpected(format!("the command `{}` cannot be seen", one.command.id))
            .caused_by("Systems Manager shows neither it nor a server of it")
            .hint(ops_ui::hint!(
                "look later: ops runs show {}",
                one.command.id
            )),
    )
}

/// Numbers of servers by their ids.
pub(crate) fn numbers<'a>(ids: impl Iterator<Item = (&'a str, usize)>) -> HashMap<String, usize> {
    ids.map(|(id, number)| (id.to_owned(), number)).collect()
}

/// Counts of servers by a word, the most frequent first: `800 Success, 3 Failed`.
pub(crate) fn counted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    parts.join(", ")
}
