//! HTTP answers.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;

/// The body of an answer: bytes at hand, or a file as it is read.
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// An answer before its request id is known.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Body,
}

impl Reply {
    pub(crate) fn new(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static(content_type))],
            body: full(body),
        }
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: full(Bytes::new()),
        }
    }

    pub(crate) fn xml(status: StatusCode, body: String) -> Self {
        Self::new(status, "text/xml;charset=UTF-8", body)
    }

    pub(crate) fn amz_json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self::new(status, "application/x-amz-json-1.1", body.to_string())
    }

    pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", format!("{body}\n"))
    }

    pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// Adds a header; a value that no header can hold is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn into_response(self, request_id: &str) -> http::Response<Body> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            // The JSON and query services use the first, S3 the second.
            for name in ["x-amzn-requestid", "x-amz-request-id"] {
                response
                    .headers_mut()
                    .insert(HeaderName::from_static(name), id.clone());
            }
        }
        response
    }
}

pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A body read from `file` as it is sent, at most `len_bytes` of it.
pub(crate) fn file(file: tokio::fs::File, len_bytes: u64) -> Body {
    use tokio::io::AsyncReadExt as _;
    let chunks = futures_util::stream::try_unfold(file.take(len_bytes), |mut file| async move {
        let mut chunk = vec![0; 64 * 1024];
        let count = file.read(&mut chunk).await?;
        chunk.truncate(count);
        Ok::<_, std::io::Error>((count > 0).then(|| (Bytes::from(chunk), file)))
    });
    BoxBody::new(StreamBody::new(SyncStream(Box::pin(
        chunks.map_ok(Frame::data),
    ))))
}

type Frames = std::pin::Pin<
    Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync>,
>;

/// Names the stream's type, so that the body can be boxed.
struct SyncStream(Frames);

impl futures_util::Stream for SyncStream {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}
