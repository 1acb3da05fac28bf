//! The listener: one loopback port for all services, the gateway and the admin requests.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    admin,
    app::{App, Call},
    cloudwatch_logs, connect, ec2,
    error::ApiError,
    faults::RefuseDial,
    federation,
    gateway::accept_key,
    iam, kms, log, reply,
    reply::{Body, Reply},
    resource_groups, s3,
    service::Service,
    sigv4::{Claim, EMPTY_SHA256, Plus, Refusal, sha256_hex},
    ssm, sso, sts,
    xml::Form,
};

/// Bodies of API calls; the largest that AWS takes here is far smaller.
const BODY_BOUND_BYTES: usize = 1 << 20;
/// How long a connection may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What the signer of the upgrade calls the gateway.
const GATEWAY_SERVICE: &str = "ssmmessages";
const DATA_CHANNEL: &str = "/v1/data-channel/";

/// Answers until the sandbox stops.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = app.cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let app = Arc::clone(&app);
                tokio::spawn(converse(app, stream));
            }
            Err(error) => {
                // Out of descriptors, most likely: give some time to come back.
                tracing::debug!(%error, "no connection accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(app: Arc<App>, stream: TcpStream) {
    let cancel = app.cancel.clone();
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(respond(app, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        () = cancel.cancelled() => {}
        result = connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended");
            }
        }
    }
}

async fn respond(app: Arc<App>, request: http::Request<Incoming>) -> http::Response<Body> {
    let app = &app;
    let request_id = uuid::Uuid::new_v4().to_string();
    let path = request.uri().path();
    let reply = if path.starts_with(admin::PREFIX) {
        let (parts, body) = request.into_parts();
        match read(body).await {
            Ok(body) => admin::answer(app, &parts, &body),
            Err(_) => Reply::empty(StatusCode::PAYLOAD_TOO_LARGE),
        }
    } else if path == federation::PATH {
        let (parts, body) = request.into_parts();
        match read(body).await {
            Ok(body) => federation::answer(app, &parts, &body, &request_id),
            Err(_) => Reply::empty(StatusCode::PAYLOAD_TOO_LARGE),
        }
    } else if sso::is_meant(path) && !request.headers().contains_key(header::AUTHORIZATION) {
        let (parts, body) = request.into_parts();
        match read(body).await {
            Ok(body) => sso::answer(app, &parts, &body, &request_id),
            Err(_) => Reply::empty(StatusCode::PAYLOAD_TOO_LARGE),
        }
    } else if path.starts_with(DATA_CHANNEL) {
        upgrade(app, request)
    } else {
        call(app, request, &request_id).await
    };
    let mut response = reply.into_response(&request_id);
    if !app.faults().clock.is_zero() {
        // Otherwise the HTTP library adds the true one.
        let date = app.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(date) = http::HeaderValue::from_str(&date) {
            response.headers_mut().insert(header::DATE, date);
        }
    }
    response
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    Limited::new(body, BODY_BOUND_BYTES)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|_| {
            ApiError::new("RequestEntityTooLarge", "The request is too large.")
                .with_status(StatusCode::PAYLOAD_TOO_LARGE)
        })
}

/// One API call: signature, faults, answer, log.
async fn call(app: &App, request: http::Request<Incoming>, request_id: &str) -> Reply {
    let (parts, body) = request.into_parts();
    let claim = Claim::read(&parts);
    let said = claim.as_ref().ok().and_then(Option::as_ref);
    let scope = said.map(|claim| claim.service.as_str());
    // Objects may be large; they are read after the signature was checked.
    let is_object = Service::of(&parts, scope, b"") == Service::S3;
    let (service, asked) = if is_object {
        (Service::S3, ParsedCall::object(&parts, body))
    } else {
        match read(body).await {
            Ok(body) => {
                let service = Service::of(&parts, scope, &body);
                (service, ParsedCall::read(service, &parts, &body))
            }
            Err(error) => return error.reply(Service::Ssm, request_id),
        }
    };
    let mut entry = log::Entry {
        time: Timestamp::now(),
        service: service.signing_name(),
        action: asked.action.clone(),
        region: String::new(),
        caller: String::new(),
        status: 0,
        error: None,
        request_id: request_id.to_owned(),
        user_agent: text_header(&parts, "user-agent"),
    };
    let result = async {
        let claim = match &claim {
            Ok(Some(claim)) => claim,
            Ok(None) => return Err(Refusal::Missing.error(service)),
            Err(refusal) => return Err(refusal.error(service)),
        };
        entry.region.clone_from(&claim.region);
        let payload_hash = asked
            .payload_hash
            .clone()
            .unwrap_or_else(|| s3::payload_hash(&parts, claim));
        let identity = claim
            .verify(
                &parts,
                &payload_hash,
                Plus::Literal,
                &app.keyring,
                app.now(),
            )
            .map_err(|refusal| refusal.error(service))?;
        entry.caller.clone_from(&identity.arn);
        let call = Call {
            service,
            region: claim.region.clone(),
            identity,
            request_id: request_id.to_owned(),
        };
        app.meet_faults(&call, &asked.action).await?;
        asked.answer(app, &call, &parts).await
    }
    .await;
    let reply = match result {
        Ok(reply) => reply,
        Err(error) => {
            entry.error = Some(error.code.clone().into_owned());
            let mut reply = error.reply(service, request_id);
            if parts.method == Method::HEAD {
                reply.body = reply::full(Bytes::new());
            }
            reply
        }
    };
    entry.status = reply.status.as_u16();
    app.log.add(entry);
    reply
}

/// A call as its protocol writes it.
struct ParsedCall {
    service: Service,
    action: String,
    input: CallInput,
    /// Of a body at hand; objects say it themselves.
    payload_hash: Option<String>,
}

enum CallInput {
    Form(Form),
    Json(Result<Value, ApiError>),
    Object(Incoming),
}

impl ParsedCall {
    fn object(parts: &Parts, body: Incoming) -> Self {
        Self {
            service: Service::S3,
            action: s3::action(&parts.method, parts.uri.path()).to_owned(),
            input: CallInput::Object(body),
            payload_hash: None,
        }
    }

    fn read(service: Service, parts: &Parts, body: &[u8]) -> Self {
        let (action, input) = match service {
            Service::Ec2 | Service::Sts | Service::Iam => {
                let text = if parts.method == Method::GET {
                    parts.uri.query().unwrap_or("").into()
                } else {
                    String::from_utf8_lossy(body)
                };
                let form = Form::parse(&text);
                (
                    form.value("Action").unwrap_or_default().to_owned(),
                    CallInput::Form(form),
                )
            }
            // Objects go their own way.
            Service::Ssm
            | Service::InstanceConnect
            | Service::Kms
            | Service::CloudWatchLogs
            | Service::ResourceGroups
            | Service::S3 => {
                let target = text_header(parts, "x-amz-target");
                let action = target
                    .strip_prefix(ssm::TARGET_PREFIX)
                    .or_else(|| target.strip_prefix(connect::TARGET_PREFIX))
                    .or_else(|| target.strip_prefix(kms::TARGET_PREFIX))
                    .or_else(|| target.strip_prefix(cloudwatch_logs::TARGET_PREFIX))
                    .unwrap_or(&target);
                // A REST service names its operations by paths.
                let action = match service {
                    Service::ResourceGroups => resource_groups::action(parts.uri.path()),
                    _ => action,
                }
                .to_owned();
                let json = serde_json::from_slice(body)
                    .ok()
                    .filter(Value::is_object)
                    .ok_or_else(|| {
                        ApiError::new("SerializationException", "The request is not JSON")
                    });
                (action, CallInput::Json(json))
            }
        };
        Self {
            service,
            action,
            input,
            payload_hash: Some(sha256_hex(body)),
        }
    }

    async fn answer(self, app: &App, call: &Call, parts: &Parts) -> Result<Reply, ApiError> {
        match (self.service, self.input) {
            (Service::Ec2, CallInput::Form(form)) => ec2::answer(app, call, &self.action, &form),
            (Service::Iam, CallInput::Form(form)) => iam::answer(app, call, &self.action, &form),
            (Service::Sts, CallInput::Form(form)) => sts::answer(app, call, &self.action, &form),
            (Service::Ssm, CallInput::Json(json)) => ssm::answer(app, call, &self.action, &json?),
            (Service::InstanceConnect, CallInput::Json(json)) => {
                connect::answer(app, call, &self.action, &json?)
            }
            (Service::CloudWatchLogs, CallInput::Json(json)) => {
                cloudwatch_logs::answer(app, call, &self.action, &json?)
            }
            (Service::ResourceGroups, CallInput::Json(json)) => {
                resource_groups::answer(app, call, &self.action, &json?)
            }
            (Service::Kms, CallInput::Json(json)) => kms::answer(app, call, &self.action, &json?),
            (Service::S3, CallInput::Object(body)) => s3::answer(app, parts, body).await,
            _ => Err(ApiError::unknown_action(self.service, &self.action)),
        }
    }
}

fn text_header(parts: &Parts, name: &str) -> String {
    parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// The web socket of a data channel. Its signature may be absent, as older clients leave it, but
/// not wrong.
fn upgrade(app: &Arc<App>, mut request: http::Request<Incoming>) -> Reply {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let refuse = |status: StatusCode, why: &str| Reply::text(status, format!("{why}\n"));
    let path = parts.uri.path();
    let Some(session) = path
        .strip_prefix(DATA_CHANNEL)
        .and_then(|id| app.gateway.session(id))
        .filter(|session| !session.is_over())
    else {
        return refuse(StatusCode::NOT_FOUND, "no such session");
    };
    let has_role = parts
        .uri
        .query()
        .unwrap_or("")
        .split('&')
        .any(|pair| pair == "role=publish_subscribe");
    if !has_role {
        return refuse(StatusCode::BAD_REQUEST, "role is missing");
    }
    let is_signed = !matches!(Claim::read(&parts), Ok(None));
    match app.faults().refuse_dial {
        Some(RefuseDial::Clock) => {
            let why = "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z";
            return refuse(StatusCode::FORBIDDEN, why);
        }
        Some(RefuseDial::Signed) if is_signed => {
            return refuse(StatusCode::FORBIDDEN, "User is not authorized");
        }
        Some(RefuseDial::All) => return refuse(StatusCode::FORBIDDEN, "User is not authorized"),
        _ => {}
    }
    match Claim::read(&parts) {
        Ok(None) => {}
        Ok(Some(claim)) => {
            let verify = |plus| claim.verify(&parts, EMPTY_SHA256, plus, &app.keyring, app.now());
            let is_good = claim.service == GATEWAY_SERVICE
                && claim.region == session.region
                && verify(Plus::Space)
                    .or_else(|_| verify(Plus::Literal))
                    .is_ok();
            if !is_good {
                return refuse(StatusCode::FORBIDDEN, "signature is not good");
            }
        }
        Err(_) => return refuse(StatusCode::FORBIDDEN, "signature is not good"),
    }
    let has = |name: &str, token: &str| {
        text_header(&parts, name)
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let key = text_header(&parts, "sec-websocket-key");
    if parts.method != Method::GET
        || !has("connection", "upgrade")
        || !has("upgrade", "websocket")
        || !has("sec-websocket-version", "13")
        || key.is_empty()
    {
        return refuse(StatusCode::UPGRADE_REQUIRED, "this is a web socket");
    }
    app.tasks.spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => session.attach(upgraded).await,
            Err(error) => tracing::debug!(%error, "an upgrade failed"),
        }
    });
    Reply {
        status: StatusCode::SWITCHING_PROTOCOLS,
        headers: Vec::new(),
        body: reply::full(Bytes::new()),
    }
    .header(header::CONNECTION, "Upgrade")
    .header(header::UPGRADE, "websocket")
    .header(header::SEC_WEBSOCKET_ACCEPT, &accept_key(key.as_bytes()))
}
