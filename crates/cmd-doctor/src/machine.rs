//! The checks of this machine: its way to AWS, its clock, its credentials, the region.

use std::time::Duration;

use ops_core::{
    Context,
    diagnosis::{CredentialsFound, EndpointLook, Facts, explain_all, is_skew_fatal},
};
use ops_ui::{Error, ErrorKind, Result};

use crate::{finding::Finding, report::Report};

/// For what is asked of AWS once it is known that it is not reached.
const GRACE: Duration = Duration::from_millis(300);

/// What later checks need to know of this machine.
pub(crate) struct Machine {
    pub(crate) facts: Facts,
    pub(crate) credentials: Result<CredentialsFound>,
}

impl Machine {
    /// Why nothing can be asked, where that is so.
    pub(crate) fn is_unfit(&self) -> bool {
        self.credentials.is_err() || consequence(&self.facts).is_some()
    }
}

/// Everything at once: none of it waits for another.
pub(crate) async fn look(cx: &Context, report: &Report<'_>) -> Machine {
    let mut facts = Facts::none();
    // Calls of the SDK are repeated for ten seconds where nothing answers, and what is in their way
    // is known long before.
    let (told, is_told) = tokio::sync::oneshot::channel();
    let endpoints = async {
        let mut seen = Facts::none();
        match Box::pin(cx.look_at_endpoints()).await {
            Ok((looks, ahead)) => {
                seen.endpoints = looks;
                seen.clock_ahead = ahead;
                report.add(endpoints_finding(&seen));
                report.add(clock_finding(&seen));
            }
            Err(error) => report.add(Finding::of_error("endpoints", &error)),
        }
        let _ = told.send(consequence(&seen).is_some());
        seen
    };
    let calls = async {
        tokio::join!(
            Box::pin(cx.region_status()),
            Box::pin(cx.find_credentials())
        )
    };
    let calls = async {
        tokio::select! {
            answers = calls => answers,
            () = in_vain(is_told) => (Err(given_up()), Err(given_up())),
        }
    };
    let (seen, (region, credentials)) = tokio::join!(endpoints, calls);
    facts.endpoints = seen.endpoints;
    facts.clock_ahead = seen.clock_ahead;
    facts.region = region.into();
    report.add(region_finding(&facts));
    report.add(credentials_finding(&facts, &credentials));
    Machine { facts, credentials }
}

/// Ends once nothing that is asked has an answer to come, and a moment has passed in which what
/// needs no network, such as a login that has ended, has told so.
async fn in_vain(is_told: tokio::sync::oneshot::Receiver<bool>) {
    match is_told.await {
        Ok(true) => tokio::time::sleep(GRACE).await,
        _ => std::future::pending().await,
    }
}

fn given_up() -> Error {
    Error::unexpected("AWS was not asked any longer")
}

/// The settings of this program, which every other check needs.
///
/// # Errors
/// They are wrong.
pub(crate) fn configuration(cx: &Context) -> Result<Finding> {
    let settings = cx.settings()?;
    let text = match &settings.profile.value {
        Some(name) => format!("the files of ops are valid; team profile `{name}`"),
        None => "the files of ops are valid; no team profile".to_owned(),
    };
    Ok(Finding::ok("configuration", text))
}

fn endpoints_finding(facts: &Facts) -> Finding {
    Finding::by_rules("endpoints", facts, || {
        let shown: Vec<String> = facts.endpoints.iter().map(times_of).collect();
        let text = shown.join(", ");
        let slowest = facts.endpoints.iter().map(EndpointLook::total).max();
        let inspected = facts.endpoints.iter().find(|look| look.is_inspected());
        let finding = match inspected.and_then(|look| look.issuer.as_ref()) {
            Some(issuer) => Finding::warn(
                "endpoints",
                format!("{text}; TLS is inspected by `{issuer}`, which this machine trusts"),
            ),
            None => Finding::ok("endpoints", text),
        };
        finding.took(slowest.unwrap_or_default())
    })
}

/// `ec2 41 ms (dns 2, tcp 12, tls 27)`; what is not there is left out.
fn times_of(look: &EndpointLook) -> String {
    let parts: Vec<String> = ["dns", "tcp", "tls"]
        .iter()
        .zip(look.times)
        .filter_map(|(step, time)| Some(format!("{step} {}", time?.as_millis())))
        .collect();
    let by = look
        .proxy
        .as_ref()
        .map_or_else(String::new, |proxy| format!(" by way of {proxy}"));
    format!(
        "{} {} ms ({}){by}",
        look.service,
        look.total().as_millis(),
        parts.join(", ")
    )
}

fn clock_finding(facts: &Facts) -> Finding {
    let Some(ahead) = facts.clock_ahead else {
        return Finding::skipped("clock", "no answer told the time");
    };
    match explain_all("clock", facts).into_iter().next() {
        Some(told) if is_skew_fatal(facts) => Finding::fail("clock", told),
        Some(told) => Finding::warn("clock", told.text).with_remedy(told.remedy),
        None => Finding::ok(
            "clock",
            format!("within {} s of AWS's", ahead.as_secs().abs().max(1)),
        ),
    }
}

/// Which check of this machine explains that AWS refuses or does not hear anything.
fn consequence(facts: &Facts) -> Option<&'static str> {
    if !explain_all("endpoints", facts).is_empty() {
        return Some("endpoints");
    }
    if is_skew_fatal(facts) {
        return Some("clock");
    }
    (!explain_all("region", facts).is_empty()).then_some("region")
}

fn region_finding(facts: &Facts) -> Finding {
    Finding::by_rules("region", facts, || match facts.region.known() {
        Some(region) => Finding::ok("region", format!("`{}`, enabled", region.name)),
        None => match facts.region.refusal() {
            Some(_) if !explain_all("endpoints", facts).is_empty() || is_skew_fatal(facts) => {
                Finding::skipped("region", "AWS cannot be asked")
            }
            Some(error) if error.kind() == ErrorKind::Usage => Finding::of_error("region", error),
            Some(error) => Finding::untold("region", error),
            None => Finding::skipped("region", "nobody was asked"),
        },
    })
}

fn credentials_finding(facts: &Facts, credentials: &Result<CredentialsFound>) -> Finding {
    match credentials {
        Ok(found) => {
            let until = match found.expires {
                Some(end) => format!("until {end:.0}"),
                None => "without an end".to_owned(),
            };
            Finding::ok(
                "credentials",
                format!(
                    "{} in account {}, from {}, {until}",
                    found.identity.arn, found.identity.account, found.source
                ),
            )
        }
        Err(error) => match consequence(facts) {
            // A login that has ended has ended, whatever else is wrong.
            Some(check) if !is_about_login(error) => Finding::skipped(
                "credentials",
                format!("AWS cannot be asked: see the check `{check}`"),
            ),
            _ => named_failure(error),
        },
    }
}

fn is_about_login(error: &Error) -> bool {
    matches!(error.cause(), Some("login-expired" | "wrong-account"))
}

fn named_failure(error: &Error) -> Finding {
    let finding = Finding::of_error("credentials", error);
    match (finding.cause, error.kind()) {
        (None, ErrorKind::NotLoggedIn) => finding.caused_by("no-credentials"),
        _ => finding,
    }
}
