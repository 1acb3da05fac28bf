//! Where credentials come from, and how they are renewed: everything aws-config supports, and roles
//! that want MFA.

mod ask;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_config::{
    ecs::EcsCredentialsProvider,
    environment::EnvironmentVariableCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    meta::credentials::CredentialsProviderChain,
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_types::region::Region;
use ops_profile::aws_files::{AwsFiles, sdk_name};
use ops_ui::{Env, Error, ErrorKind, Result};

use self::ask::{asked_and_interrupted, cached_elsewhere, is_answer};
use super::{
    assume,
    options::{AwsOptions, Role},
    recipe::Recipe,
};

/// Credentials that end sooner than this are renewed before they are used.
const MARGIN: Duration = Duration::from_secs(60);
/// The instance metadata service answers within milliseconds or is not there; "no credentials" must
/// not take longer than 1.5 s in all.
const IMDS_CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
const IMDS_READ_TIMEOUT: Duration = Duration::from_millis(700);

/// One source of credentials shared by every client: asked once, kept until they end.
#[derive(Clone)]
pub(crate) struct Provider(Arc<Inner>);

struct Inner {
    recipe: Recipe,
    /// No question may be asked while a session has the terminal.
    quiet: AtomicBool,
    /// A session has been opened.
    is_later: AtomicBool,
    state: tokio::sync::Mutex<ProviderState>,
}

#[derive(Default)]
struct ProviderState {
    base: Option<SharedCredentialsProvider>,
    credentials: Option<Credentials>,
    /// The access key that the service took for expired before its time.
    refused: Option<String>,
    /// A question was asked in vain: not again before credentials were found by another way.
    asked: bool,
}

/// Credentials to begin with, and roles to assume from there, in turn.
struct Plan {
    base: Base,
    /// Names the base in the key of the cache.
    label: String,
    roles: Vec<Role>,
}

enum Base {
    Static(Credentials),
    Sdk(SharedCredentialsProvider),
}

impl Provider {
    pub(super) fn new(recipe: Recipe) -> Self {
        Self(Arc::new(Inner {
            recipe,
            quiet: AtomicBool::new(false),
            is_later: AtomicBool::new(false),
            state: tokio::sync::Mutex::default(),
        }))
    }

    /// The credentials, from memory while they last.
    ///
    /// # Errors
    /// None found, expired ones, a refused role, a wrong MFA code.
    pub(crate) async fn credentials(&self) -> Result<Credentials> {
        let mut state = self.0.state.lock().await;
        if let Some(credentials) = state.credentials.as_ref().filter(|c| lasts(c)) {
            return Ok(credentials.clone());
        }
        let credentials = self.fetch(&mut state).await?;
        state.credentials = Some(credentials.clone());
        state.asked = false;
        Ok(credentials)
    }

    /// The credentials, found anew where the ones in memory carry no end (another program may
    /// rewrite their file every hour) or have reached it.
    ///
    /// # Errors
    /// As [`Self::credentials`].
    pub(crate) async fn renewed(&self) -> Result<Credentials> {
        {
            let mut state = self.0.state.lock().await;
            if state
                .credentials
                .as_ref()
                .is_none_or(|c| c.expiry().is_none() || !lasts(c))
            {
                state.base = None;
                state.credentials = None;
            }
        }
        self.credentials().await
    }

    /// The service says that the credentials with this access key have expired before their time:
    /// they are found anew, not taken from memory or the cache.
    ///
    /// Several sessions meet this at once, each with a call of its own. Whoever comes second finds
    /// that the first has renewed the credentials, and keeps those: to throw them away too would
    /// ask somebody for a second MFA code.
    pub(crate) async fn refused(&self, access_key_id: &str) {
        let mut state = self.0.state.lock().await;
        let is_renewed = state
            .credentials
            .as_ref()
            .is_some_and(|credentials| credentials.access_key_id() != access_key_id);
        if is_renewed {
            return;
        }
        state.base = None;
        state.credentials = None;
        state.refused = Some(access_key_id.to_owned());
    }

    /// Forbids or allows questions (MFA, SSO) while something else has the terminal.
    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.0.quiet.store(quiet, Ordering::Relaxed);
        self.0.is_later.store(true, Ordering::Relaxed);
    }

    async fn fetch(&self, state: &mut ProviderState) -> Result<Credentials> {
        let recipe = &self.0.recipe;
        let plan = recipe.plan(state.base.clone()).await?;
        let (mut credentials, kept) = match plan.base {
            Base::Static(credentials) => (Some(credentials), None),
            Base::Sdk(provider) => (None, Some(provider)),
        };
        state.base.clone_from(&kept);
        // A chain that ends in a cached role needs nothing of what stands before it.
        let mut first = 0;
        let mut label = plan.label;
        let mut labels = Vec::with_capacity(plan.roles.len());
        for role in &plan.roles {
            let key = assume::cache_key(role, &label, recipe.sts_endpoint.as_deref());
            labels.push(key.clone());
            label = key;
        }
        for (index, key) in labels.iter().enumerate().rev() {
            if let Some(cached) = assume::cached(&recipe.cache, key, MARGIN)
                && state.refused.as_deref() != Some(cached.access_key_id())
            {
                credentials = Some(cached);
                first = index + 1;
                break;
            }
        }
        let mut credentials = match (credentials, kept) {
            (Some(credentials), _) => credentials,
            (None, Some(provider)) => match provider.provide_credentials().await {
                Ok(credentials) => credentials,
                Err(error) => self.after_login(state, &error).await?,
            },
            (None, None) => return Err(Error::unexpected("no source of credentials")),
        };
        // Nothing has renewed them, and no call with them would be answered.
        if !lasts(&credentials) {
            return Err(expired(&recipe.options, &recipe.files));
        }
        for (role, key) in plan.roles.iter().zip(&labels).skip(first) {
            let asking = self.asking(state);
            // Another process may be asking for the same MFA code: what it keeps is as good.
            let assumed = tokio::select! {
                assumed = assume::assume(recipe, role, credentials, asking) => assumed,
                cached = cached_elsewhere(recipe, key, state.refused.clone()) => Ok(cached),
                error = asked_and_interrupted(recipe, asking) => Err(error),
            };
            if role.mfa_serial.is_some() && assumed.is_err() {
                state.asked = is_answer(assumed.as_ref().err());
            }
            credentials = assumed?;
            assume::keep(&recipe.cache, key, &credentials);
        }
        Ok(credentials)
    }
}

fn lasts(credentials: &Credentials) -> bool {
    credentials
        .expiry()
        .is_none_or(|end| end > SystemTime::now() + MARGIN)
}

fn expired(options: &AwsOptions, files: &AwsFiles) -> Error {
    super::credentials_failure::with_login_hints(
        Error::new(ErrorKind::NotLoggedIn, "the AWS credentials have expired"),
        options,
        files,
    )
}

impl Recipe {
    fn provider_config(&self) -> ProviderConfig {
        ProviderConfig::without_region()
            .with_http_client(self.http.clone())
            .with_region(self.region.clone().map(Region::new))
    }

    fn imds(&self) -> imds::Client {
        imds::Client::builder()
            .configure(&self.provider_config())
            .max_attempts(1)
            .connect_timeout(IMDS_CONNECT_TIMEOUT)
            .read_timeout(IMDS_READ_TIMEOUT)
            .operation_timeout(IMDS_CONNECT_TIMEOUT + IMDS_READ_TIMEOUT)
            .build()
    }

    /// Where to begin and which roles to assume. `known` is the source of an earlier call, which
    /// keeps a cache of its own.
    async fn plan(&self, known: Option<SharedCredentialsProvider>) -> Result<Plan> {
        let options = &self.options;
        let mut plan = match environment_credentials(&self.env) {
            Some(credentials) if !options.profile_is_explicit || options.sandbox => Plan {
                label: credentials.access_key_id().to_owned(),
                base: Base::Static(credentials),
                roles: Vec::new(),
            },
            _ => self.profile_plan(known).await?,
        };
        plan.roles.extend(options.role.clone());
        Ok(plan)
    }

    async fn profile_plan(&self, known: Option<SharedCredentialsProvider>) -> Result<Plan> {
        let options = &self.options;
        let name = options.profile_name();
        if let Some(chain) = MfaChain::of(&self.files, name) {
            let base = match (known, chain.base) {
                (Some(known), _) => Base::Sdk(known),
                (None, ChainBase::Keys(credentials)) => Base::Static(credentials),
                (None, ChainBase::Profile(name)) => Base::Sdk(self.profile_provider(&name)),
                (None, ChainBase::Named(source)) => self.named_source(&source)?,
            };
            return Ok(Plan {
                base,
                label: name.to_owned(),
                roles: chain.roles,
            });
        }
        let base = match known {
            Some(known) => known,
            None if options.profile_is_explicit => self.profile_provider(name),
            None => {
                // The SDK's own default chain, whose profiles cannot be handed over: the same
                // sources in the same order.
                let config = self.provider_config();
                let chain = CredentialsProviderChain::first_try(
                    "Environment",
                    EnvironmentVariableCredentialsProvider::new(),
                )
                .or_else("Profile", self.profile_provider(name))
                .or_else(
                    "WebIdentityToken",
                    WebIdentityTokenCredentialsProvider::builder()
                        .configure(&config)
                        .build(),
                )
                .or_else(
                    "EcsContainer",
                    EcsCredentialsProvider::builder().configure(&config).build(),
                )
                .or_else(
                    "Ec2InstanceMetadata",
                    ImdsCredentialsProvider::builder()
                        .configure(&config)
                        .imds_client(self.imds())
                        .build(),
                );
                SharedCredentialsProvider::new(chain)
            }
        };
        Ok(Plan {
            base: Base::Sdk(base),
            label: name.to_owned(),
            roles: Vec::new(),
        })
    }

    fn profile_provider(&self, name: &str) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder()
                .configure(&self.provider_config())
                .profile_name(sdk_name(name))
                .profile_files(super::sdk_files(&self.files))
                .build(),
        )
    }

    fn named_source(&self, source: &str) -> Result<Base> {
        match source {
            "Environment" => environment_credentials(&self.env)
                .map(Base::Static)
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::NotLoggedIn,
                        "the AWS profile takes its credentials from the environment, which has none",
                    )
                    .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
                }),
            "Ec2InstanceMetadata" => Ok(Base::Sdk(SharedCredentialsProvider::new(
                ImdsCredentialsProvider::builder()
                    .configure(&self.provider_config())
                    .imds_client(self.imds())
                    .build(),
            ))),
            "EcsContainer" => Ok(Base::Sdk(SharedCredentialsProvider::new(
                EcsCredentialsProvider::builder()
                    .configure(&self.provider_config())
                    .build(),
            ))),
            other => Err(Error::usage(format!(
                "`credential_source = {other}` of the AWS profile is none that exists"
            ))
            .hint("write Environment, Ec2InstanceMetadata or EcsContainer")),
        }
    }
}

/// Tells what cannot work before anything is tried: an AWS profile that is named and not there, and
/// mistakes in one. What is not needed, because the environment has credentials, may be wrong.
pub(super) fn check_profile(options: &AwsOptions, env: &Env, files: &AwsFiles) -> Result<()> {
    let is_needed = options.profile_is_explicit || environment_credentials(env).is_none();
    if options.sandbox || !is_needed {
        return Ok(());
    }
    let name = options.profile_name();
    // The default profile is there without a word in any file.
    if !files.has(name) && name != "default" {
        let asked = options
            .profile_origin
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        return Err(files.unknown(name, &asked));
    }
    files.check(name)
}

/// The credentials that `env` itself holds.
pub(super) fn environment_credentials(env: &Env) -> Option<Credentials> {
    let id = env.var("AWS_ACCESS_KEY_ID")?;
    let secret = env
        .var("AWS_SECRET_ACCESS_KEY")
        .or_else(|| env.var("SECRET_ACCESS_KEY"))?;
    Some(Credentials::new(
        id,
        secret,
        env.var("AWS_SESSION_TOKEN").map(str::to_owned),
        None,
        "environment",
    ))
}

/// Roles of AWS profiles, of which at least one wants MFA: the SDK's own chain leaves `mfa_serial`
/// out.
#[derive(Debug, PartialEq)]
struct MfaChain {
    base: ChainBase,
    roles: Vec<Role>,
}

#[derive(Debug, PartialEq)]
enum ChainBase {
    Keys(Credentials),
    Profile(String),
    Named(String),
}

impl MfaChain {
    /// The chain of AWS profile `name`, whose references have been checked; `None` where no role of
    /// it wants MFA.
    fn of(files: &AwsFiles, name: &str) -> Option<Self> {
        let mut roles = Vec::new();
        let mut name = name.to_owned();
        let base = loop {
            let Some(arn) = files.get(&name, "role_arn") else {
                break ChainBase::Profile(name);
            };
            let text = |key: &str| files.get(&name, key).map(str::to_owned);
            if text("web_identity_token_file").is_some() {
                break ChainBase::Profile(name);
            }
            roles.push(Role {
                arn: arn.to_owned(),
                external_id: text("external_id"),
                mfa_serial: text("mfa_serial"),
                session_name: text("role_session_name"),
                duration: text("duration_seconds")
                    .and_then(|seconds| seconds.parse().ok())
                    .map(Duration::from_secs),
            });
            match (text("source_profile"), text("credential_source")) {
                // A profile that is its own source has the keys beside the role.
                (Some(source), _) if source == name => {
                    let (id, secret) =
                        text("aws_access_key_id").zip(text("aws_secret_access_key"))?;
                    break ChainBase::Keys(Credentials::new(
                        id,
                        secret,
                        text("aws_session_token"),
                        None,
                        "profile",
                    ));
                }
                (Some(source), _) => name = source,
                (None, Some(source)) => break ChainBase::Named(source),
                (None, None) => return None,
            }
        };
        if roles.iter().all(|role| role.mfa_serial.is_none()) {
            return None;
        }
        roles.reverse();
        Some(Self { base, roles })
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.credentials()
                .await
                .map_err(CredentialsError::provider_error)
        })
    }
}
