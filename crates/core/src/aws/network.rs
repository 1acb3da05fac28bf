//! What stands between this machine and AWS: a proxy, and certificate authorities beside the
//! system's.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use aws_smithy_http_client::{proxy::ProxyConfig, tls::TrustStore};
use base64::Engine as _;
use ops_session::driver::Proxy;

use ops_profile::aws_files::AwsFiles;
use ops_ui::{Env, Error, Paths, Result, hint};

/// How long a proxy has to explain why it failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Longest first line of its answer.
const ANSWER_BYTES: u64 = 200;

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

/// A proxy that is between this machine and a host.
#[derive(Clone, Debug)]
pub(crate) struct ByProxy {
    proxy: ProxySetting,
    host: String,
}

impl fmt::Display for ByProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProxySetting { variable, .. } = &self.proxy;
        write!(f, "the proxy `{}` of {variable}", self.proxy.shown())
    }
}

impl ByProxy {
    /// `why` no connection came about, or what the proxy answers where it opens no tunnel.
    pub(super) fn explain(&self, why: String) -> String {
        // The SDK's HTTP client says no more than this of an answer that opens no tunnel.
        let answer = why.contains("tunnel").then(|| self.answer()).flatten();
        answer.map_or(why, |answer| format!("it answers `{answer}`"))
    }

    /// The first line that the proxy answers when it is asked for the host; `None` where it does
    /// not answer, or is asked by TLS.
    ///
    /// Waits for no more than a moment, on the thread that it is called on: it explains a failure
    /// and is no part of what works.
    fn answer(&self) -> Option<String> {
        let url = url::Url::parse(&self.proxy.url)
            .ok()
            .filter(|url| url.scheme() == "http")?;
        let address = url.socket_addrs(|| None).ok()?.into_iter().next()?;
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).ok()?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
        let mut request = format!("CONNECT {0}:443 HTTP/1.1\r\nHost: {0}:443\r\n", self.host);
        if !url.username().is_empty() {
            let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
            let pair = format!(
                "{}:{}",
                decode(url.username()),
                decode(url.password().unwrap_or_default())
            );
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            request.push_str(&format!("Proxy-Authorization: Basic {pair}\r\n"));
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).ok()?;
        let mut line = String::new();
        let _ = BufReader::new(stream.take(ANSWER_BYTES)).read_line(&mut line);
        Some(line.trim().to_owned()).filter(|line| !line.is_empty())
    }
}

impl Network {
    /// What the environment and AWS profile `profile` say. `AWS_CA_BUNDLE` stands in place of the
    /// profile's `ca_bundle`, as for the AWS CLI.
    pub(super) fn of(env: &Env, files: &AwsFiles, profile: &str, paths: &Paths) -> Self {
        let setting = |(value, variable): (&str, String)| ProxySetting {
            url: if value.contains("://") {
                value.to_owned()
            } else {
                format!("http://{value}")
            },
            variable,
        };
        let mut network = Self {
            exceptions: env
                .either_case("NO_PROXY")
                .map_or_else(String::new, |(exceptions, _)| exceptions.to_owned()),
            ..Self::default()
        };
        network.proxy = env.either_case("HTTPS_PROXY").map(setting).or_else(|| {
            let all = env.either_case("ALL_PROXY").map(setting)?;
            // Set for other programs: what `ops` cannot use is no reason to stop, since nobody said
            // that it shall be used for HTTPS.
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

    /// The proxy, if `host` is reached by way of one.
    pub(crate) fn proxy_for(&self, host: &str) -> Option<ByProxy> {
        let proxy = self.proxy.as_ref()?;
        self.for_sessions().is_for(host, 443).then(|| ByProxy {
            proxy: proxy.clone(),
            host: host.to_owned(),
        })
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

    /// For calls of the services. Endpoints of plain HTTP are on loopback or of a test: they are
    /// reached without a proxy.
    pub(super) fn for_calls(&self) -> Result<ProxyConfig> {
        let Some(proxy) = &self.proxy else {
            return Ok(ProxyConfig::disabled());
        };
        let fail = || {
            Error::usage(format!(
                "the proxy setting {} cannot be used",
                proxy.variable
            ))
            .hint(hint!("write {}=http://HOST:PORT", proxy.variable))
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
