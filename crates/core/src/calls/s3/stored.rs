//! Objects that somebody else has put into a bucket, and that stay there.

use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use ops_ui::{Error, Result};
use percent_encoding::utf8_percent_encode;

use super::{Bucket, KEY, Pull, URL_LIFETIME};

impl Bucket {
    /// The object with this key: its length in bytes, as S3 tells it, and its bytes as they
    /// arrive; `None` where there is none.
    ///
    /// # Errors
    /// A denial, with the IAM statement; a connection that is lost. S3 tells a caller who may not
    /// list the bucket of a denial where there is no object.
    pub async fn stored(&self, key: &str) -> Result<Option<(u64, Pull)>> {
        let inner = &self.0;
        let url = format!("{}/{}", inner.url, utf8_percent_encode(key, KEY));
        let what = format!("cannot get an object from the bucket `{}`", inner.name);
        let url = inner
            .cx
            .presign_s3("GET", &url, &inner.region, URL_LIFETIME)
            .await?;
        let answer = inner.send("GET", url, &[], SdkBody::empty(), &what).await?;
        if answer.status().as_u16() == 404 {
            return Ok(None);
        }
        let answer = inner.success(answer, "s3:GetObject", &what).await?;
        let length = answer.headers().get("content-length");
        let len = length
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| Error::unexpected(&what).caused_by("S3 does not tell its length"))?;
        let pull = Pull {
            stream: ByteStream::new(answer.into_body()),
            left: len,
            what,
        };
        Ok(Some((len, pull)))
    }
}
