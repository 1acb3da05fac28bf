//! The one HTTP client of all service clients: proxies and extra certificate authorities of the environment, connections shared.

use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{SharedHttpClient, SharedHttpConnector},
    runtime_components::RuntimeComponents,
};

use super::plain_http;
use crate::{
    env::Env,
    error::{Error, Result},
};

/// Builds the client. With `plain` it speaks HTTP only and needs no certificate store: for endpoints on loopback. Plain HTTP to other machines is
/// refused unless `allow_plain`.
///
/// # Errors
/// `AWS_CA_BUNDLE` names a file that cannot be read or holds no certificate; `HTTPS_PROXY` is no URL.
pub(crate) fn client(env: &Env, plain: bool, allow_plain: bool) -> Result<SharedHttpClient> {
    let client = if plain {
        Builder::new().build_http()
    } else {
        tls_client(env)?
    };
    Ok(plain_http::guard_client(client, allow_plain))
}

fn tls_client(env: &Env) -> Result<SharedHttpClient> {
    let trust = trust_store(env)?;
    let proxy = proxy(env)?;
    Ok(
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder().proxy_config(proxy.clone());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
            let mut connector = connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            if let Ok(context) = TlsContext::builder()
                .with_trust_store(trust.clone())
                .build()
            {
                connector.set_tls_context(context);
            }
            connector.build()
        }),
    )
}

/// One connector for a request that is no AWS call, with the same proxies and certificate authorities.
///
/// # Errors
/// As [`client`].
pub(crate) fn connector(env: &Env, plain: bool, allow_plain: bool) -> Result<SharedHttpConnector> {
    let connector = if plain {
        Connector::builder().build_http()
    } else {
        tls_connector(env)?
    };
    Ok(plain_http::guard_connector(connector, allow_plain))
}

fn tls_connector(env: &Env) -> Result<Connector> {
    let context = TlsContext::builder()
        .with_trust_store(trust_store(env)?)
        .build()
        .map_err(|error| Error::unexpected("TLS cannot be set up").caused_by(error))?;
    Ok(Connector::builder()
        .proxy_config(proxy(env)?)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build())
}

fn trust_store(env: &Env) -> Result<TrustStore> {
    let store = TrustStore::default();
    let Some(path) = env.path("AWS_CA_BUNDLE") else {
        return Ok(store);
    };
    let fail = || {
        Error::usage(format!(
            "cannot use the certificates of AWS_CA_BUNDLE, `{}`",
            path.display()
        ))
        .hint("name a PEM file, or unset AWS_CA_BUNDLE")
    };
    let pem = std::fs::read(&path).map_err(|error| fail().caused_by(error))?;
    // The TLS library panics on what it cannot parse.
    let text = String::from_utf8_lossy(&pem);
    let mut certificates = 0;
    let mut store = store;
    for block in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let Some((body, _)) = block.split_once("-----END CERTIFICATE-----") else {
            return Err(fail().caused_by("a certificate has no end line"));
        };
        use base64::Engine as _;
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

/// The proxy settings of `env`.
fn proxy(env: &Env) -> Result<ProxyConfig> {
    let Some(url) = env.https_proxy() else {
        return Ok(ProxyConfig::disabled());
    };
    // Plain-HTTP endpoints are loopback or test servers: no proxy for those.
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    Ok(ProxyConfig::https(&url)
        .map_err(|error| {
            Error::usage("the proxy setting HTTPS_PROXY cannot be used")
                .caused_by(error)
                .hint("write HTTPS_PROXY=http://HOST:PORT")
        })?
        .no_proxy(env.no_proxy()))
}
