//! `ops sessions end`

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use ops_core::{
    Context,
    calls::session_list::{SessionListing, SessionQuery, SessionRecord},
};
use ops_profile::Target;
use ops_ui::{
    Error, ErrorKind, Exit, Format, List, Result, Text, confirm::Preset, hint, style::Style,
    table::Column,
};
use serde_json::{Map, Value, json};

use crate::{
    list::ids_of,
    record::{self, Names},
    since::parse_span,
};

/// Calls at the same time; their pace is the service's quota in any case.
const AT_ONCE: usize = 6;

/// Which sessions are ended.
#[derive(clap::Args, Debug)]
pub(crate) struct EndArgs {
    /// Ids of sessions, or servers
    #[arg(
        value_name = "WORD",
        required_unless_present_any = ["mine", "older_than"]
    )]
    words: Vec<String>,
    /// Those of the caller alone
    #[arg(long)]
    mine: bool,
    /// Those begun longer ago than this, such as 2h or 1d
    #[arg(long, value_name = "TIME", value_parser = parse_span, allow_negative_numbers = true)]
    older_than: Option<Duration>,
}

/// What came of one session.
enum EndOutcome {
    Ended,
    /// The service knew it no more.
    WasOver,
    Failed(Error),
}

pub(crate) async fn end_sessions(cx: &Context, args: EndArgs) -> Result<Exit> {
    let output = cx.output();
    let spinner = output.spinner("listing sessions");
    let chosen = choose_sessions(cx, &args).await;
    drop(spinner);
    let chosen = chosen?;
    let names = Names::of(cx, &chosen).await;
    if chosen.is_empty() {
        output.note("no session to end");
        // A program that reads the list finds it empty.
        if output.format() != Format::Table {
            list_results(&[], &names, &[]).write(output)?;
        }
        return Ok(Exit::SUCCESS);
    }
    confirm_end(cx, &chosen, &names).await?;
    // Owned ones: a borrowed session would tie the stream to one lifetime.
    let ends = chosen
        .iter()
        .map(|session| end_one(cx.clone(), session.region.clone(), session.id.clone()))
        .collect::<Vec<_>>();
    let spinner = output.spinner("ending sessions");
    let outcomes: Vec<EndOutcome> = stream::iter(ends).buffered(AT_ONCE).collect().await;
    drop(spinner);
    list_results(&chosen, &names, &outcomes).write(output)?;
    failure_of_all(&chosen, outcomes).map_or(Ok(Exit::SUCCESS), Err)
}

async fn end_one(cx: Context, region: String, id: String) -> EndOutcome {
    match cx.end_session(&region, &id).await {
        Ok(true) => EndOutcome::Ended,
        Ok(false) => EndOutcome::WasOver,
        Err(error) => EndOutcome::Failed(error),
    }
}

/// The open sessions that are meant, each once.
async fn choose_sessions(cx: &Context, args: &EndArgs) -> Result<Vec<SessionRecord>> {
    let regions = cx.regions().await?;
    let mut query = SessionQuery::default();
    if args.mine {
        query.owner = Some(cx.identity().await?.arn.clone());
    }
    let SessionListing {
        sessions: mut open,
        lacks,
    } = cx.list_sessions(&query, &regions).await?;
    // A list with gaps would leave sessions open that are meant.
    if let Some(failure) = lacks.into_failure() {
        return sessions_unlisted(args, &regions, failure);
    }
    if let Some(arn) = &query.owner {
        // The service was asked for these alone. An endpoint that ignores the filter, or takes
        // `alice` for the beginning of `alice.w`, must not have somebody else's session ended.
        open.retain(|session| is_owned_by(session, arn));
    }
    if let Some(span) = args.older_than {
        let limit = Timestamp::now().checked_sub(span).unwrap_or(Timestamp::MIN);
        open.retain(|session| session.started.is_some_and(|started| started < limit));
    }
    if args.words.is_empty() {
        return Ok(open);
    }
    let mut meant = BTreeSet::new();
    for word in &args.words {
        let found = of_word(cx, word, &open, &regions).await?;
        // Narrowed to none by --mine or --older-than is an answer; a word that means nothing at all
        // is a mistake.
        if found.is_empty() && !args.mine && args.older_than.is_none() {
            return Err(nothing_of(word, &regions));
        }
        meant.extend(found);
    }
    open.retain(|session| meant.contains(&session.id));
    Ok(open)
}

/// Whether a session belongs to the caller of this ARN. By the last part of both: how the service
/// writes the ARN of a role's session is not documented.
fn is_owned_by(session: &SessionRecord, arn: &str) -> bool {
    let name = arn.rsplit('/').next().unwrap_or(arn);
    session.owner_name() == name
}

/// Ids of the sessions in `open` that `word` means: that of a session, else those on a server.
async fn of_word(
    cx: &Context,
    word: &str,
    open: &[SessionRecord],
    regions: &[String],
) -> Result<Vec<String>> {
    if open.iter().any(|session| session.id == word) {
        return Ok(vec![word.to_owned()]);
    }
    let target: Target = word
        .parse()
        .map_err(|error: ops_profile::target::TargetError| Error::usage(error.to_string()))?;
    let ids = match ids_of(cx, &[target], regions).await {
        // The id of a session that is over, and no name of a server.
        Err(error) if error.kind() == ErrorKind::NotFound && is_session_id(word) => {
            return Ok(Vec::new());
        }
        ids => ids?,
    };
    let on_them = open.iter().filter(|session| ids.contains(&session.target));
    Ok(on_them.map(|session| session.id.clone()).collect())
}

/// Whether `text` has the form of a session's id: who opened it, a hyphen, and 17 to 26 letters and
/// digits, among which a digit is.
fn is_session_id(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(owner, tail)| {
        !owner.is_empty()
            && owner != "i"
            && owner != "mi"
            && (17..=26).contains(&tail.len())
            && tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
            // Of 26 characters by chance none is a digit once in some hundred sessions; names of
            // servers have no such long words.
            && (tail.len() == 26 || tail.bytes().any(|byte| byte.is_ascii_digit()))
    })
}

/// Where sessions cannot be listed: those that are named by their ids in the one region can be
/// ended all the same, which a policy may allow without the list.
fn sessions_unlisted(
    args: &EndArgs,
    regions: &[String],
    failure: Error,
) -> Result<Vec<SessionRecord>> {
    let is_named = args.words.iter().all(|word| is_session_id(word)) && !args.words.is_empty();
    let [region] = regions else {
        return Err(failure);
    };
    if failure.kind() != ErrorKind::Denied || !is_named || args.mine || args.older_than.is_some() {
        return Err(failure);
    }
    let by_name = |id: &String| SessionRecord {
        id: id.clone(),
        target: String::new(),
        region: region.clone(),
        owner: String::new(),
        started: None,
        ended: None,
        status: String::new(),
        document: String::new(),
        reason: None,
    };
    Ok(args.words.iter().map(by_name).collect())
}

fn nothing_of(word: &str, regions: &[String]) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("no open session is meant by `{word}`"),
    )
    .caused_by(format!(
        "in {} there is none of that id, and none on a server of that name",
        regions.join(", ")
    ))
    .hint(hint!("see what is open: ops sessions"))
}

/// Shows what is to be ended, and asks.
///
/// # Errors
/// Refused (exit 9): it was not confirmed, or nobody can be asked.
async fn confirm_end(cx: &Context, chosen: &[SessionRecord], names: &Names) -> Result<()> {
    if cx.globals().yes {
        return Ok(());
    }
    let output = cx.output();
    let what = match chosen.len() {
        1 => "ending 1 session".to_owned(),
        count => format!("ending {count} sessions"),
    };
    let refused = |why: &str| {
        Error::new(ErrorKind::Refused, format!("{what} is not confirmed"))
            .caused_by(why)
            .hint("answer without being asked: --yes")
    };
    let now = Timestamp::now();
    for session in chosen {
        let age = session.started.map_or_else(String::new, |started| {
            let seconds = now.duration_since(started).as_secs();
            format!(", {} old", ops_profile::instance::age_words(seconds))
        });
        let owner = session.owner_name();
        output.warn_line(if session.target.is_empty() {
            session.id.clone()
        } else {
            format!(
                "{}  {} on {}{age}, {}",
                session.id,
                owner,
                names.label(&session.target),
                session.document
            )
        });
    }
    if !output.may_ask() {
        return Err(refused(
            "there is no terminal to ask on, or asking is forbidden",
        ));
    }
    let question = match chosen.len() {
        1 => Text::from("End this session?"),
        count => Text::from(format!("End these {count} sessions?")),
    };
    let answer = output.confirm(question, Preset::No).await?;
    if answer.is_yes() {
        return Ok(());
    }
    Err(refused(&answer.why_not()))
}

/// A result for each.
fn list_results(chosen: &[SessionRecord], names: &Names, outcomes: &[EndOutcome]) -> List {
    let mut list = record::record_list("SessionEndList", chosen, names, Format::Table, false);
    list.columns = vec![
        Column::new("ID", Column::KEPT),
        Column::new("TARGET", Column::KEPT).shrinking(),
        Column::new("OWNER", 5),
        Column::new("RESULT", Column::KEPT).shrinking(),
    ];
    list.rows = chosen
        .iter()
        .zip(outcomes)
        .map(|(session, outcome)| {
            let plain = |text: &str| (text.to_owned(), Style::Plain);
            let result = match outcome {
                EndOutcome::Ended => ("ended".to_owned(), Style::Good),
                EndOutcome::WasOver => ("was over".to_owned(), Style::Dim),
                EndOutcome::Failed(error) => {
                    let why = error.why().first().map(ToString::to_string);
                    (why.unwrap_or_else(|| error.to_string()), Style::Bad)
                }
            };
            vec![
                plain(&session.id),
                plain(names.label(&session.target)),
                plain(session.owner_name()),
                result,
            ]
        })
        .collect();
    let mut items = list.items.iter_mut().filter_map(Value::as_object_mut);
    for outcome in outcomes {
        if let Some(item) = items.next() {
            add_result(item, outcome);
        }
    }
    list
}

fn add_result(item: &mut Map<String, Value>, outcome: &EndOutcome) {
    let (result, error) = match outcome {
        EndOutcome::Ended => ("ended", Value::Null),
        EndOutcome::WasOver => ("was-over", Value::Null),
        EndOutcome::Failed(error) => (
            "failed",
            json!({"code": error.kind().code(), "message": error.to_string()}),
        ),
    };
    item.insert("result".to_owned(), json!(result));
    item.insert("error".to_owned(), error);
}

/// The error to end with; `None` if all were ended.
fn failure_of_all(chosen: &[SessionRecord], outcomes: Vec<EndOutcome>) -> Option<Error> {
    let count = outcomes.len();
    let mut failed: Vec<(&str, Error)> = chosen
        .iter()
        .zip(outcomes)
        .filter_map(|(session, outcome)| match outcome {
            EndOutcome::Failed(error) => Some((session.id.as_str(), error)),
            EndOutcome::Ended | EndOutcome::WasOver => None,
        })
        .collect();
    if count == 1 {
        return failed.pop().map(|(_, error)| error);
    }
    let first = &failed.first()?.1;
    let is_alike = failed.len() == count && failed.iter().all(|(_, e)| e.kind() == first.kind());
    let kind = if is_alike {
        first.kind()
    } else {
        ErrorKind::Partial
    };
    let mut error = Error::new(
        kind,
        format!("{} of {count} sessions were not ended", failed.len()),
    );
    for (id, failure) in &failed {
        let why = failure.why().first().map(ToString::to_string);
        error = error.caused_by(format!(
            "{id}: {}",
            why.unwrap_or_else(|| failure.to_string())
        ));
    }
    match first.hints().first() {
        Some(hint) => Some(error.hint(hint)),
        None => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mine_are_those_of_the_caller_whatever_the_service_lists() {
        let role = "arn:aws:sts::111122223333:assumed-role/Operator";
        let session = |owner: &str| SessionRecord {
            id: "alice-0a1b2c3d4e5f60718".to_owned(),
            target: "i-0a1b2c3d4e5f60718".to_owned(),
            region: "eu-west-1".to_owned(),
            owner: owner.to_owned(),
            started: None,
            ended: None,
            status: "Connected".to_owned(),
            document: String::new(),
            reason: None,
        };
        let caller = format!("{role}/alice");
        assert!(is_owned_by(&session(&caller), &caller));
        for other in [
            format!("{role}/alice.w"),
            format!("{role}/bob"),
            String::new(),
        ] {
            assert!(!is_owned_by(&session(&other), &caller), "{other}");
        }
    }

    #[test]
    fn ids_of_sessions_are_told_from_names_of_servers() {
        for id in [
            "alice-0a1b2c3d4e5f60718",
            "alice@example.com-0123456789abcdefghij012345",
            "ops-bob-0a1b2c3d4e5f60718",
            "alice-kxqmzvbtnwyhdcfgjrslpaeiou",
        ] {
            assert!(is_session_id(id), "{id}");
        }
        for name in [
            "web-1",
            "i-0a1b2c3d4e5f60718",
            "mi-0a4b5c6d7e8f90123",
            "payments-productionfrontend",
            "-0a1b2c3d4e5f60718",
            "tag:Name=x",
        ] {
            assert!(!is_session_id(name), "{name}");
        }
    }
}
