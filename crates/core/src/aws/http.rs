//! The one HTTP client of all service clients: proxies and extra certificate authorities,
//! connections shared.

use aws_smithy_http_client::{
    Builder, Connector,
    tls::{Provider, TlsContext, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{SharedHttpClient, SharedHttpConnector},
    runtime_components::RuntimeComponents,
};
use ops_ui::{Error, Result};

use super::{network::Network, plain_http};

/// Builds the client. With `plain` it speaks HTTP only and needs no certificate store: for
/// endpoints on loopback. Plain HTTP to other machines is refused unless `allow_plain`.
///
/// # Errors
/// A file of certificate authorities that cannot be read or holds none; a proxy that cannot be
/// used.
pub(crate) fn client(
    network: &Network,
    plain: bool,
    allow_plain: bool,
) -> Result<SharedHttpClient> {
    let client = if plain {
        Builder::new().build_http()
    } else {
        tls_client(network)?
    };
    Ok(plain_http::guard_client(client, allow_plain))
}

fn tls_client(network: &Network) -> Result<SharedHttpClient> {
    let trust = network.trust_store()?;
    let proxy = network.for_calls()?;
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

/// One connector for a request that is no AWS call, with the same proxies and certificate
/// authorities.
///
/// # Errors
/// As [`client`].
pub(crate) fn connector(
    network: &Network,
    plain: bool,
    allow_plain: bool,
) -> Result<SharedHttpConnector> {
    let connector = if plain {
        Connector::builder().build_http()
    } else {
        tls_connector(network)?
    };
    Ok(plain_http::guard_connector(connector, allow_plain))
}

fn tls_connector(network: &Network) -> Result<Connector> {
    let context = TlsContext::builder()
        .with_trust_store(network.trust_store()?)
        .build()
        .map_err(|error| Error::unexpected("TLS cannot be set up").caused_by(error))?;
    Ok(Connector::builder()
        .proxy_config(network.for_calls()?)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build())
}
