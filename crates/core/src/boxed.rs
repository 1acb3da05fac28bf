//! How a future leaves the crate that wrote it.

use std::{future::Future, pin::Pin};

/// A future without its type, which is what a crate gives to another one.
///
/// The compiler makes the body of an `async fn` anew in every crate that awaits the function, with
/// all bodies that this one awaits in turn, and in release builds in each codegen unit of that
/// crate: the binary's crate took a minute for bodies of others alone. Boxed by a plain function,
/// a body is compiled where it was written. Functions that wait for the network come this way
/// (one allocation beside a round trip); those that move bytes stay as they are.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
