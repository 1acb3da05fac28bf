//! StartSession, ResumeSession, TerminateSession, DescribeSessions, GetConnectionStatus.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{check_length, document_arn, optional, page_size, page_start, pairs, required};
use crate::{
    agent::is_older,
    app::{App, Call},
    documents,
    ec2::page_token,
    error::ApiError,
    faults::RefuseResume,
    fleet::{Instance, InstanceStateName},
    gateway::{Gateway, Limits, Request, Session, SessionStatus},
    kms,
    objects::object_path,
    session::{SessionKind, SessionSpec},
    session_logs::{self, SessionUpload},
};

/// The first agent that takes ports of remote hosts. Source: the agent's release notes.
const REMOTE_HOSTS_SINCE: &str = "3.1.1188.0";
/// The service's own default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20 * 60);

pub(super) fn start(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let target = check_length(required(input, "Target")?, "Target", 1, 400)?;
    let reason = optional(input, "Reason", 1, 256)?;
    let document = optional(input, "DocumentName", 3, 128)?.unwrap_or(documents::RUN_SHELL);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if !document.chars().all(is_name) {
        return Err(ApiError::validation(format!(
            "1 validation error detected: Value '{document}' at 'documentName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9_\\-.:/]{{3,128}}$"
        )));
    }
    let short = document
        .rsplit_once(":document/")
        .map_or(document, |(_, short)| short);
    // Both are looked at before the target is: a caller without permission does not learn which
    // targets there are. IAM wants the instance and the document allowed.
    app.check_resource(call, "StartSession", target, &instance_arn(call, target))?;
    app.check_resource(call, "StartSession", short, &document_arn(call, short))?;
    if let Some(most) = app.faults().max_parameter {
        documents::check_lengths(input.get("Parameters"), most)?;
    }
    let kind = documents::session_kind(document, input.get("Parameters"), app.fleet.file())?;
    let instance = connected(app, call, target)?;
    let faults = app.faults();
    let file = app.fleet.file();
    let encryption = kms::session_key(app, &instance)
        // Port sessions are never encrypted, whatever the account demands.
        .filter(|_| !matches!(kind, SessionKind::Port { .. }))
        .filter(|_| !faults.kms_skip)
        .map(|key| kms::of_agent(app, call, &instance, key));
    let internal = |_| ApiError::internal(call.service);
    // A fault speaks for all agents. One that has never told its version is taken for a new one.
    let agent_version = faults
        .agent_version
        .clone()
        .or_else(|| instance.agent.as_ref().map(|agent| agent.version.clone()))
        .unwrap_or_default();
    refuse_what_it_cannot(&instance, &agent_version, &kind, faults.standard_tier)?;
    let session_id = Gateway::session_id(&call.identity).map_err(internal)?;
    // Neither tunnels nor SSH have output that an agent could log.
    let is_tunnel = matches!(kind, SessionKind::Port { .. });
    let upload = upload_of(app, call, target, &session_id).filter(|_| !is_tunnel);
    let spec = SessionSpec {
        session_id,
        state: app.states.of(&instance),
        instance,
        network: Arc::clone(&app.network),
        kind,
        pace: app.pace,
        agent_version,
        encryption,
        is_logged: upload.is_some(),
        upload,
        strict: faults.strict,
        late_handshake: faults.late_handshake,
        odd_json: faults.odd_json,
        late_open: faults.late_open,
        customer_message: faults.customer_message.clone(),
        late_plugin: faults.late_plugin,
        slow_dial: faults.slow_dial,
    };
    let request = Request {
        region: call.region.clone(),
        document: document.to_owned(),
        reason: reason.map(str::to_owned),
        owner: call.identity.clone(),
        limits: Limits {
            idle: file
                .session
                .idle_timeout
                .map_or(IDLE_TIMEOUT, |span| span.0),
            duration: file.session.max_duration.map(|span| span.0),
        },
    };
    // From here on the session counts and is listed, whether or not anybody attaches to it.
    let session = app.gateway.start(spec, request);
    let token = session.issue_token().map_err(internal)?;
    Ok(opening(app, &session, &token))
}

/// Where the account has a session logged; `None` where it logs none.
fn upload_of(app: &App, call: &Call, target: &str, session_id: &str) -> Option<SessionUpload> {
    let preferences = &app.fleet.file().session;
    let prefix = preferences.s3_key_prefix.as_deref().unwrap_or_default();
    let key = session_logs::key_of(prefix, session_id);
    let bucket = preferences.s3_bucket_name.as_ref();
    let object = bucket.map(|bucket| object_path(&app.objects, bucket, &key));
    let log_group = preferences.cloud_watch_log_group_name.clone();
    (object.is_some() || log_group.is_some()).then(|| SessionUpload {
        object,
        log_groups: Arc::clone(&app.log_groups),
        log_group,
        is_streamed: preferences.cloud_watch_streaming,
        region: call.region.clone(),
        target: target.to_owned(),
        owner: call.identity.arn.clone(),
        session_id: session_id.to_owned(),
    })
}

/// What the service knows that an agent or a node cannot: it says so before there is a session.
fn refuse_what_it_cannot(
    instance: &Instance,
    agent_version: &str,
    kind: &SessionKind,
    standard_tier: bool,
) -> Result<(), ApiError> {
    if instance.is_hybrid() && standard_tier {
        return Err(ApiError::new(
            "BadRequest",
            "Enable advanced-instances tier to use Session Manager with your on-premises instances",
        ));
    }
    let wants_remote_host =
        matches!(kind, SessionKind::Port { host: Some(host), .. } if host != "localhost");
    if wants_remote_host && is_older(agent_version, REMOTE_HOSTS_SINCE) {
        return Err(ApiError::new(
            "BadRequest",
            "The version of the SSM agent installed on this instance doesn't support port forwarding to remote hosts",
        ));
    }
    Ok(())
}

/// The instance if its agent takes sessions.
fn connected(app: &App, call: &Call, target: &str) -> Result<Arc<Instance>, ApiError> {
    // Whatever looks like an id and is none of ours is `TargetNotConnected`, as at the service,
    // which does not tell apart what does not exist and what is offline.
    let is_id = ["i-", "mi-"].iter().any(|prefix| {
        target.strip_prefix(prefix).is_some_and(|digits| {
            matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    });
    if !is_id && !target.starts_with("ecs:") {
        return Err(ApiError::validation(format!("Invalid target: {target}")));
    }
    app.fleet
        .by_id(target)
        .filter(|instance| instance.region == call.region && instance.is_connected())
        .filter(|instance| instance.is_hybrid() || instance.state() == InstanceStateName::Running)
        .ok_or_else(|| ApiError::new("TargetNotConnected", format!("{target} is not connected.")))
}

pub(super) fn resume(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let session = find(app, call, input, "ResumeSession")?;
    let gone = || {
        ApiError::new(
            "DoesNotExistException",
            format!("Session does not exist: {}", session.id),
        )
    };
    match app.faults().refuse_resume {
        Some(RefuseResume::Gone) => {
            session.terminate();
            return Err(gone());
        }
        // An answer without a token, with which the service says that the session is over; the
        // official client takes it so.
        Some(RefuseResume::TimedOut) => {
            session.terminate();
            return Ok(json!({ "SessionId": session.id }));
        }
        Some(RefuseResume::Errors(count)) if app.counts("resume", &session.id, count) => {
            return Err(ApiError::internal(call.service));
        }
        _ => {}
    }
    // Only after the faults: `refuse-resume` is about sessions that could be resumed.
    if session.is_over() {
        return Err(gone());
    }
    let token = session
        .issue_token()
        .map_err(|_| ApiError::internal(call.service))?;
    Ok(opening(app, &session, &token))
}

pub(super) fn terminate(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let session = find(app, call, input, "TerminateSession")?;
    session.terminate();
    Ok(json!({ "SessionId": session.id }))
}

fn find(app: &App, call: &Call, input: &Value, action: &str) -> Result<Arc<Session>, ApiError> {
    let id = check_length(required(input, "SessionId")?, "SessionId", 1, 96)?;
    let arn = format!(
        "arn:aws:ssm:{}:{}:session/{id}",
        call.region, call.identity.account
    );
    app.check_resource(call, action, id, &arn)?;
    app.gateway
        .session(id)
        .filter(|session| session.region == call.region)
        .ok_or_else(|| {
            ApiError::new(
                "DoesNotExistException",
                format!("Session does not exist: {id}"),
            )
        })
}

fn opening(app: &App, session: &Session, token: &str) -> Value {
    json!({
        "SessionId": session.id,
        "StreamUrl": stream_url(app, &session.id),
        "TokenValue": token,
    })
}

/// With a cell number as nowadays, whose characters must survive as they are.
fn stream_url(app: &App, session_id: &str) -> String {
    let place = app.faults().stream_host.as_ref().map_or_else(
        || format!("ws://{}", app.address),
        |host| format!("wss://{host}"),
    );
    format!(
        "{place}/v1/data-channel/{session_id}?role=publish_subscribe&cell-number=AAEAAc4+sandbox+0f7b2c9d1e3a5f6b=="
    )
}

pub(super) fn connection_status(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let target = check_length(required(input, "Target")?, "Target", 1, 400)?;
    let is_connected = app
        .fleet
        .by_id(target)
        .is_some_and(|instance| instance.region == call.region && instance.is_connected());
    let status = if is_connected {
        "connected"
    } else {
        "notconnected"
    };
    Ok(json!({ "Target": target, "Status": status }))
}

pub(super) fn describe(app: &App, call: &Call, input: &Value) -> Result<Value, ApiError> {
    let wants_active = match required(input, "State")? {
        "Active" => true,
        "History" => false,
        other => {
            return Err(ApiError::validation(format!(
                "1 validation error detected: Value '{other}' at 'state' failed to satisfy constraint: Member must satisfy enum value set: [Active, History]"
            )));
        }
    };
    let filters = pairs(input, "Filters", "key", "value")?;
    for (name, _) in &filters {
        if ![
            "InvokedAfter",
            "InvokedBefore",
            "Target",
            "Owner",
            "Status",
            "SessionId",
            "AccessType",
        ]
        .contains(name)
        {
            return Err(ApiError::new(
                "InvalidFilterKey",
                format!("The specified key isn't valid: {name}"),
            ));
        }
    }
    let (start, count) = (page_start(input)?, page_size(input, 1, 200)?);
    let matching: Vec<Arc<Session>> = app
        .gateway
        .sessions()
        .into_iter()
        .filter(|session| {
            session.region == call.region
                && (session.status() == SessionStatus::Terminated) != wants_active
                && filters
                    .iter()
                    .all(|(name, values)| values.iter().any(|value| matches(session, name, value)))
        })
        .collect();
    let page: Vec<Value> = matching
        .iter()
        .skip(start)
        .take(count)
        .map(|session| body(session))
        .collect();
    let mut output = json!({ "Sessions": page });
    if start.saturating_add(count) < matching.len() {
        output["NextToken"] = json!(page_token(start + count));
    }
    Ok(output)
}

fn matches(session: &Session, name: &str, value: &str) -> bool {
    let time = || value.parse::<Timestamp>().ok();
    match name {
        "InvokedAfter" => time().is_some_and(|time| session.started >= time),
        "InvokedBefore" => time().is_some_and(|time| session.started < time),
        "Target" => session.target == value,
        "Owner" => session.owner.arn == value,
        "Status" => session.status().name().eq_ignore_ascii_case(value),
        "SessionId" => session.id == value,
        _ => value.eq_ignore_ascii_case("Standard"),
    }
}

fn body(session: &Session) -> Value {
    let seconds = |time: Timestamp| time.as_duration().as_secs_f64();
    let mut body = json!({
        "SessionId": session.id,
        "Target": session.target,
        "Status": session.status().name(),
        "StartDate": seconds(session.started),
        "DocumentName": session.document,
        "Owner": session.owner.arn,
        "OutputUrl": {},
        "AccessType": "Standard",
    });
    if let Some(ended) = session.ended() {
        body["EndDate"] = json!(seconds(ended));
    }
    if let Some(reason) = &session.reason {
        body["Reason"] = json!(reason);
    }
    if let Some(most) = session.limits.duration {
        body["MaxSessionDuration"] = json!((most.as_secs() / 60).to_string());
    }
    body
}

fn instance_arn(call: &Call, id: &str) -> String {
    let (service, kind) = if id.starts_with("mi-") {
        ("ssm", "managed-instance")
    } else {
        ("ec2", "instance")
    };
    format!(
        "arn:aws:{service}:{}:{}:{kind}/{id}",
        call.region, call.identity.account
    )
}
