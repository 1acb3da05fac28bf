//! What bytes go over: a socket, or TLS over one.

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream of whatever layers.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}
