//! AWS as `ops` uses it: one configuration, one source of credentials, one HTTP client, a set of
//! service clients per region.
//!
//! Nothing here knows of commands: it takes what an invocation and its settings say.

mod assume;
pub(crate) mod bounds;
mod call_place;
mod code;
mod credentials_failure;
pub(crate) mod direct;
mod error_chain;
mod failure;
mod hosts;
pub(crate) mod http;
mod identity;
mod kms;
mod last_try;
mod login;
mod network;
mod no_credentials;
pub(crate) mod options;
mod plain_http;
mod provider;
mod recipe;
mod service_config;
mod sign;
mod sign_out;
mod slow_call;
mod source;
mod sso;
mod wrong_clock;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_config::{
    BehaviorVersion,
    imds::{self, region::ImdsRegionProvider},
    meta::region::RegionProviderChain,
};
use aws_credential_types::Credentials;
use aws_sdk_ec2 as ec2;
use aws_sdk_ec2instanceconnect as instance_connect_sdk;
use aws_sdk_ssm as ssm;
use aws_sdk_sts as sts;
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_types::{SdkConfig, region::Region};
use ops_profile::{
    Settings,
    aws_files::{AwsFiles, sdk_name},
};
use ops_ui::{Env, Error, ErrorKind, Invocation, Result, text::hex};

use self::bounds::AnswerBounds;
pub use self::identity::Identity;
pub(crate) use self::sign::{presign_s3, sign_upgrade};
pub(crate) use self::wrong_clock::{SET_CLOCK, wrong_clock_error};
pub(crate) use self::{
    assume::remove_kept_roles,
    call_place::CallPlace,
    code::{Meaning, code_of, meaning},
    direct::{DirectError, DirectFailure},
    error_chain::chain,
    failure::{Call, statement_hint},
    kms::{KeyName, encryption_context},
    network::Network,
    no_credentials::failure_of,
    options::{AwsOptions, Service},
    provider::Provider,
};
pub use self::{
    sign_out::{EndedLogin, LoginMeans, LogoutOutcome, SsoLogin},
    source::{CredentialsSource, SourceKind},
    sso::LoginFlow,
};
use crate::pace::{Pacer, account_of_key};

/// How many sessions a second the account lets start, where it is not the documented quota; 0 is no
/// limit until the service throttles.
const START_RATE_VARIABLE: &str = "OPS_START_RATE";
/// Tries of one call, throttled ones included; the pauses between them grow and have jitter.
const ATTEMPTS: u32 = 6;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How calls are repeated.
pub(crate) fn retry_config() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(300))
        .with_max_backoff(Duration::from_secs(10))
}

/// How long a call may take where `--timeout` is `timeout`.
fn timeout_config(timeout: Option<Duration>) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_timeout(bounds::call_limit(timeout))
        .build()
}

/// SHA-256 in hexadecimal: names of cache files.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// The way to AWS of one invocation.
pub(crate) struct Aws {
    options: AwsOptions,
    env: Env,
    /// Speaks of calls that are waited for.
    slow_calls: slow_call::SlowCalls,
    base: SdkConfig,
    /// Without bounds: each kind of client has its own.
    http: SharedHttpClient,
    provider: Provider,
    pub(crate) network: Network,
    /// Of flag, `OPS_REGION`, team profile, environment, AWS profile, in this order.
    region: Option<String>,
    clients: Mutex<HashMap<String, Clients>>,
    identity: tokio::sync::OnceCell<Identity>,
    cache: std::path::PathBuf,
    runtime: std::path::PathBuf,
    /// Signed dials were refused and unsigned ones were not: no dial is signed any more.
    dials_unsigned: AtomicBool,
    /// Somebody has been told that sessions cannot be ended.
    pub(crate) told_unended: AtomicBool,
    /// The KMS keys that `-v` has told of.
    told_keys: Mutex<HashSet<String>>,
    /// The keys of encrypted sessions, by the digest that the sessions are remembered by.
    pub(crate) session_keys: Mutex<HashMap<String, String>>,
    /// Held by the one session that looks whether the account has given up its key.
    pub(crate) looking_at_preferences: tokio::sync::Mutex<()>,
    /// For calls that no client of the SDK makes: one without TLS, one with.
    connectors: [OnceLock<SharedHttpConnector>; 2],
    pacers: Mutex<HashMap<String, Arc<Pacer>>>,
}

/// The clients of one region.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) ec2: ec2::Client,
    pub(crate) ssm: ssm::Client,
    pub(crate) sts: sts::Client,
    pub(crate) instance_connect: instance_connect_sdk::Client,
}

impl Aws {
    /// The way to AWS of `invocation`, whose settings are `settings`. Asks nobody yet but, for a
    /// region that nothing names, the instance metadata.
    ///
    /// # Errors
    /// An AWS configuration file that cannot be parsed, an unusable proxy or certificate setting.
    pub(crate) async fn load(invocation: &Invocation, settings: &Settings) -> Result<Self> {
        options::check_region(&settings.region)?;
        let mut options = AwsOptions::of(invocation, settings);
        let Invocation {
            env,
            paths,
            output,
            interrupt,
            ..
        } = invocation;
        let env = env.clone();
        let plain = options.sandbox
            && env
                .var("AWS_ENDPOINT_URL")
                .is_some_and(|url| url.starts_with("http://"));
        refuse_plain_http(&options, &env)?;
        // The sandbox's environment says everything, and no file is asked.
        let files = if options.sandbox {
            Arc::default()
        } else {
            Arc::clone(&settings.aws_files)
        };
        options.login = login::way_of(&files, options.profile_name());
        provider::check_profile(&options, &env, &files)?;
        let network = Network::of(&env, &files, options.profile_name(), paths);
        let unbounded = http::client(&network, plain, options.allow_plain_http)?;
        let http = bounds::bounded(
            &unbounded,
            AnswerBounds::usual(options.timeout),
            &options.last_try,
        );
        let region = region_of(&options, &env, &http).await;
        let asked = endpoint(&options, &env, Service::Ec2);
        let asked = asked
            .as_deref()
            .or_else(|| files.endpoint(options.profile_name(), "ec2"));
        if !asked.is_some_and(|url| url.starts_with("http://")) {
            options.proxy = network.proxy_for(&format!(
                "ec2.{}.amazonaws.com",
                region.as_deref().unwrap_or("us-east-1")
            ));
            if let Some(variable) = &network.left_alone {
                output.note(format!(
                    "{variable} names a SOCKS proxy, which ops does not use: AWS is reached without a proxy; where one is needed, set HTTPS_PROXY=http://HOST:PORT"
                ));
            }
        }
        let base = if options.sandbox {
            SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .build()
        } else {
            let mut loader = aws_config::defaults(BehaviorVersion::latest())
                .http_client(http.clone())
                .profile_files(sdk_files(&files))
                // Ours, here already: where none is given, the SDK reads `retry_mode` and
                // `max_attempts`, and panics over values of the AWS CLI that it does not have, such
                // as `legacy`.
                .retry_config(retry_config())
                .no_credentials()
                // An empty chain: the default one would ask the instance metadata service at
                // length.
                .region(RegionProviderChain::first_try(
                    region.clone().map(Region::new),
                ));
            if let Some(name) = &options.profile {
                loader = loader.profile_name(sdk_name(name));
            }
            service_config::without_empty_values(
                &loader.load().await,
                &files,
                options.profile_name(),
                ignores_configured_endpoints(&env),
            )
        };
        let endpoint = |service| endpoint(&options, &env, service);
        let base = base
            .into_builder()
            .http_client(http.clone())
            .retry_config(retry_config())
            .timeout_config(timeout_config(options.timeout))
            .build();
        let provider = Provider::new(recipe::Recipe {
            base: base.clone(),
            home: paths.home.clone(),
            options: options.clone(),
            env: env.clone(),
            http: http.clone(),
            files,
            region: region.clone(),
            sts_endpoint: endpoint(Service::Sts),
            cache: paths.cache.clone(),
            output: output.clone(),
            interrupt: interrupt.clone(),
        });
        let base = base
            .into_builder()
            // The provider keeps what it found; a second cache would outlive a renewal.
            .identity_cache(aws_config::identity::IdentityCache::no_cache())
            .credentials_provider(
                aws_credential_types::provider::SharedCredentialsProvider::new(provider.clone()),
            )
            .build();
        if output.verbose() > 0
            && !options.sandbox
            && !options.profile_is_explicit
            && let Some(name) = &options.profile
            && provider::environment_credentials(&env).is_some()
        {
            output.detail(format!(
                "credentials of the environment are used in place of AWS profile `{}`",
                ops_ui::output::escape(name)
            ));
        }
        Ok(Self {
            slow_calls: slow_call::SlowCalls::new(output.clone(), options.last_try.clone()),
            options,
            env,
            base,
            http: unbounded,
            provider,
            network,
            region,
            clients: Mutex::default(),
            identity: tokio::sync::OnceCell::new(),
            cache: paths.cache.clone(),
            runtime: paths.runtime.clone(),
            dials_unsigned: AtomicBool::new(false),
            told_unended: AtomicBool::new(false),
            told_keys: Mutex::default(),
            session_keys: Mutex::default(),
            looking_at_preferences: tokio::sync::Mutex::default(),
            connectors: Default::default(),
            pacers: Mutex::default(),
        })
    }

    /// The caller's account where it is known by now.
    pub(crate) fn known_account(&self) -> Option<&str> {
        self.identity
            .get()
            .map(|identity| identity.account.as_str())
    }

    /// Whether the AWS configuration asks for FIPS endpoints.
    pub(crate) fn uses_fips(&self) -> bool {
        self.base.use_fips() == Some(true)
    }

    /// Whether the AWS configuration asks for dual-stack endpoints.
    pub(crate) fn uses_dual_stack(&self) -> bool {
        self.base.use_dual_stack() == Some(true)
    }

    /// Whether nobody has been told yet that sessions are encrypted with `key`.
    pub(crate) fn is_news(&self, key: &str) -> bool {
        let mut told = self
            .told_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        told.insert(key.to_owned())
    }

    /// Whether dials go unsigned.
    pub(crate) fn dials_unsigned(&self) -> bool {
        self.dials_unsigned.load(Ordering::Relaxed)
    }

    /// Remembers for this process whether dials go unsigned.
    pub(crate) fn set_dials_unsigned(&self, unsigned: bool) {
        self.dials_unsigned.store(unsigned, Ordering::Relaxed);
    }

    /// The hosts that settings of the user name as endpoints of Session Manager or of every
    /// service.
    pub(crate) fn configured_hosts(&self) -> Vec<String> {
        let own = ["ssm", "ssmmessages"]
            .into_iter()
            .filter_map(|key| self.options.endpoints.get(key).cloned());
        let effective = endpoint(&self.options, &self.env, Service::Ssm);
        let of_files = self.base.endpoint_url().map(str::to_owned);
        own.chain(self.options.endpoint_url.clone())
            .chain(effective)
            .chain(of_files)
            .filter_map(|text| {
                // An endpoint of a profile may be a host alone.
                let text = if text.contains("://") {
                    text
                } else {
                    format!("https://{text}")
                };
                url::Url::parse(&text).ok()?.host_str().map(str::to_owned)
            })
            .collect()
    }

    /// The pace of session calls in `region`, shared with every process of this user that works in
    /// the same account.
    pub(crate) async fn pacer(&self, region: &str) -> Arc<Pacer> {
        let known = |pacers: &HashMap<String, Arc<Pacer>>| pacers.get(region).cloned();
        let lock = || self.pacers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pacer) = known(&lock()) {
            return pacer;
        }
        let name = hex_digest(self.account_scope(region).await.as_bytes());
        let starts_per_second = self
            .env
            .var(START_RATE_VARIABLE)
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|rate| rate.is_finite() && *rate >= 0.0);
        let pacer = Pacer::new(&self.runtime, &name[..32], starts_per_second);
        let pacer = Arc::new(pacer);
        lock().entry(region.to_owned()).or_insert(pacer).clone()
    }

    /// What the account is told by in `region`, without asking anybody: for names of files that are
    /// kept for each. The same for all credentials of an account whose key ids tell it.
    pub(crate) async fn account_scope(&self, region: &str) -> String {
        // Without credentials there will be no call, and nothing is found under this name.
        let credentials = self.credentials().await.ok();
        let account = credentials.map_or_else(String::new, |credentials| {
            let id = credentials.access_key_id();
            account_of_key(id).map_or_else(|| id.to_owned(), |account| account.to_string())
        });
        let endpoint = endpoint(&self.options, &self.env, Service::Ssm).unwrap_or_default();
        format!("{account}\n{region}\n{endpoint}")
    }

    /// The one region.
    ///
    /// # Errors
    /// Nothing names one.
    pub(crate) fn region(&self) -> Result<&str> {
        self.region.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Usage, "no AWS region is set")
                .caused_by(format!(
                    "neither --region nor OPS_REGION, the profile, AWS_REGION or AWS profile `{}` names one",
                    self.options.profile_name()
                ))
                .hint("name one: ops --region eu-west-1 ls, or export AWS_REGION=eu-west-1")
        })
    }

    /// Where EC2 is asked what is not about one region, such as which regions there are: any
    /// answers, and the one in use is known to.
    pub(crate) fn any_region(&self) -> String {
        self.region
            .clone()
            .unwrap_or_else(|| "us-east-1".to_owned())
    }

    /// Where `service` is asked in `region` by a call that no client of the SDK makes.
    pub(crate) fn url_of(&self, service: Service, region: &str) -> String {
        self.provider.url_of(service, region)
    }

    /// Where Session Manager's web sockets are in `region`, as far as it is known before a session:
    /// StartSession names the host.
    pub(crate) fn messages_url(&self, region: &str) -> String {
        let set = self
            .options
            .endpoints
            .get("ssmmessages")
            .filter(|_| !self.options.sandbox);
        // Who reaches SSM at an address of his own has the sockets where that says they are.
        let set = set.cloned().or_else(|| self.endpoint(Service::Ssm));
        set.unwrap_or_else(|| {
            let kind = hosts::HostKind {
                is_fips: self.uses_fips(),
                is_dual_stack: self.uses_dual_stack(),
            };
            let url = hosts::url_of(Service::Ssm, region, kind);
            url.replacen("://ssm", "://ssmmessages", 1)
        })
    }

    /// The endpoint that is set for `service`, if one is.
    pub(crate) fn endpoint(&self, service: Service) -> Option<String> {
        endpoint(&self.options, &self.env, service)
    }

    pub(crate) fn options(&self) -> &AwsOptions {
        &self.options
    }

    pub(crate) fn provider(&self) -> &Provider {
        &self.provider
    }

    pub(crate) fn place(&self, region: Option<&str>) -> CallPlace {
        self.options.place(region)
    }

    /// One call in `region`, for its error.
    pub(crate) fn call(
        &self,
        action: &'static str,
        resource: Option<String>,
        region: &str,
    ) -> Call {
        Call {
            action,
            resource,
            place: self.place(Some(region)),
        }
    }

    /// The credentials; asked for before any call, so that their failure is told in their own
    /// words.
    ///
    /// # Errors
    /// None found, expired ones, a refused role.
    pub(crate) async fn credentials(&self) -> Result<Credentials> {
        self.provider.credentials().await
    }

    /// The clients of `region`.
    pub(crate) fn clients(&self, region: &str) -> Clients {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients
            .entry(region.to_owned())
            .or_insert_with(|| self.make_clients(region))
            .clone()
    }

    fn make_clients(&self, region: &str) -> Clients {
        let config = self
            .base
            .clone()
            .into_builder()
            .region(Region::new(region.to_owned()))
            .build();
        let endpoint = |service| self.endpoint(service);
        let long = bounds::bounded(
            &self.http,
            AnswerBounds::of_ec2(self.options.timeout),
            &self.options.last_try,
        );
        let of_ec2 = config.clone().into_builder().http_client(long).build();
        macro_rules! client {
            ($sdk:ident, $service:expr, $config:expr) => {{
                let mut builder =
                    $sdk::config::Builder::from($config).interceptor(self.slow_calls.clone());
                if let Some(url) = endpoint($service) {
                    builder = builder.endpoint_url(url);
                }
                $sdk::Client::from_conf(builder.build())
            }};
        }
        Clients {
            ec2: client!(ec2, Service::Ec2, &of_ec2),
            ssm: client!(ssm, Service::Ssm, &config),
            sts: client!(sts, Service::Sts, &config),
            instance_connect: client!(instance_connect_sdk, Service::InstanceConnect, &config),
        }
    }

    /// `stream_url` with the host of the team profile's `aws.endpoints.ssmmessages`, if it names
    /// one.
    pub(crate) fn stream_url(&self, stream_url: String) -> String {
        let Some(endpoint) = self
            .options
            .endpoints
            .get("ssmmessages")
            .filter(|_| !self.options.sandbox)
        else {
            return stream_url;
        };
        replace_host(&stream_url, endpoint).unwrap_or(stream_url)
    }
}

/// `url` with scheme and authority of `endpoint`; path and query stay byte for byte.
fn replace_host(url: &str, endpoint: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let path = &rest[rest.find('/')?..];
    let endpoint = endpoint.trim_end_matches('/');
    let authority = match endpoint.split_once("://") {
        Some(("https" | "wss", host)) => format!("wss://{host}"),
        Some(("http" | "ws", host)) => format!("ws://{host}"),
        Some(_) => return None,
        None => format!("wss://{endpoint}"),
    };
    Some(authority + path)
}

/// The endpoint set for `service`, if one is: the team profile's, else the environment's. The AWS
/// configuration files' are the SDK's matter.
fn endpoint(options: &AwsOptions, env: &Env, service: Service) -> Option<String> {
    let environment = || {
        if ignores_configured_endpoints(env) {
            return None;
        }
        env.var(&service.variable())
            .or_else(|| env.var("AWS_ENDPOINT_URL"))
            .map(str::to_owned)
    };
    if options.sandbox || !service.is_of_team() {
        return environment();
    }
    options
        .endpoints
        .get(service.key())
        .or(options.endpoint_url.as_ref())
        .cloned()
        .or_else(environment)
}

/// Whether the environment and the AWS configuration files set no endpoints, whatever they say.
fn ignores_configured_endpoints(env: &Env) -> bool {
    env.var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Refuses an endpoint of the profile or the environment that is plain HTTP to another machine.
/// Those of the AWS configuration files meet the same rule at their first request.
///
/// # Errors
/// There is one, and the profile does not say that it is meant.
fn refuse_plain_http(options: &AwsOptions, env: &Env) -> Result<()> {
    if options.allow_plain_http {
        return Ok(());
    }
    for url in Service::ALL
        .into_iter()
        .filter_map(|service| endpoint(options, env, service))
    {
        ops_profile::plain_http::check(&url).map_err(|refused| {
            Error::usage("AWS is not asked")
                .caused_by(refused)
                .hint(ops_profile::plain_http::PlainHttp::HINT)
        })?;
    }
    Ok(())
}

/// What of the AWS configuration files the SDK reads itself.
#[allow(deprecated)] // The type moved to a crate that aws-config does not export.
fn sdk_files(files: &AwsFiles) -> aws_config::profile::profile_file::ProfileFiles {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    ProfileFiles::builder()
        .with_contents(ProfileFileKind::Config, files.for_sdk().as_str())
        .build()
}

/// The region that settings name, else that of the machine this runs on.
async fn region_of(options: &AwsOptions, env: &Env, http: &SharedHttpClient) -> Option<String> {
    let known = options.region.clone();
    if known.is_some() || options.sandbox || env.var("AWS_EC2_METADATA_DISABLED") == Some("true") {
        return known;
    }
    let config = aws_config::provider_config::ProviderConfig::without_region()
        .with_http_client(http.clone());
    let client = imds::Client::builder()
        .configure(&config)
        .max_attempts(1)
        .connect_timeout(Duration::from_millis(300))
        .read_timeout(Duration::from_millis(300))
        .operation_timeout(Duration::from_millis(400))
        .build();
    ImdsRegionProvider::builder()
        .configure(&config)
        .imds_client(client)
        .build()
        .region()
        .await
        .map(|region| region.to_string())
}
