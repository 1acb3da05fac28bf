//! Keeps requests off plain HTTP: whoever is on the way would read the answers and could make up
//! others.
//!
//! Checked at the one place that every request passes, because an endpoint may come from a team
//! profile, a variable, a file of the AWS configuration, or from an answer.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::{
    connector_metadata::ConnectorMetadata,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    result::ConnectorError,
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::config_bag::ConfigBag;

use ops_profile::plain_http;

/// `client` that refuses plain HTTP, unless the profile allows it.
pub(super) fn guard_client(client: SharedHttpClient, allowed: bool) -> SharedHttpClient {
    if allowed {
        return client;
    }
    SharedHttpClient::new(Guarded(client))
}

/// `connector` that refuses plain HTTP, unless the profile allows it.
pub(super) fn guard_connector(
    connector: impl HttpConnector + 'static,
    allowed: bool,
) -> SharedHttpConnector {
    let connector = SharedHttpConnector::new(connector);
    if allowed {
        return connector;
    }
    SharedHttpConnector::new(Guarded(connector))
}

#[derive(Debug)]
struct Guarded<T>(T);

impl HttpClient for Guarded<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        // The client keeps its connectors, and with them their connections; what is put around them
        // is nothing.
        let connector = self.0.http_connector(settings, components);
        SharedHttpConnector::new(Guarded(connector))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

impl HttpConnector for Guarded<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match plain_http::check(request.uri()) {
            Ok(()) => self.0.call(request),
            Err(refused) => {
                HttpConnectorFuture::ready(Err(ConnectorError::user(Box::new(refused))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_to_elsewhere_is_never_sent() {
        #[derive(Debug)]
        struct Never;
        impl HttpConnector for Never {
            fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
                panic!("a request was sent");
            }
        }
        let connector = guard_connector(Never, false);
        let mut request = HttpRequest::empty();
        request.set_uri("http://moto:5000/").expect("a URI");
        let error = connector.call(request).await.expect_err("refused");
        assert!(error.is_user(), "{error:?}");
        assert!(super::super::chain(&error).contains("`moto` is plain http"));
    }
}
