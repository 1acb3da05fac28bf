//! The checks of one server, and of the account as far as it concerns its sessions.

use std::time::Duration;

use ops_core::{
    Choice, Context, Document, Query,
    diagnosis::{self, AgentReport, Facts, Learned, explain_all},
    iam,
};
use ops_profile::{Instance, InstanceState, Kind, Ping, Target};
use ops_ui::{Error, ErrorKind, hint};

use crate::{
    finding::{Finding, Outcome},
    machine::Machine,
    report::Report,
    session,
};

const START: &str = "ssm:StartSession";
/// For each question whose answer is welcome and not needed.
const WELCOME: Duration = Duration::from_secs(5);

/// One server and the place of its findings.
pub(crate) struct Server<'a> {
    pub(crate) cx: &'a Context,
    pub(crate) report: &'a Report<'a>,
    pub(crate) target: &'a Target,
    /// Whether a session is opened, and why.
    pub(crate) opens_session: bool,
    pub(crate) reason: Option<&'a str>,
}

/// What was tried and denied: an action and its resource.
pub(crate) type Denied = Vec<(&'static str, String)>;

impl Server<'_> {
    fn add(&self, finding: Finding) {
        self.report.add(finding.about(self.target.as_str()));
    }

    /// Finds the server; says why there is none.
    pub(crate) async fn find(&self, denied: &mut Denied) -> Result<Instance, Error> {
        let found = Box::pin(self.cx.resolve_now(self.target, Choice::Ask)).await;
        if let Err(error) = &found
            && error.kind() == ErrorKind::Denied
        {
            denied.push(("ec2:DescribeInstances", "*".to_owned()));
        }
        match found {
            Err(error) if error.kind() == ErrorKind::Unreachable => self.in_any_state(error).await,
            found => found,
        }
    }

    /// The one server of that name that does not run; else `error`.
    async fn in_any_state(&self, error: Error) -> Result<Instance, Error> {
        let mut query = Query::of(self.cx.profile()?);
        query.states.clear();
        query.add(self.target);
        let regions = self.cx.regions_of(self.target).await?;
        let mut found = Box::pin(self.cx.list(&query, &regions)).await?.instances;
        match (found.pop(), found.is_empty()) {
            (Some(instance), true) => Ok(instance),
            _ => Err(error),
        }
    }

    /// Tells why the server is not found: it may be in another region.
    pub(crate) async fn not_found(&self, error: &Error, machine: &Machine) {
        if machine.is_unfit() {
            self.add(Finding::skipped("found", "AWS cannot be asked from here"));
            return;
        }
        if error.kind() != ErrorKind::NotFound {
            self.add(Finding::of_error("found", error));
            return;
        }
        if let Some(elsewhere) = Box::pin(self.elsewhere()).await {
            let text = format!(
                "{} is called `{}` in region `{}`, where it was not looked for",
                elsewhere.id,
                elsewhere.label(),
                elsewhere.region
            );
            let mut finding = Finding::of_error("found", error).caused_by("other-region");
            finding.text = text.into();
            finding.remedies = vec![hint!(
                "name its region: ops --region {} doctor {}",
                elsewhere.region.as_str(),
                self.target.as_str()
            )];
            self.add(finding);
            return;
        }
        self.add(Finding::of_error("found", error).caused_by("not-found"));
    }

    /// The server in a region where it was not looked for.
    async fn elsewhere(&self) -> Option<Instance> {
        let here = self.cx.regions_of(self.target).await.ok()?;
        let mut others = self.cx.all_regions().await.ok()?;
        others.retain(|region| !here.contains(region));
        let mut query = Query::of(self.cx.profile().ok()?);
        query.states.clear();
        query.add(self.target);
        let listing = Box::pin(self.cx.list(&query, &others)).await.ok()?;
        listing
            .instances
            .into_iter()
            .find(|instance| instance.state != InstanceState::Terminated)
    }

    /// Everything that is known of `instance`, the session last where one is opened.
    pub(crate) async fn look(&self, instance: &Instance, denied: &mut Denied) {
        let cx = self.cx;
        let names: Vec<&str> = instance.full_names().collect();
        self.report.note_names(names.iter().copied());
        self.report
            .note_names(instance.tags.values().map(String::as_str));
        self.add(Finding::ok(
            "found",
            format!(
                "{} in {}{}",
                instance.id,
                instance.zone.as_deref().unwrap_or(&instance.region),
                match names.is_empty() {
                    true => String::new(),
                    false => format!(", called {}", names.join(", ")),
                }
            ),
        ));
        let mut facts = Facts::of(instance);
        let is_running = matches!(
            instance.state,
            InstanceState::Running | InstanceState::Pending
        );
        self.add(Finding::by_rules("state", &facts, || {
            Finding::ok("state", instance.state.as_str())
        }));
        let (ec2, agent) = tokio::join!(
            async {
                match instance.kind {
                    Kind::Ec2 => Learned::from(Box::pin(cx.ec2_machine(instance)).await),
                    Kind::Hybrid => Learned::Unasked,
                }
            },
            Box::pin(cx.agent_report(instance))
        );
        facts.ec2 = ec2;
        facts.agent = agent.into();
        if let Some(error) = facts.agent.refusal()
            && error.kind() == ErrorKind::Denied
        {
            denied.push(("ssm:DescribeInstanceInformation", "*".to_owned()));
        }
        let answers = facts.ping() == Ping::Online;
        let is_worth_a_try = is_running && (answers || facts.agent.known().is_none());
        // A session takes a second; what else is asked of a server that answers fits into it.
        let session = async {
            match self.opens_session {
                true if is_worth_a_try => {
                    let reason = self.reason.map(str::to_owned);
                    Some(Box::pin(session::check(cx, instance, reason)).await)
                }
                _ => None,
            }
        };
        let ((), opened) = tokio::join!(
            Box::pin(self.look_around(instance, &mut facts, answers)),
            session
        );
        let role = facts.role.known().map(|role| role.name.as_str());
        self.report.note_names(role);
        self.tell_agent(instance, &facts);
        self.tell_role(instance, &facts);
        if !answers && is_running {
            self.tell_network(instance, &facts);
            self.tell_console(instance, &facts);
        }
        match opened {
            Some((finding, error)) => {
                let account = cx
                    .identity()
                    .await
                    .map_or("*", |identity| &identity.account);
                let region = &instance.region;
                match error.as_ref().and_then(Error::cause) {
                    Some("document-denied") => denied.push((
                        START,
                        iam::document_arn(region, account, Document::shell().name()),
                    )),
                    Some("denied" | "denied-above" | "just-in-time") => {
                        denied.push((START, iam::instance_arn(instance, account)));
                    }
                    _ => {}
                }
                self.add(finding);
            }
            None => {
                let why = match (self.opens_session, is_running) {
                    (false, _) => "--no-session",
                    (_, false) => "the server does not run",
                    _ => "its agent does not answer",
                };
                self.add(Finding::skipped("session", why));
            }
        }
    }

    /// Asks for what stands around the server: always its role; what leads out of its subnet, its
    /// console and its activation where its agent is silent.
    async fn look_around(&self, instance: &Instance, facts: &mut Facts, answers: bool) {
        let cx = self.cx;
        let machine = facts.ec2.known().cloned();
        let profile = machine.as_ref().and_then(|m| m.instance_profile.clone());
        let is_ec2 = instance.kind == Kind::Ec2;
        let activation = facts
            .agent
            .known()
            .and_then(|agent| agent.activation.clone());
        let role = async {
            match &profile {
                Some(profile) => soon(Box::pin(cx.role_reach(profile))).await,
                None => Learned::Unasked,
            }
        };
        let default_role = async {
            match profile.is_none() && is_ec2 {
                true => soon(Box::pin(cx.default_host_role(&instance.region))).await,
                false => Learned::Unasked,
            }
        };
        let way_out = async {
            match machine.as_ref().filter(|_| !answers) {
                Some(machine) => soon(Box::pin(cx.way_out(machine, &instance.region))).await,
                None => Learned::Unasked,
            }
        };
        let console = async {
            match !answers && is_ec2 {
                true => soon(Box::pin(cx.console_of_agent(instance))).await,
                false => Learned::Unasked,
            }
        };
        let expired = async {
            match activation.filter(|_| !answers) {
                Some(id) => soon(Box::pin(cx.activation_expired(&id, &instance.region))).await,
                None => Learned::Unasked,
            }
        };
        (
            facts.role,
            facts.default_role,
            facts.way_out,
            facts.console,
            facts.activation_expired,
        ) = tokio::join!(role, default_role, way_out, console, expired);
    }

    fn tell_agent(&self, instance: &Instance, facts: &Facts) {
        if let Some(error) = facts.agent.refusal() {
            self.add(Finding::untold("agent", error));
            return;
        }
        // One that does not run is not expected to have an agent that answers.
        let is_off = !explain_all("state", facts).is_empty();
        if is_off {
            self.add(Finding::skipped("agent", "the server does not run"));
            return;
        }
        let causes = explain_all("agent", facts);
        // A cause that is found elsewhere is the better one: an agent is silent for a reason.
        let is_explained = ["role", "network"]
            .iter()
            .any(|check| !explain_all(check, facts).is_empty());
        match (causes.into_iter().next(), facts.agent.known()) {
            (Some(told), _) => {
                let is_vague = matches!(
                    told.cause,
                    "agent-silent" | "never-reported" | "just-launched" | "no-agent"
                );
                let mut finding = Finding::fail("agent", told);
                if is_vague && is_explained {
                    finding.text = diagnosis::silence(facts).into();
                    finding.cause = None;
                    finding.remedies.clear();
                }
                self.add(finding);
            }
            (None, Some(agent)) => self.add(agent_finding(instance, agent)),
            (None, None) => self.add(Finding::skipped("agent", "nobody was asked")),
        }
    }

    fn tell_role(&self, instance: &Instance, facts: &Facts) {
        if instance.kind == Kind::Hybrid {
            return;
        }
        self.add(Finding::by_rules("role", facts, || {
            let machine = match &facts.ec2 {
                Learned::Is(machine) => machine,
                Learned::Untold(error) => return Finding::untold("role", error),
                Learned::Unasked => return Finding::skipped("role", "nobody was asked"),
            };
            let Some(profile) = &machine.instance_profile else {
                let text = match facts.default_role.known() {
                    Some(Some(role)) => format!(
                        "no instance profile; Default Host Management gives it `{role}` (agents from 3.2.582.0, IMDSv2)"
                    ),
                    _ => "no instance profile; whatever its agent has its permissions from, it works".to_owned(),
                };
                return Finding::ok("role", text);
            };
            match &facts.role {
                Learned::Is(role) => Finding::ok(
                    "role",
                    match (&role.missing, &role.policies) {
                        (Some(_), _) => format!("`{}` has what an agent needs", role.name),
                        (None, Some(policies)) => {
                            format!("`{}` has {}", role.name, policies.join(", "))
                        }
                        (None, None) => format!("`{}`; its policies may not be read", role.name),
                    },
                ),
                Learned::Untold(error) => {
                    let mut finding = Finding::untold("role", error);
                    finding.text = format!("{profile} is attached; {}", finding.text).into();
                    finding
                }
                Learned::Unasked => Finding::ok("role", profile.clone()),
            }
        }));
    }

    fn tell_network(&self, instance: &Instance, facts: &Facts) {
        if instance.kind == Kind::Hybrid {
            return;
        }
        self.add(Finding::by_rules("network", facts, || {
            match &facts.way_out {
                Learned::Is(way) => {
                    let route = way.default_route.as_deref().unwrap_or("none");
                    let mut text = format!("default route: {route}");
                    if !way.endpoints.is_empty() {
                        text.push_str(&format!("; endpoints: {}", way.endpoints.join(", ")));
                    }
                    if way.lets_https_out.is_none() {
                        text.push_str("; security groups may not be read");
                    }
                    Finding::ok("network", text)
                }
                Learned::Untold(error) => Finding::untold("network", error),
                Learned::Unasked => Finding::skipped("network", "its subnet is not known"),
            }
        }));
    }

    fn tell_console(&self, instance: &Instance, facts: &Facts) {
        if instance.kind == Kind::Hybrid {
            return;
        }
        self.add(match &facts.console {
            Learned::Is(lines) => Finding::ok(
                "console",
                match lines.is_empty() {
                    true => "shows no start of an agent".to_owned(),
                    false => lines.join("; "),
                },
            ),
            Learned::Untold(error) => Finding::untold("console", error),
            Learned::Unasked => Finding::skipped("console", "nobody was asked"),
        });
    }
}

/// The answer to a question that is welcome and that nobody waits for long.
async fn soon<T>(asking: impl Future<Output = ops_ui::Result<T>>) -> Learned<T> {
    match tokio::time::timeout(WELCOME, asking).await {
        Ok(answer) => answer.into(),
        Err(_) => Learned::Untold(
            Error::new(ErrorKind::Timeout, "not answered")
                .caused_by(format!("it took longer than {WELCOME:?}")),
        ),
    }
}

/// An agent that answers: its version, and what it is too old for.
fn agent_finding(instance: &Instance, agent: &AgentReport) -> Finding {
    let version = agent.version.as_deref().unwrap_or("of an unknown version");
    let platform = agent.platform.as_deref().unwrap_or("an unknown platform");
    let text = format!("{version} on {platform}, online");
    let lacks = diagnosis::too_old_for(version);
    if lacks.is_empty() {
        return match diagnosis::keeps_output(version) {
            true => Finding::ok(
                "agent",
                format!("{text}; before 3.3.987.0 agents keep what sessions print on the disk"),
            ),
            false => Finding::ok("agent", text),
        };
    }
    let mut finding = Finding::warn("agent", format!("{text}; too old for {}", lacks.join(", ")));
    finding.outcome = Outcome::Warn;
    finding.with_remedy(diagnosis::update_agent(instance))
}
