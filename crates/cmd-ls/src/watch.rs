//! `--watch`: the list again and again; redrawn on a terminal, elsewhere what has changed.

use std::{collections::BTreeMap, time::Duration};

use ops_core::Context;
use ops_profile::{Instance, InstanceState};
use ops_ui::{Exit, Format, Result, terminal::QuitKey};

use crate::list::List;

/// The pause is doubled up to this while something fails, such as calls that are throttled.
const LONGEST: Duration = Duration::from_secs(60);

/// Lists every `interval` until it is interrupted or nobody reads any more. The first list has to
/// succeed.
pub(crate) async fn watch_list(cx: &Context, list: &List, interval: Duration) -> Result<Exit> {
    let output = cx.output();
    let redraws =
        output.stdout_is_terminal() && matches!(output.format(), Format::Table | Format::Wide);
    let mut quit = redraws
        .then(|| QuitKey::listen(output.raw_lines()).ok())
        .flatten();
    let mut pause = interval;
    let mut before: Option<BTreeMap<String, Instance>> = None;
    loop {
        let mut listing = match list.fetch(cx).await {
            Ok(listing) => listing,
            Err(error) if before.is_none() => return Err(error),
            Err(error) => {
                output.note(format!("note: {error}"));
                pause = (pause * 2).min(LONGEST.max(interval));
                if sleep_unless_quit(pause, &mut quit).await {
                    return Ok(Exit::SUCCESS);
                }
                continue;
            }
        };
        let failed = !listing.failures.is_empty();
        if failed && before.is_none() && listing.failures.len() == listing.regions {
            if let Some(error) = listing.into_failure() {
                return Err(error);
            }
            return Ok(Exit::SUCCESS);
        }
        for (region, error) in &listing.failures {
            output.note(format!("note: {region}: {error}"));
        }
        let now: BTreeMap<String, Instance> = listing
            .instances
            .iter()
            .map(|instance| (instance.id.clone(), instance.clone()))
            .collect();
        if redraws {
            output.clear_screen()?;
            let marked = before
                .as_ref()
                .map(|before| changed_rows(before, &now, failed))
                .unwrap_or_default();
            output.page(&header_line(interval, marked.len(), quit.is_some()))?;
            let is_marked = |instance: &Instance| marked.iter().any(|row| row.id == instance.id);
            // What is gone is shown once more.
            let mut shown = listing.instances.clone();
            shown.extend(
                marked
                    .iter()
                    .filter(|row| !now.contains_key(&row.id))
                    .cloned(),
            );
            let _left_out = list.table(output, &shown, is_marked)?;
            if listing.instances.is_empty() {
                list.say_empty(cx);
            }
        } else if let Some(before) = &before {
            listing.instances = changed_rows(before, &now, failed);
            if !listing.instances.is_empty() {
                list.show(cx, &listing).await?;
            }
        } else {
            list.show(cx, &listing).await?;
        }
        before = Some(now);
        pause = if failed {
            (pause * 2).min(LONGEST.max(interval))
        } else {
            interval
        };
        if sleep_unless_quit(pause, &mut quit).await {
            return Ok(Exit::SUCCESS);
        }
    }
}

/// Waits; whether `q` was pressed meanwhile.
async fn sleep_unless_quit(pause: Duration, quit: &mut Option<QuitKey>) -> bool {
    let pressed = async {
        match quit {
            Some(quit) => quit.pressed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tokio::time::sleep(pause) => false,
        () = pressed => true,
    }
}

/// What stands above a list that is drawn anew.
fn header_line(interval: Duration, changes: usize, can_quit: bool) -> String {
    let now = jiff::Timestamp::now();
    let changes = match changes {
        0 => String::new(),
        1 => " · 1 changed".to_owned(),
        many => format!(" · {many} changed"),
    };
    let quit = if can_quit { " · q ends" } else { "" };
    format!(
        "{} · every {interval:?}{changes}{quit}\n\n",
        now.strftime("%H:%M:%SZ")
    )
}

/// What is new, different, or gone; the gone count as terminated unless a region failed, which
/// would explain their absence.
fn changed_rows(
    before: &BTreeMap<String, Instance>,
    now: &BTreeMap<String, Instance>,
    failed: bool,
) -> Vec<Instance> {
    let mut rows: Vec<Instance> = now
        .values()
        .filter(|instance| before.get(&instance.id).is_none_or(|old| old != *instance))
        .cloned()
        .collect();
    if !failed {
        rows.extend(
            before
                .values()
                .filter(|old| !now.contains_key(&old.id))
                .map(|old| Instance {
                    state: InstanceState::Terminated,
                    ..old.clone()
                }),
        );
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_different_or_gone_is_told_again() {
        let map = |ids: &[&str]| -> BTreeMap<String, Instance> {
            ids.iter()
                .map(|id| ((*id).to_owned(), Instance::bare(*id, "eu-west-1")))
                .collect()
        };
        let before = map(&["i-00000001", "i-00000002"]);
        let mut now = map(&["i-00000001", "i-00000003"]);
        let ids =
            |rows: Vec<Instance>| -> Vec<String> { rows.into_iter().map(|row| row.id).collect() };
        assert_eq!(
            ids(changed_rows(&before, &now, false)),
            ["i-00000003", "i-00000002"]
        );
        assert_eq!(ids(changed_rows(&before, &now, true)), ["i-00000003"]);
        if let Some(first) = now.get_mut("i-00000001") {
            first.state = InstanceState::Stopping;
        }
        assert_eq!(
            ids(changed_rows(&before, &now, true)),
            ["i-00000001", "i-00000003"]
        );
    }
}
