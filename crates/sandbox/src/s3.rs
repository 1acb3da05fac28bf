//! A minimal S3: objects of named buckets, put, read whole or in part, and deleted, with signed
//! headers or presigned URLs.
//!
//! Paths are `/BUCKET/KEY`. Objects last as long as the sandbox. An ETag is no MD5 here, as it is
//! none for many objects of the real service.

use std::{
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use http::{HeaderName, Method, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use crate::{
    app::App,
    credentials::hex,
    error::ApiError,
    reply::{self, Reply},
    service::Service,
    sigv4::{Claim, UNSIGNED_PAYLOAD, sha256_hex},
};

/// The service's own limit for one request.
const OBJECT_BOUND_BYTES: u64 = 5 << 30;
const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// In front of the name of the folder that a process keeps its objects in.
pub(crate) fn folder_prefix(pid: u32) -> String {
    format!("objects-{pid}-")
}

/// Removes the folders of processes that ended without doing so.
pub(crate) fn remove_leftovers(state_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(state_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix("objects-"))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse().ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid
            && rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The payload hash that a request was signed with.
pub(crate) fn payload_hash(parts: &Parts, claim: &Claim) -> String {
    let header = parts
        .headers
        .get(CONTENT_SHA256)
        .and_then(|value| value.to_str().ok());
    match header {
        Some(hash) => hash.to_owned(),
        None if claim.is_presigned() => UNSIGNED_PAYLOAD.to_owned(),
        None => crate::sigv4::EMPTY_SHA256.to_owned(),
    }
}

/// As policies and logs name it.
pub(crate) fn action(method: &Method, path: &str) -> &'static str {
    let has_key = path.trim_start_matches('/').split_once('/').is_some();
    match (method, has_key) {
        (&Method::PUT, true) => "PutObject",
        (&Method::GET, true) => "GetObject",
        (&Method::HEAD, true) => "HeadObject",
        (&Method::DELETE, true) => "DeleteObject",
        (&Method::HEAD, false) => "HeadBucket",
        _ => "Unknown",
    }
}

/// Answers a request whose signature was good.
pub(crate) async fn answer(app: &App, parts: &Parts, body: Incoming) -> Result<Reply, ApiError> {
    let path = percent_decode_str(parts.uri.path().trim_start_matches('/'))
        .decode_utf8()
        .map_err(|_| ApiError::new("InvalidURI", "Couldn't parse the specified URI."))?;
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    if !app.fleet.file().buckets.iter().any(|name| name == bucket) {
        return Err(
            ApiError::new("NoSuchBucket", "The specified bucket does not exist")
                .with_status(StatusCode::NOT_FOUND),
        );
    }
    match action(&parts.method, &path) {
        "HeadBucket" => Ok(Reply::empty(StatusCode::OK)),
        "PutObject" => put(app, parts, body, bucket, key).await,
        "GetObject" => get(app, parts, bucket, key, true).await,
        "HeadObject" => get(app, parts, bucket, key, false).await,
        "DeleteObject" => {
            match tokio::fs::remove_file(object_path(&app.objects, bucket, key)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(ApiError::internal(Service::S3))
                }
                // Deleting what is not there is no error.
                _ => Ok(Reply::empty(StatusCode::NO_CONTENT)),
            }
        }
        _ => Err(ApiError::unknown_action(Service::S3, parts.method.as_str())),
    }
}

/// Where an object is kept. Keys may be longer than file names and hold anything.
pub(crate) fn object_path(objects: &Path, bucket: &str, key: &str) -> PathBuf {
    objects.join(sha256_hex(format!("{bucket}/{key}").as_bytes()))
}

async fn put(
    app: &App,
    parts: &Parts,
    mut body: Incoming,
    bucket: &str,
    key: &str,
) -> Result<Reply, ApiError> {
    let internal = |_: io::Error| ApiError::internal(Service::S3);
    let stated = parts
        .headers
        .get(CONTENT_SHA256)
        .and_then(|value| value.to_str().ok())
        .filter(|hash| *hash != UNSIGNED_PAYLOAD);
    if stated.is_some_and(|hash| hash.starts_with("STREAMING-")) {
        return Err(ApiError::unknown_action(Service::S3, "PutObject"));
    }
    let draft = tempfile::NamedTempFile::new_in(&app.objects).map_err(internal)?;
    let mut file = tokio::fs::File::from_std(draft.reopen().map_err(internal)?);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut len_bytes = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::new(
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP header",
            )
        })?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        len_bytes += chunk.len() as u64;
        if len_bytes > OBJECT_BOUND_BYTES {
            return Err(ApiError::new(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
            ));
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(internal)?;
    }
    file.flush().await.map_err(internal)?;
    let hash = hex(hash.finish().as_ref());
    if stated.is_some_and(|stated| stated != hash) {
        return Err(ApiError::new(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ));
    }
    draft
        .persist(object_path(&app.objects, bucket, key))
        .map_err(|error| internal(error.error))?;
    Ok(Reply::empty(StatusCode::OK).header(header::ETAG, &format!("\"{}\"", &hash[..32])))
}

async fn get(
    app: &App,
    parts: &Parts,
    bucket: &str,
    key: &str,
    wants_body: bool,
) -> Result<Reply, ApiError> {
    let internal = |_| ApiError::internal(Service::S3);
    let mut file = match tokio::fs::File::open(object_path(&app.objects, bucket, key)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(
                ApiError::new("NoSuchKey", "The specified key does not exist.")
                    .with_status(StatusCode::NOT_FOUND),
            );
        }
        Err(error) => return Err(internal(error)),
    };
    let metadata = file.metadata().await.map_err(internal)?;
    let whole = metadata.len();
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| jiff::Timestamp::try_from(time).ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let range = parts
        .headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("bytes="));
    let (status, start, len_bytes) = match range {
        None => (StatusCode::OK, 0, whole),
        Some(range) => {
            let (start, len_bytes) = resolve(range, whole).ok_or_else(|| {
                ApiError::new("InvalidRange", "The requested range is not satisfiable")
                    .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
            })?;
            (StatusCode::PARTIAL_CONTENT, start, len_bytes)
        }
    };
    file.seek(io::SeekFrom::Start(start))
        .await
        .map_err(internal)?;
    let mut reply = Reply::empty(status)
        .header(header::CONTENT_TYPE, "binary/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, &len_bytes.to_string())
        .header(
            header::LAST_MODIFIED,
            &modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        );
    if status == StatusCode::PARTIAL_CONTENT {
        let last = start + len_bytes.saturating_sub(1);
        reply = reply.header(
            HeaderName::from_static("content-range"),
            &format!("bytes {start}-{last}/{whole}"),
        );
    }
    if wants_body {
        reply.body = reply::file(file, len_bytes);
    }
    Ok(reply)
}

/// Start and length of `A-B`, `A-` or `-N` of `whole` bytes.
fn resolve(range: &str, whole: u64) -> Option<(u64, u64)> {
    let (first, last) = range.split_once('-')?;
    let (start, end) = if first.is_empty() {
        let count: u64 = last.parse().ok()?;
        (whole.saturating_sub(count), whole)
    } else {
        let end = match last {
            "" => whole,
            last => last.parse::<u64>().ok()?.saturating_add(1).min(whole),
        };
        (first.parse().ok()?, end)
    };
    (start < end).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = folder.path().join(folder_prefix(child.id()) + "x");
        let alive = folder.path().join(folder_prefix(std::process::id()) + "x");
        let other = folder.path().join("objects-of-mine");
        for path in [&dead, &alive, &other] {
            std::fs::create_dir(path).unwrap();
        }
        remove_leftovers(folder.path());
        assert!(!dead.exists() && alive.exists() && other.exists());
    }

    #[test]
    fn ranges_stay_within_the_object() {
        assert_eq!(resolve("0-0", 10), Some((0, 1)));
        assert_eq!(resolve("4-", 10), Some((4, 6)));
        assert_eq!(resolve("4-99", 10), Some((4, 6)));
        assert_eq!(resolve("-3", 10), Some((7, 3)));
        assert_eq!(resolve("-99", 10), Some((0, 10)));
        assert_eq!(resolve("10-", 10), None);
        assert_eq!(resolve("x", 10), None);
    }
}
