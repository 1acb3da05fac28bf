//! Where a sandbox is the next time.

use super::*;

#[tokio::test]
async fn a_sandbox_that_comes_back_is_where_it_was_with_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        comes_back: true,
        ..Options::new(folder.path().join("state"))
    };
    let first = Sandbox::start(options()).await.unwrap();
    let (address, access) = (first.address(), first.access().clone());
    // Its port is taken as long as it is there.
    let beside = Sandbox::start(Options::new(folder.path().join("state")))
        .await
        .unwrap();
    assert_ne!(beside.address(), address);
    beside.stop().await;
    first.stop().await;

    let second = Sandbox::start(options()).await.unwrap();
    assert_eq!(second.address(), address);
    assert_eq!(second.access().access_key_id, access.access_key_id);
    assert_eq!(second.access().secret_access_key, access.secret_access_key);
    assert_ne!(second.access().admin_token, access.admin_token);

    // Where somebody else has the port by then, another does, with keys of its own.
    second.stop().await;
    let _taken = tokio::net::TcpListener::bind(address).await.unwrap();
    let third = Sandbox::start(options()).await.unwrap();
    assert_ne!(third.address(), address);
    assert_ne!(third.access().access_key_id, access.access_key_id);
    third.stop().await;
}
