//! What all requests share.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Pace,
    credentials::{Identity, Keyring},
    data_keys::Kms,
    error::ApiError,
    faults::{Faults, Rate},
    fleet::{Fleet, InstanceStates},
    gateway::Gateway,
    log::CallLog,
    log_groups::LogGroups,
    logins::Sso,
    network::Network,
    run_command::{RunCommands, World},
    service::Service,
    sign_in_tokens::Tokens,
};

/// The sandbox behind its listener.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) states: Arc<InstanceStates>,
    pub(crate) run_commands: RunCommands,
    pub(crate) log_groups: Arc<LogGroups>,
    pub(crate) network: Arc<Network>,
    pub(crate) keyring: Keyring,
    pub(crate) gateway: Gateway,
    pub(crate) log: CallLog,
    pub(crate) pace: Pace,
    /// Opens `/_sandbox/`.
    pub(crate) admin_token: String,
    /// The folder of the minimal S3.
    pub(crate) objects: PathBuf,
    pub(crate) sign_in_tokens: Tokens,
    pub(crate) sso: Sso,
    pub(crate) kms: Arc<Kms>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    faults: watch::Sender<Arc<Faults>>,
    /// How often each ordered failure has happened, by kind and action.
    used: Mutex<HashMap<(&'static str, String), u64>>,
    /// Calls that may go through now, and since when, by action and region.
    allowances: Mutex<HashMap<(String, String), (f64, Instant)>>,
}

/// Who calls, and where.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) service: Service,
    pub(crate) region: String,
    pub(crate) identity: Identity,
    pub(crate) request_id: String,
}

/// What [`App::new`] is made of.
pub(crate) struct AppParts {
    pub(crate) address: SocketAddr,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) keyring: Keyring,
    pub(crate) pace: Pace,
    pub(crate) admin_token: String,
    pub(crate) state_dir: PathBuf,
    /// Of users on the machines; `None` for that of whoever runs this.
    pub(crate) shell: Option<PathBuf>,
    pub(crate) objects: PathBuf,
    pub(crate) kms: Kms,
    pub(crate) faults: Faults,
}

impl App {
    pub(crate) fn new(parts: AppParts) -> Self {
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let faults = watch::Sender::new(Arc::new(parts.faults));
        let states = InstanceStates::new(parts.state_dir.join("instances"), parts.shell);
        let states = Arc::new(states);
        let log_groups = Arc::<LogGroups>::default();
        let world = World {
            fleet: Arc::clone(&parts.fleet),
            states: Arc::clone(&states),
            objects: parts.objects.clone(),
            log_groups: Arc::clone(&log_groups),
            faults: faults.subscribe(),
            cancel: cancel.clone(),
            tasks: tasks.clone(),
        };
        Self {
            address: parts.address,
            states,
            run_commands: RunCommands::new(world),
            log_groups,
            network: Arc::new(Network::new(
                Arc::clone(&parts.fleet),
                cancel.clone(),
                tasks.clone(),
            )),
            fleet: parts.fleet,
            keyring: parts.keyring,
            gateway: Gateway::new(faults.subscribe(), cancel.clone(), tasks.clone()),
            log: CallLog::default(),
            pace: parts.pace,
            admin_token: parts.admin_token,
            objects: parts.objects,
            sign_in_tokens: Tokens::default(),
            sso: Sso::default(),
            kms: Arc::new(parts.kms),
            cancel,
            tasks,
            faults,
            used: Mutex::default(),
            allowances: Mutex::default(),
        }
    }

    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.borrow())
    }

    /// The time by the clock of the services, which a fault may have set wrong.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now() + self.faults().clock
    }

    /// Orders other faults, for open sessions too; counts begin anew.
    pub(crate) fn set_faults(&self, mut faults: Faults) {
        faults.sessions_before = self.gateway.started();
        self.used().clear();
        self.allowances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.faults.send_replace(Arc::new(faults));
    }

    /// Whether the call may go on as far as the ordered faults are concerned; waits if it is to be
    /// slow.
    ///
    /// # Errors
    /// The ordered one.
    pub(crate) async fn meet_faults(&self, call: &Call, action: &str) -> Result<(), ApiError> {
        let faults = self.faults();
        let permission = call.service.permission(action);
        let is_meant = |name: &str| name == permission || name == action || name == "*";
        if let Some((_, delay)) = faults.slow.iter().find(|(name, _)| is_meant(name)) {
            tokio::time::sleep(*delay).await;
        }
        if faults.expired && call.identity != self.keyring.user().identity {
            return Err(crate::sigv4::Refusal::Expired.error(call.service));
        }
        if self.fleet.file().disabled_regions.contains(&call.region) {
            // A region that is not enabled knows no keys of the account. Source: "Enable or disable
            // AWS Regions in your account" of the account management guide, and the answers there.
            return Err(crate::sigv4::Refusal::UnknownKey.error(call.service));
        }
        if faults.deny_regions.contains(&call.region) {
            return Err(self.denied(call, action, "*"));
        }
        for (name, count) in &faults.throttle {
            if is_meant(name) && self.counts("throttle", name, *count) {
                return Err(ApiError::throttled(call.service));
            }
        }
        self.keep_to_rates(&faults, call, action)?;
        for (name, count) in &faults.fail {
            if is_meant(name) && self.counts("fail", name, *count) {
                return Err(ApiError::internal(call.service));
            }
        }
        self.check_resource(call, action, "*", "*")
    }

    /// Token buckets for the whole account: there is one behind every key.
    fn keep_to_rates(&self, faults: &Faults, call: &Call, action: &str) -> Result<(), ApiError> {
        let documented;
        let rates = match (&faults.tps, self.pace) {
            (Some(rates), _) => rates,
            (None, Pace::Real) => {
                documented = Rate::documented();
                &documented
            }
            (None, Pace::Unpaced) => return Ok(()),
        };
        let permission = call.service.permission(action);
        let Some(rate) = rates
            .iter()
            .find(|rate| rate.action == action || rate.action == permission)
        else {
            return Ok(());
        };
        let now = Instant::now();
        let mut allowances = self
            .allowances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = allowances
            .entry((action.to_owned(), call.region.clone()))
            .or_insert((rate.burst, now));
        let gained = now.duration_since(*since).as_secs_f64() * rate.per_second;
        *tokens = (*tokens + gained).min(rate.burst);
        *since = now;
        if *tokens < 1.0 {
            return Err(ApiError::throttled(call.service));
        }
        *tokens -= 1.0;
        Ok(())
    }

    /// Whether the caller may do `action` to a resource, `name` being the short form that faults
    /// use.
    ///
    /// # Errors
    /// `AccessDeniedException` and its like.
    pub(crate) fn check_resource(
        &self,
        call: &Call,
        action: &str,
        name: &str,
        arn: &str,
    ) -> Result<(), ApiError> {
        let permission = call.service.permission(action);
        let is_denied = self.faults().deny.iter().any(|rule| {
            let (rule, resource) = rule.split_once('/').unwrap_or((rule, "*"));
            (rule == permission || rule == action) && resource == name
        });
        if is_denied {
            return Err(self.denied(call, action, arn));
        }
        Ok(())
    }

    fn denied(&self, call: &Call, action: &str, resource: &str) -> ApiError {
        let permission = call.service.permission(action);
        ApiError::denied(call.service, &call.identity.arn, &permission, resource)
    }

    /// Counts an ordered failure; `false` once there were `most` since the faults were last
    /// changed.
    pub(crate) fn counts(&self, kind: &'static str, action: &str, most: u64) -> bool {
        let mut used = self.used();
        let count = used.entry((kind, action.to_owned())).or_default();
        *count += 1;
        *count <= most
    }

    fn used(&self) -> std::sync::MutexGuard<'_, HashMap<(&'static str, String), u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all sessions and tasks; waits for them as long as `patience`.
    pub(crate) async fn stop(&self, patience: Duration) {
        self.cancel.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }
}
