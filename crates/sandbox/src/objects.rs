//! Where the objects of the minimal S3 are kept on this disk.

use std::path::{Path, PathBuf};

use crate::sigv4::sha256_hex;

/// Where an object is kept. Keys may be longer than file names and hold anything.
pub(crate) fn object_path(objects: &Path, bucket: &str, key: &str) -> PathBuf {
    objects.join(sha256_hex(format!("{bucket}/{key}").as_bytes()))
}
