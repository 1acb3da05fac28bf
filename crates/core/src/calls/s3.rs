//! Objects of a bucket that exist for the moment of a copy: put, got and deleted here by signed
//! requests, or by whoever holds a presigned URL.
//!
//! Not the SDK's client: it would be a large part of a build for three requests that the signer of
//! the SDK signs as well.

mod stored;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector as _, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use ops_ui::{Error, ErrorKind, Hint, Result, hint};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;

use crate::{
    BoxFuture,
    aws::{Meaning, Service, chain, http, meaning, wrong_clock_error},
    context::Context,
    partition::Partition,
};

/// How long a URL may be used: it is made when it is needed, and only the beginning of a request
/// counts.
const URL_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long nothing may come or go, and how long the head of an answer and its words may take.
/// `--timeout` shortens it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Body of an answer that is read for its words, in bytes.
const WORDS_BYTES: usize = 16 << 10;
/// What RFC 3986 leaves unescaped, and the slash.
const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// A bucket and the place in it for objects of the moment.
#[derive(Clone)]
pub struct Bucket(Arc<Inner>);

struct Inner {
    cx: Context,
    name: String,
    prefix: String,
    region: String,
    /// URL of the bucket, without a slash behind it.
    url: String,
    connector: SharedHttpConnector,
    /// [`PATIENCE`], or `--timeout` where that is shorter.
    patience: Duration,
}

impl Context {
    /// The bucket `name`, with `prefix` in front of its objects; asks for its region.
    ///
    /// # Errors
    /// No credentials; there is no such bucket; S3 does not answer.
    pub fn bucket<'a>(
        &'a self,
        name: &'a str,
        prefix: &'a str,
        region: &'a str,
    ) -> BoxFuture<'a, Result<Bucket>> {
        Box::pin(self.bucket_unboxed(name, prefix, region))
    }

    async fn bucket_unboxed(&self, name: &str, prefix: &str, region: &str) -> Result<Bucket> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        let own = aws.endpoint(Service::S3);
        let plain = own.as_deref().is_some_and(|url| url.starts_with("http://"));
        let connector = http::connector(&aws.network, plain, aws.options().allow_plain_http)?;
        let hosts = Hosts {
            fips: aws.uses_fips(),
            dual_stack: aws.uses_dual_stack(),
        };
        let mut inner = Inner {
            cx: self.clone(),
            name: name.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            region: region.to_owned(),
            url: url_of(own.as_deref(), name, region, hosts),
            connector,
            patience: aws
                .options()
                .timeout
                .map_or(PATIENCE, |timeout| timeout.min(PATIENCE)),
        };
        // HEAD tells the region whether it is allowed or not.
        let url = self
            .presign_s3("HEAD", &inner.url, region, URL_LIFETIME)
            .await?;
        let what = format!("cannot use the bucket `{name}`");
        let answer = inner
            .send("HEAD", url, &[], SdkBody::empty(), &what)
            .await?;
        match answer.status().as_u16() {
            404 => {
                return Err(Error::new(ErrorKind::NotFound, what)
                    .caused_by("there is no such bucket")
                    .hint("name another: `copy: { s3_bucket: … }` in the profile"));
            }
            status @ 500.. => {
                return Err(Error::unexpected(what).caused_by(format!("S3 answered {status}")));
            }
            _ => {}
        }
        if let Some(told) = answer.headers().get("x-amz-bucket-region")
            && told != inner.region
            && told.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            inner.region = told.to_owned();
            inner.url = url_of(own.as_deref(), name, told, hosts);
        }
        Ok(Bucket(Arc::new(inner)))
    }
}

/// Which of S3's hosts the AWS configuration asks for:
/// `use_fips_endpoint`, `use_dualstack_endpoint`.
#[derive(Clone, Copy, Debug, Default)]
struct Hosts {
    fips: bool,
    dual_stack: bool,
}

fn url_of(endpoint: Option<&str>, bucket: &str, region: &str, hosts: Hosts) -> String {
    if let Some(endpoint) = endpoint {
        return format!("{}/{bucket}", endpoint.trim_end_matches('/'));
    }
    let service = if hosts.fips { "s3-fips" } else { "s3" };
    let stack = if hosts.dual_stack { ".dualstack" } else { "" };
    let suffix = Partition::of(region).suffix;
    let host = format!("{service}{stack}.{region}.{suffix}");
    // A dot in the host's first label has no place in the service's certificate.
    if bucket.contains('.') {
        format!("https://{host}/{bucket}")
    } else {
        format!("https://{bucket}.{host}")
    }
}

impl Bucket {
    /// A new object, which does not exist yet.
    pub fn object(&self) -> Object {
        let random: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(24)
            .collect();
        let key = match &self.0.prefix[..] {
            "" => format!("ops-cp-{random}"),
            prefix => format!("{prefix}/ops-cp-{random}"),
        };
        Object {
            url: format!("{}/{}", self.0.url, utf8_percent_encode(&key, KEY)),
            bucket: self.clone(),
            exists: false,
        }
    }

    /// The whole of the object `key`, which somebody else has put, piece by piece; `None` where
    /// there is none.
    ///
    /// # Errors
    /// A denial, with the IAM statement; a connection that is lost.
    pub async fn read(&self, key: &str) -> Result<Option<WholePull>> {
        let inner = &self.0;
        let url = format!("{}/{}", inner.url, utf8_percent_encode(key, KEY));
        let signed = inner
            .cx
            .presign_s3("GET", &url, &inner.region, URL_LIFETIME)
            .await?;
        let what = format!("cannot read `{key}` of the bucket `{}`", inner.name);
        let answer = inner
            .send("GET", signed, &[], SdkBody::empty(), &what)
            .await?;
        if answer.status().as_u16() == 404 {
            return Ok(None);
        }
        let answer = inner.success(answer, "s3:GetObject", &what).await?;
        Ok(Some(WholePull {
            stream: ByteStream::new(answer.into_body()),
            what,
        }))
    }

    /// The IAM statement that copies through the bucket need.
    pub fn statement(&self) -> String {
        statement(&self.0.name, &self.0.prefix, &self.0.region)
    }
}

/// The IAM statement that copies through `prefix` in the bucket `name` need, in the partition of
/// `region`.
pub fn statement(name: &str, prefix: &str, region: &str) -> String {
    let partition = Partition::of(region).name;
    let prefix = match prefix.trim_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    format!(
        r#"{{"Effect":"Allow","Action":["s3:PutObject","s3:GetObject","s3:DeleteObject"],"Resource":"arn:{partition}:s3:::{name}/{prefix}*"}}"#
    )
}

/// An object of the moment. Dropped, it is deleted in the background, which the dispatcher waits
/// for.
pub struct Object {
    bucket: Bucket,
    url: String,
    exists: bool,
}

impl Object {
    /// A URL with which its holder may put the object, for a quarter of an hour. A secret.
    ///
    /// # Errors
    /// No credentials.
    pub async fn url_to_put(&mut self) -> Result<String> {
        self.exists = true;
        self.presigned("PUT").await
    }

    /// A URL with which its holder may get the object, for a quarter of an hour. A secret.
    ///
    /// # Errors
    /// No credentials.
    pub async fn url_to_get(&self) -> Result<String> {
        self.presigned("GET").await
    }

    /// Puts the object: `len` bytes, which come from `pieces`; an error among them is that of the
    /// call.
    ///
    /// # Errors
    /// A denial, with the IAM statement; a connection that is lost; fewer bytes than announced.
    pub fn put<'a>(
        &'a mut self,
        len: u64,
        pieces: mpsc::Receiver<Result<Bytes>>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.put_unboxed(len, pieces))
    }

    async fn put_unboxed(&mut self, len: u64, pieces: mpsc::Receiver<Result<Bytes>>) -> Result<()> {
        self.exists = true;
        let url = self.presigned("PUT").await?;
        let flow = Arc::new(Flow::default());
        let body = SdkBody::from_body_1_x(Pieces {
            pieces,
            left: len,
            flow: flow.clone(),
        });
        let what = format!(
            "cannot put an object into the bucket `{}`",
            self.bucket.0.name
        );
        let length = len.to_string();
        let headers = [("content-length", length.as_str())];
        let sending = self
            .bucket
            .0
            .send_unbounded("PUT", url, &headers, body, &what);
        let answer = tokio::select! {
            answer = sending => answer?,
            () = flow.stopped(PATIENCE) => {
                return Err(Error::unexpected(&what)
                    .caused_by(format!("S3 has taken nothing and answered nothing for {PATIENCE:?}"))
                    .hint("check the network, then try again"));
            }
        };
        self.bucket.0.success(answer, "s3:PutObject", &what).await?;
        Ok(())
    }

    /// `len` bytes of the object from `start`, piece by piece.
    ///
    /// # Errors
    /// As [`Object::put`].
    pub fn get<'a>(&'a self, start: u64, len: u64) -> BoxFuture<'a, Result<Pull>> {
        Box::pin(self.get_unboxed(start, len))
    }

    async fn get_unboxed(&self, start: u64, len: u64) -> Result<Pull> {
        let url = self.presigned("GET").await?;
        let what = format!(
            "cannot get an object from the bucket `{}`",
            self.bucket.0.name
        );
        let range = format!("bytes={start}-{}", start + len.max(1) - 1);
        let headers = [("range", range.as_str())];
        // Nothing has no range.
        let headers = if len == 0 {
            &headers[..0]
        } else {
            &headers[..]
        };
        let answer = self
            .bucket
            .0
            .send("GET", url, headers, SdkBody::empty(), &what)
            .await?;
        let answer = self.bucket.0.success(answer, "s3:GetObject", &what).await?;
        Ok(Pull {
            stream: ByteStream::new(answer.into_body()),
            left: len,
            what,
        })
    }

    /// Deletes the object.
    ///
    /// # Errors
    /// A denial; a connection that is lost. Then it is still there, and the text says where.
    pub fn delete(self) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.delete_unboxed())
    }

    async fn delete_unboxed(mut self) -> Result<()> {
        let existed = std::mem::take(&mut self.exists);
        if existed {
            self.delete_now().await?;
        }
        Ok(())
    }

    async fn delete_now(&self) -> Result<()> {
        let url = self.presigned("DELETE").await?;
        let place = self.url.rsplit('/').next().unwrap_or_default();
        let what = format!(
            "cannot delete the object `{place}` from the bucket `{}`",
            self.bucket.0.name
        );
        let answer = self
            .bucket
            .0
            .send("DELETE", url, &[], SdkBody::empty(), &what)
            .await?;
        self.bucket
            .0
            .success(answer, "s3:DeleteObject", &what)
            .await?;
        Ok(())
    }

    async fn presigned(&self, method: &str) -> Result<String> {
        let inner = &self.bucket.0;
        inner
            .cx
            .presign_s3(method, &self.url, &inner.region, URL_LIFETIME)
            .await
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if !self.exists {
            return;
        }
        let copy = Self {
            bucket: self.bucket.clone(),
            url: self.url.clone(),
            exists: false,
        };
        let cx = self.bucket.0.cx.clone();
        self.bucket.0.cx.interrupt().finish_later(async move {
            if let Err(error) = copy.delete_now().await {
                cx.output().warn(error);
            }
        });
    }
}

/// An object of unknown length as it arrives.
pub struct WholePull {
    stream: ByteStream,
    what: String,
}

impl WholePull {
    /// The next piece; `None` once all have come.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        next_piece(&mut self.stream, &self.what).await
    }
}

/// The next piece of a body; `None` at its end.
async fn next_piece(stream: &mut ByteStream, what: &str) -> Result<Option<Bytes>> {
    let broken = |why: String| Error::unexpected(what.to_owned()).caused_by(why);
    match tokio::time::timeout(PATIENCE, stream.next()).await {
        Err(_) => Err(broken("nothing has come for a minute".to_owned())),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(broken(chain(&error))),
        Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
    }
}

/// Bytes of an object as they arrive.
pub struct Pull {
    stream: ByteStream,
    left: u64,
    what: String,
}

impl Pull {
    /// The next piece; `None` once all have come.
    ///
    /// # Errors
    /// The connection is lost; fewer or more bytes than asked for.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let broken = |why: String| Error::unexpected(&self.what).caused_by(why);
        let Some(bytes) = next_piece(&mut self.stream, &self.what).await? else {
            return match self.left {
                0 => Ok(None),
                left => Err(broken(format!("{left} bytes are missing"))),
            };
        };
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| broken("more bytes came than were asked for".to_owned()))?;
        Ok(Some(bytes))
    }
}

impl Inner {
    async fn send(
        &self,
        method: &str,
        url: String,
        headers: &[(&'static str, &str)],
        body: SdkBody,
        what: &str,
    ) -> Result<HttpResponse> {
        let sending = self.send_unbounded(method, url, headers, body, what);
        let patience = self.patience;
        tokio::time::timeout(patience, sending).await.map_err(|_| {
            Error::unexpected(what.to_owned()).caused_by(format!("no answer within {patience:?}"))
        })?
    }

    /// Nothing of the URL may get into an error: whoever has it has the object.
    async fn send_unbounded(
        &self,
        method: &str,
        url: String,
        headers: &[(&'static str, &str)],
        body: SdkBody,
        what: &str,
    ) -> Result<HttpResponse> {
        let mut request = HttpRequest::new(body);
        let bad = || Error::unexpected(what.to_owned()).caused_by("its address is no URL");
        request.set_method(method).map_err(|_| bad())?;
        request.set_uri(url).map_err(|_| bad())?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, (*value).to_owned());
        }
        self.connector
            .call(request)
            .await
            .map_err(|error: ConnectorError| {
                Error::unexpected(what.to_owned())
                    .caused_by(chain(&error))
                    .hint("check the network: HTTPS to S3 must be open, or HTTPS_PROXY set")
            })
    }

    /// `answer` if it tells of success.
    async fn success(
        &self,
        answer: HttpResponse,
        action: &str,
        what: &str,
    ) -> Result<HttpResponse> {
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let mut stream = ByteStream::new(answer.into_body());
        let mut text = Vec::new();
        let words = async {
            while text.len() < WORDS_BYTES
                && let Some(Ok(bytes)) = stream.next().await
            {
                let left = WORDS_BYTES - text.len();
                text.extend_from_slice(&bytes[..bytes.len().min(left)]);
            }
        };
        // A byte now and then must not hold up the error: what has come by then is told.
        let _ = tokio::time::timeout(self.patience, words).await;
        let text = String::from_utf8_lossy(&text);
        let code = element(&text, "Code").unwrap_or("no code");
        let message = element(&text, "Message").unwrap_or_default();
        let said = format!("{action} answered {status} {code}: {message}");
        if meaning(code) == Meaning::Clock {
            return Err(wrong_clock_error(what, said));
        }
        if status == 403 {
            let partition = Partition::of(&self.region).name;
            let place = format!("arn:{partition}:s3:::{}/{}*", self.name, self.prefix);
            return Err(Error::new(ErrorKind::Denied, what.to_owned())
                .caused_by(said)
                .caused_by(format!("the caller lacks `{action}` on `{place}`"))
                .hint(hint!(
                    "ask for the IAM statement {}",
                    Hint::document(&statement(&self.name, &self.prefix, &self.region))
                )));
        }
        Err(Error::unexpected(what.to_owned()).caused_by(said))
    }
}

/// The text of the first element of this name in a small document without nesting of it.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside)
}

/// How far the pieces of a body have gone; shared with whoever waits for the answer.
#[derive(Default)]
struct Flow {
    /// Pieces taken by the connection so far.
    taken: AtomicU64,
    /// The connection would take another piece, which its source has not got yet.
    waits_for_source: AtomicBool,
}

impl Flow {
    /// Ends once the other side has neither taken a piece nor answered for `patience`. A slow
    /// source is not the other side's fault.
    async fn stopped(&self, patience: Duration) {
        let mut before = None;
        loop {
            let taken = self.taken.load(Ordering::Relaxed);
            let is_waiting = self.waits_for_source.load(Ordering::Relaxed);
            if !is_waiting && before == Some(taken) {
                return;
            }
            before = (!is_waiting).then_some(taken);
            tokio::time::sleep(patience).await;
        }
    }
}

/// A body of known length whose pieces come from elsewhere.
struct Pieces {
    pieces: mpsc::Receiver<Result<Bytes>>,
    left: u64,
    flow: Arc<Flow>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let next = self.pieces.poll_recv(task);
        self.flow
            .waits_for_source
            .store(next.is_pending(), Ordering::Relaxed);
        match std::task::ready!(next) {
            Some(Ok(bytes)) => {
                self.flow.taken.fetch_add(1, Ordering::Relaxed);
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None if self.left == 0 => Poll::Ready(None),
            None => Poll::Ready(Some(Err(Error::unexpected(
                "what was to be sent broke off",
            )))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
