//! What an endpoint may make a call hold in memory, and how long it may take.
//!
//! The SDK reads the body of an answer to its end whatever its length, and its own time limits stop
//! at the head of an answer: an endpoint that streams for ever, or sends a byte every few seconds,
//! would keep a command for ever. Every HTTP client of `ops` is therefore wrapped: the wrapper
//! reads the whole body itself, within [`AnswerBounds`], before the SDK sees any of it.

use std::{fmt, time::Duration};

use aws_smithy_runtime_api::client::{
    connector_metadata::ConnectorMetadata,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream, config_bag::ConfigBag};

use super::last_try::{LastTry, host_of};

/// The longest that one call may take, its repetitions and the pauses between them included.
/// `--timeout` shortens it.
///
/// A page of a thousand instances has about 8 MB, which takes this long at half a megabit a second.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(120);
/// Longest pause within an answer: the same as before its head.
const SILENCE: Duration = super::READ_TIMEOUT;
/// The largest answer of EC2, in bytes. A page has a thousand instances; with fifty tags each, all
/// of full length, it comes to some 30 MB.
const EC2_ANSWER_BYTES: usize = 64 << 20;
/// The largest answer of any other service, in bytes. The largest honest one is a page of fifty
/// agents, some 50 kB.
const ANSWER_BYTES: usize = 4 << 20;
/// What is reserved before any byte of a body has come, in bytes: an announced length is not
/// believed beyond it.
const RESERVED_BYTES: usize = 1 << 20;

/// What one exchange of a request for an answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerBounds {
    /// Length of the body.
    pub(crate) bytes: usize,
    /// From the request to the last byte of the answer.
    pub(crate) time: Duration,
}

impl AnswerBounds {
    /// Those of EC2, whose pages are long; `timeout` is `--timeout`.
    pub(crate) fn of_ec2(timeout: Option<Duration>) -> Self {
        Self {
            bytes: EC2_ANSWER_BYTES,
            time: call_limit(timeout),
        }
    }

    /// Those of every other service.
    pub(crate) fn usual(timeout: Option<Duration>) -> Self {
        Self {
            bytes: ANSWER_BYTES,
            time: call_limit(timeout),
        }
    }
}

/// How long a call may take where `--timeout` is `timeout`.
pub(crate) fn call_limit(timeout: Option<Duration>) -> Duration {
    timeout.map_or(CALL_LIMIT, |timeout| timeout.min(CALL_LIMIT))
}

/// Why an answer was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BoundsError {
    #[error("the answer is longer than {} MiB, which no honest one is", .0 >> 20)]
    TooLarge(usize),
    #[error("the answer was not complete within {0:?}")]
    TooSlow(Duration),
    #[error("the answer stopped in its middle for {0:?}")]
    Stopped(Duration),
}

/// `client` with every answer held within `bounds`, and the failure of a try kept in `last_try`.
pub(crate) fn bounded(
    client: &SharedHttpClient,
    bounds: AnswerBounds,
    last_try: &LastTry,
) -> SharedHttpClient {
    SharedHttpClient::new(BoundedClient {
        inner: client.clone(),
        bounds,
        last_try: last_try.clone(),
    })
}

/// `connector` with every answer held within `bounds`; for requests that no client of the SDK
/// makes.
pub(crate) fn bounded_connector(
    connector: impl HttpConnector + 'static,
    bounds: AnswerBounds,
) -> SharedHttpConnector {
    SharedHttpConnector::new(BoundedConnector {
        inner: SharedHttpConnector::new(connector),
        bounds,
        // Who makes requests without the SDK repeats them, too, and knows each failure.
        last_try: LastTry::default(),
    })
}

struct BoundedClient {
    inner: SharedHttpClient,
    bounds: AnswerBounds,
    last_try: LastTry,
}

impl fmt::Debug for BoundedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedClient")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

impl HttpClient for BoundedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector {
            inner: self.inner.http_connector(settings, components),
            bounds: self.bounds,
            last_try: self.last_try.clone(),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // The inner client makes its connector here, before the first call waits for it.
        self.inner.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.inner.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

#[derive(Debug)]
struct BoundedConnector {
    inner: SharedHttpConnector,
    bounds: AnswerBounds,
    last_try: LastTry,
}

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (inner, bounds, last_try) = (self.inner.clone(), self.bounds, self.last_try.clone());
        HttpConnectorFuture::new(async move {
            let host = host_of(&request);
            let outcome = exchange(inner, request, bounds).await;
            last_try.note(&host, &outcome);
            outcome
        })
    }
}

async fn exchange(
    inner: SharedHttpConnector,
    request: HttpRequest,
    bounds: AnswerBounds,
) -> Result<HttpResponse, ConnectorError> {
    let exchange = async {
        let mut response = inner.call(request).await?;
        let body = response.take_body();
        let bytes = read_bounded(body, bounds.bytes, SILENCE).await?;
        *response.body_mut() = SdkBody::from(bytes);
        Ok(response)
    };
    match tokio::time::timeout(bounds.time, exchange).await {
        Ok(result) => result,
        Err(_) => Err(refused(BoundsError::TooSlow(bounds.time))),
    }
}

/// The whole of `body`: at most `most` bytes, and never silent for as long as `silence`.
async fn read_bounded(
    body: SdkBody,
    most: usize,
    silence: Duration,
) -> Result<Vec<u8>, ConnectorError> {
    let announced = body.content_length();
    if announced.is_some_and(|len| len > most as u64) {
        return Err(refused(BoundsError::TooLarge(most)));
    }
    let reserved = announced.map_or(0, |len| usize::try_from(len).unwrap_or(0));
    let mut whole = Vec::with_capacity(reserved.min(RESERVED_BYTES));
    let mut stream = ByteStream::new(body);
    loop {
        let piece = tokio::time::timeout(silence, stream.next())
            .await
            .map_err(|_| refused(BoundsError::Stopped(silence)))?;
        match piece {
            None => return Ok(whole),
            Some(Ok(piece)) if piece.len() > most - whole.len() => {
                return Err(refused(BoundsError::TooLarge(most)));
            }
            Some(Ok(piece)) => whole.extend_from_slice(&piece),
            // A connection that broke off: the SDK tries the call again.
            Some(Err(error)) => return Err(ConnectorError::io(error.into())),
        }
    }
}

/// An error of the kind that the SDK does not repeat: the endpoint would do the same again.
fn refused(error: BoundsError) -> ConnectorError {
    ConnectorError::other(error.into(), None)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use hyper::body::{Body, Frame};

    use super::*;

    /// The same piece over and over.
    struct Endless(Bytes);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
        }
    }

    /// Never a piece.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    fn why(error: ConnectorError) -> BoundsError {
        *error
            .into_source()
            .downcast::<BoundsError>()
            .expect("an error of the bounds")
    }

    #[tokio::test]
    async fn a_body_within_its_bound_is_read_whole() {
        let body = SdkBody::from(vec![7; 1000]);
        assert_eq!(
            read_bounded(body, 1000, SILENCE).await.expect("read"),
            [7; 1000]
        );
    }

    #[tokio::test]
    async fn a_body_without_end_is_given_up_at_its_bound() {
        let body = SdkBody::from_body_1_x(Endless(Bytes::from_static(&[0; 64])));
        let error = read_bounded(body, 1 << 20, SILENCE)
            .await
            .expect_err("too large");
        assert_eq!(why(error), BoundsError::TooLarge(1 << 20));
    }

    #[tokio::test]
    async fn an_announced_length_beyond_the_bound_is_not_waited_for() {
        let body = SdkBody::from(vec![7; 1001]);
        let error = read_bounded(body, 1000, SILENCE)
            .await
            .expect_err("too large");
        assert_eq!(why(error), BoundsError::TooLarge(1000));
    }

    #[tokio::test]
    async fn a_body_that_stops_is_given_up() {
        let silence = Duration::from_millis(1);
        let error = read_bounded(SdkBody::from_body_1_x(Silent), 1000, silence)
            .await
            .expect_err("silent");
        assert_eq!(why(error), BoundsError::Stopped(silence));
    }

    #[test]
    fn a_time_limit_shortens_a_call_and_never_lengthens_it() {
        assert_eq!(call_limit(None), CALL_LIMIT);
        assert_eq!(
            call_limit(Some(Duration::from_secs(3))),
            Duration::from_secs(3)
        );
        assert_eq!(call_limit(Some(Duration::from_secs(999))), CALL_LIMIT);
    }
}
