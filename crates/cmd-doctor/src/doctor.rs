//! `ops doctor`

use std::path::PathBuf;

use ops_core::{
    Command, Context, Values,
    diagnosis::{Permissions, Verdict, meanings_of_preferences},
};
use ops_profile::{Instance, Target};
use ops_ui::{Error, ErrorKind, Exit, Result};
use tokio::sync::OnceCell;

use crate::{
    bundle,
    finding::{Finding, Outcome},
    machine::{self, Machine},
    report::Report,
    server::{Denied, Server},
};

/// Find out why a server cannot be reached
///
/// Looks at this machine (settings, credentials, clock, the way to AWS), at what the caller is
/// allowed, at the server (state, agent, role, network) and at the account's session preferences,
/// then opens a session and ends it. Each check is ok, warn, fail or skipped, with what to do.
/// Without a server it looks at this machine and the account alone.
///
/// Ends with 0 where nothing fails, with 7 where a server is there and cannot be reached, else
/// with 1.
#[derive(clap::Args, Debug)]
pub struct Doctor {
    /// Id, Name, tag:Key=Value, IP or DNS name
    #[arg(value_name = "TARGET")]
    targets: Vec<Target>,
    /// Open no session
    #[arg(long)]
    no_session: bool,
    /// Why, for the session's history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Write all of it to FILE for a bug report
    ///
    /// Account ids, names, addresses and secrets have stand-ins in it. What goes in is shown before
    /// it is written.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    bundle: Option<PathBuf>,
}

impl Command for Doctor {
    const NAME: &'static str = "doctor";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops doctor web-1", "why web-1 cannot be reached"),
        (
            "ops doctor",
            "this machine, its credentials and permissions",
        ),
        ("ops doctor web-1 --no-session -o json", "for a script"),
        (
            "ops doctor web-1 --bundle report.txt",
            "for a bug report, without names and addresses",
        ),
    ];
    const COMPLETES: &'static [(&'static str, Values)] = &[("targets", Values::Target)];

    async fn run(self, cx: Context) -> Result<Exit> {
        let report = Report::new(cx.output(), self.targets.len());
        match machine::configuration(&cx) {
            Ok(finding) => report.add(finding),
            Err(error) => {
                report.add(Finding::of_error("configuration", &error));
                return report.finish();
            }
        }
        let spinner = cx.output().spinner("looking");
        Box::pin(self.look(&cx, &report)).await?;
        drop(spinner);
        let exit = report.finish()?;
        if let Some(file) = &self.bundle {
            Box::pin(bundle::write(&cx, &report, file)).await?;
        }
        Ok(exit)
    }
}

impl Doctor {
    /// This machine, every server and the account, side by side.
    async fn look(&self, cx: &Context, report: &Report<'_>) -> Result<()> {
        // Servers are looked at while this machine is; only what they cannot explain themselves
        // waits for it.
        let machine: OnceCell<Machine> = OnceCell::new();
        let known = || machine.get_or_init(|| Box::pin(machine::look(cx, report)));
        let servers = futures_util::future::join_all(
            self.targets
                .iter()
                .map(|target| Box::pin(self.look_at(cx, report, target, &known))),
        );
        let (_, servers) = tokio::join!(known(), servers);
        let mut denied = Denied::new();
        let mut first = None;
        let mut unsimulated = None;
        for looked in servers {
            denied.extend(looked.denied);
            first = first.or(looked.instance);
            unsimulated = unsimulated.or(looked.unsimulated);
        }
        if known().await.is_unfit() {
            for check in ["permissions", "preferences"] {
                report.add(Finding::skipped(check, "AWS cannot be asked from here"));
            }
            return Ok(());
        }
        // Of a server that is there the simulator was asked already.
        match (&first, unsimulated) {
            (Some(_), Some(error)) => {
                tell_tried(cx, report, first.as_ref(), denied, &error).await;
            }
            (Some(_), None) => {}
            (None, _) => {
                tokio::join!(
                    Box::pin(tell_permissions(cx, report, denied)),
                    Box::pin(tell_preferences(cx, report, None))
                );
            }
        }
        Ok(())
    }

    /// One server.
    async fn look_at<'a, M: Future<Output = &'a Machine>>(
        &self,
        cx: &Context,
        report: &Report<'_>,
        target: &Target,
        machine: impl Fn() -> M,
    ) -> Looked {
        report.note_names([target.as_str()]);
        let server = Server {
            cx,
            report,
            target,
            opens_session: !self.no_session,
            reason: self.reason.as_deref(),
        };
        let mut denied = Denied::new();
        // Where this machine is unfit, the list of servers would be waited for in vain.
        let found = {
            let unfit = async {
                match machine().await.is_unfit() {
                    true => {}
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                found = Box::pin(server.find(&mut denied)) => found,
                () = unfit => Err(Error::unexpected("AWS cannot be asked from here")),
            }
        };
        match found {
            Ok(instance) => {
                if !self.no_session
                    && let Err(error) = cx
                        .guard(
                            Self::NAME,
                            std::slice::from_ref(&instance),
                            self.reason.as_deref(),
                        )
                        .await
                    && error.kind() != ErrorKind::Refused
                {
                    report.add(Finding::of_error("found", &error).about(target.as_str()));
                }
                let ((), (), simulated) = tokio::join!(
                    Box::pin(server.look(&instance, &mut denied)),
                    Box::pin(tell_preferences(cx, report, Some(&instance))),
                    Box::pin(tell_simulated(cx, report, &instance))
                );
                Looked {
                    instance: Some(instance),
                    denied,
                    unsimulated: simulated.err(),
                }
            }
            Err(error) => {
                Box::pin(server.not_found(&error, machine().await)).await;
                Looked {
                    instance: None,
                    denied,
                    unsimulated: None,
                }
            }
        }
    }
}

/// What came of looking at one server.
struct Looked {
    /// The server, where it is there.
    instance: Option<Instance>,
    /// Calls that a session needs and that were denied.
    denied: Denied,
    /// Why the policy simulator has told nothing; `None` where it has, or was not asked.
    unsimulated: Option<Error>,
}

/// What the caller is allowed by the policy simulator on a server.
///
/// # Errors
/// It may not be asked, or does not answer: nothing is told.
async fn tell_simulated(cx: &Context, report: &Report<'_>, instance: &Instance) -> Result<()> {
    let permissions = cx.permissions(Some(instance), &instance.region).await?;
    report.add_policy(&permissions, &instance.region);
    report.add(permissions_finding(&permissions));
    Ok(())
}

/// What the caller is allowed, without a server.
async fn tell_permissions(cx: &Context, report: &Report<'_>, denied: Denied) {
    let Ok(region) = cx.region().await else {
        return;
    };
    match cx.permissions(None, &region).await {
        Ok(permissions) => {
            report.add_policy(&permissions, &region);
            report.add(permissions_finding(&permissions));
        }
        Err(error) => tell_tried(cx, report, None, denied, &error).await,
    }
}

/// What was tried and denied, where the policy simulator told nothing because of `error`.
async fn tell_tried(
    cx: &Context,
    report: &Report<'_>,
    instance: Option<&Instance>,
    denied: Denied,
    error: &Error,
) {
    // Of several servers one may have been simulated and another not.
    if report
        .findings()
        .iter()
        .any(|finding| finding.check == "permissions")
    {
        return;
    }
    let Ok(region) = cx.region().await else {
        return;
    };
    let region = instance.map_or(region, |instance| instance.region.clone());
    if denied.is_empty() {
        let text = untold_permissions(report, error);
        report.add(Finding::skipped("permissions", text));
        return;
    }
    let permissions = Permissions::of_tries(denied);
    report.add_policy(&permissions, &region);
    report.add(permissions_finding(&permissions));
}

/// Where neither the simulator nor a call that a session needs tells anything. What doctor asks
/// beside may be denied all the same.
fn untold_permissions(report: &Report<'_>, error: &Error) -> String {
    let simulator = match error.kind() {
        ErrorKind::Denied => "iam:SimulatePrincipalPolicy is not allowed".to_owned(),
        _ => format!("the policy simulator tells nothing ({})", error.what()),
    };
    let mut denied: Vec<&str> = report
        .findings()
        .iter()
        .filter(|finding| finding.is_denied)
        .map(|finding| finding.check)
        .collect();
    denied.dedup();
    let rest = match denied.is_empty() {
        true => String::new(),
        false => format!("; denied was what these checks ask: {}", denied.join(", ")),
    };
    format!("{simulator}; of what was tried here, nothing that a session needs was denied{rest}")
}

fn permissions_finding(permissions: &Permissions) -> Finding {
    let missing: Vec<String> = permissions
        .missing()
        .map(|missing| format!("`{}` on `{}`", missing.action, missing.resource))
        .collect();
    let needs_documents = match permissions.checks_documents {
        true => "; policies check the document of each session (ssm:SessionDocumentAccessCheck)",
        false => "",
    };
    let optional = match permissions.optional.as_slice() {
        [] => String::new(),
        some => {
            let some: Vec<String> = some
                .iter()
                .map(|(action, what_for)| format!("`{action}` ({what_for})"))
                .collect();
            format!(
                "; not allowed, and needed by these alone: {}",
                some.join(", ")
            )
        }
    };
    if missing.is_empty() {
        return Finding::ok(
            "permissions",
            format!("everything that sessions need is allowed{needs_documents}{optional}"),
        );
    }
    let text = format!("missing: {}{needs_documents}{optional}", missing.join(", "));
    let needed: Vec<_> = permissions.missing().filter(|m| m.is_needed).collect();
    let Some(first) = needed.first() else {
        return Finding::warn("permissions", text)
            .with_remedy("some verbs do not work; the policy below allows them");
    };
    let mut finding = Finding::warn("permissions", text);
    finding.outcome = Outcome::Fail;
    if permissions.is_just_in_time {
        return finding.caused_by("just-in-time").with_remedy(
            "ask for access in the console: Systems Manager, Just-in-time node access",
        );
    }
    if needed
        .iter()
        .any(|missing| missing.verdict == Verdict::Forbidden)
    {
        return finding
            .caused_by("denied-above")
            .with_remedy("ask whoever keeps the policies of the organisation");
    }
    let is_of_document = first.resource.contains(":document/");
    finding
        .caused_by(match is_of_document {
            true => "document-denied",
            false => "denied",
        })
        .with_remedy("have the policy below added to the caller's")
}

/// The account's session preferences, and what they mean.
async fn tell_preferences(cx: &Context, report: &Report<'_>, instance: Option<&Instance>) {
    let region = match instance {
        Some(instance) => instance.region.clone(),
        None => match cx.region().await {
            Ok(region) => region,
            Err(_) => return,
        },
    };
    // Several servers of a region have one account.
    if report
        .findings()
        .iter()
        .any(|finding| finding.check == "preferences")
    {
        return;
    }
    report.add(match cx.account_preferences(&region).await {
        Ok(preferences) => {
            let meanings = meanings_of_preferences(&preferences);
            Finding::ok(
                "preferences",
                match meanings.is_empty() {
                    true => "all as AWS has them".to_owned(),
                    false => meanings.join("; "),
                },
            )
        }
        Err(error) => Finding::untold("preferences", &error),
    });
}
