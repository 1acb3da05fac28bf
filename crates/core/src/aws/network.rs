//! What stands between this machine and AWS: a proxy, and certificate authorities beside the system's.

use std::{fmt, path::PathBuf};

use aws_smithy_http_client::{proxy::ProxyConfig, tls::TrustStore};
use base64::Engine as _;
use ops_session::driver::Proxy;

use crate::{
    aws_files::AwsFiles,
    env::Env,
    error::{Error, Result},
    paths::Paths,
};

/// The settings of one invocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    proxy: Option<ProxySetting>,
    /// `NO_PROXY`.
    exceptions: String,
    /// The variable with a SOCKS proxy that is left alone.
    pub(super) left_alone: Option<String>,
    ca_bundle: Option<CaBundle>,
}

/// A proxy that a variable names.
#[derive(Clone)]
struct ProxySetting {
    /// The variable as it is spelt.
    variable: String,
    /// A URL with its scheme; may hold a password.
    url: String,
}

/// A PEM file with certificate authorities.
#[derive(Clone, Debug)]
struct CaBundle {
    path: PathBuf,
    /// Who names it.
    origin: String,
}

impl ProxySetting {
    /// The URL without user and password.
    fn shown(&self) -> String {
        match url::Url::parse(&self.url) {
            Ok(mut url) => {
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.as_str().trim_end_matches('/').to_owned()
            }
            // Not even the beginning is safe to show.
            Err(_) => "…".to_owned(),
        }
    }
}

// The URL may hold a password.
impl fmt::Debug for ProxySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.shown(), self.variable)
    }
}

impl Network {
    /// What the environment and AWS profile `profile` say. Of two spellings of a variable the lower-case one wins, as in curl;
    /// `AWS_CA_BUNDLE` stands in place of the profile's `ca_bundle`, as for the AWS CLI.
    pub(super) fn of(env: &Env, files: &AwsFiles, profile: &str, paths: &Paths) -> Self {
        let variable = |name: &str| {
            [name.to_ascii_lowercase(), name.to_owned()]
                .into_iter()
                .find_map(|name| Some((env.var(&name)?.to_owned(), name)))
        };
        let setting = |(value, variable): (String, String)| ProxySetting {
            url: if value.contains("://") {
                value
            } else {
                format!("http://{value}")
            },
            variable,
        };
        let mut network = Self {
            exceptions: variable("NO_PROXY").unwrap_or_default().0,
            ..Self::default()
        };
        network.proxy = variable("HTTPS_PROXY").map(setting).or_else(|| {
            let all = variable("ALL_PROXY").map(setting)?;
            // Set for other programs: what `ops` cannot use is no reason to stop, since nobody said that it shall be used for HTTPS.
            if all.url.starts_with("socks") {
                network.left_alone = Some(all.variable);
                return None;
            }
            Some(all)
        });
        network.ca_bundle = match env.path("AWS_CA_BUNDLE") {
            Some(path) => Some(CaBundle {
                path,
                origin: "AWS_CA_BUNDLE".to_owned(),
            }),
            None => files.get(profile, "ca_bundle").map(|path| CaBundle {
                path: paths.expand(path),
                origin: files
                    .place(profile, "ca_bundle")
                    .map_or_else(String::new, |place| format!("`ca_bundle` in {place}")),
            }),
        };
        network
    }

    /// The proxy in words, if `host` is reached by way of one: its URL without a password, and the variable.
    pub(super) fn proxy_for(&self, host: &str) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        self.for_sessions()
            .is_for(host, 443)
            .then(|| format!("the proxy `{}` of {}", proxy.shown(), proxy.variable))
    }

    /// For the web socket of a session.
    pub(crate) fn for_sessions(&self) -> Proxy {
        Proxy::new(
            self.proxy.as_ref().map(|proxy| proxy.url.clone()),
            &self.exceptions,
        )
    }

    /// The variable that names the proxy, or would.
    pub(crate) fn proxy_variable(&self) -> &str {
        self.proxy
            .as_ref()
            .map_or("HTTPS_PROXY", |proxy| &proxy.variable)
    }

    /// The file of further certificate authorities.
    pub(crate) fn ca_bundle(&self) -> Option<PathBuf> {
        Some(self.ca_bundle.as_ref()?.path.clone())
    }

    /// For calls of the services. Endpoints of plain HTTP are on loopback or of a test: they are reached without a proxy.
    pub(super) fn for_calls(&self) -> Result<ProxyConfig> {
        let Some(proxy) = &self.proxy else {
            return Ok(ProxyConfig::disabled());
        };
        let fail = || {
            Error::usage(format!(
                "the proxy setting {} cannot be used",
                proxy.variable
            ))
            .hint(format!("write {}=http://HOST:PORT", proxy.variable))
        };
        if proxy.url.starts_with("socks") {
            return Err(
                fail().caused_by("it names a SOCKS proxy; only http and https ones are used")
            );
        }
        Ok(ProxyConfig::https(&proxy.url)
            .map_err(|error| fail().caused_by(error))?
            .no_proxy(&self.exceptions))
    }

    /// The system's certificate authorities and those of the file.
    pub(super) fn trust_store(&self) -> Result<TrustStore> {
        let mut store = TrustStore::default();
        let Some(CaBundle { path, origin }) = &self.ca_bundle else {
            return Ok(store);
        };
        let fail = || {
            Error::usage(format!(
                "cannot use the certificates of {origin}, `{}`",
                path.display()
            ))
            .hint("name a PEM file there, or nothing")
        };
        let pem = std::fs::read(path).map_err(|error| fail().caused_by(error))?;
        // The TLS library panics on what it cannot parse.
        let text = String::from_utf8_lossy(&pem);
        let mut certificates = 0;
        for block in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
            let Some((body, _)) = block.split_once("-----END CERTIFICATE-----") else {
                return Err(fail().caused_by("a certificate has no end line"));
            };
            let compact: String = body.split_whitespace().collect();
            if base64::engine::general_purpose::STANDARD
                .decode(&compact)
                .is_err()
            {
                return Err(fail().caused_by("a certificate is not base64"));
            }
            store.add_pem_certificate(format!(
                "-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n"
            ));
            certificates += 1;
        }
        if certificates == 0 {
            return Err(fail().caused_by("the file has no certificate"));
        }
        Ok(store)
    }
}
