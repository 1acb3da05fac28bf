//! TLS and proxies: `wss://` on loopback with a certificate of our own.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use ops_session::driver::{self, OpenError, Options, Proxy};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::server::{AgentSide, Server, opening, options, soon};

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls")).join(name)
}

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(data("server.pem"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(data("server-key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config).into()
}

fn trusting() -> Options {
    Options {
        extra_roots: Some(data("authority.pem")),
        ..options()
    }
}

async fn accept(server: &Server) -> AgentSide<TlsStream<TcpStream>> {
    let stream = acceptor().accept(server.tcp().await).await.unwrap();
    Box::pin(AgentSide::accept(stream)).await
}

/// Takes one CONNECT, answers with `status`, then passes bytes on to `onward`. Returns the
/// request's head.
async fn proxy(listener: TcpListener, status: &str, onward: Option<String>) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        stream.read_line(&mut head).await.unwrap();
    }
    let answer = format!("HTTP/1.1 {status}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    if let Some(onward) = onward {
        let mut onward = TcpStream::connect(onward).await.unwrap();
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        });
    }
    head
}

fn wss(server: &Server) -> (String, String) {
    let url = server.url.replace("ws://", "wss://");
    let address = url[6..].split('/').next().unwrap().to_owned();
    (url, address)
}

#[tokio::test]
async fn a_session_over_tls_trusts_the_extra_authorities() {
    let server = Server::start().await;
    let (url, _) = wss(&server);
    let open = driver::open(opening(&url), server.service.clone(), trusting());
    let serve = accept(&server);
    let (opened, far) = tokio::join!(soon(open), soon(serve));
    opened.unwrap();
    assert_eq!(far.open["TokenValue"], "token-1");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_before_the_token_is_sent() {
    let server = Server::start().await;
    let (url, _) = wss(&server);
    let open = driver::open(opening(&url), server.service.clone(), options());
    let serve = async { acceptor().accept(server.tcp().await).await.is_err() };
    let (opened, refused) = tokio::join!(soon(open), soon(serve));
    assert!(
        matches!(opened, Err(OpenError::Tls { .. } | OpenError::NoRoots)),
        "{opened:?}"
    );
    assert!(refused);
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect_and_carries_the_session() {
    let server = Server::start().await;
    let (url, address) = wss(&server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setting = format!("http://ann:s%40cret@{}", listener.local_addr().unwrap());
    let options = Options {
        proxy: Proxy::new(Some(setting), "10.0.0.0/8,.example.com"),
        ..trusting()
    };
    let open = driver::open(opening(&url), server.service.clone(), options);
    let serve = accept(&server);
    let (opened, far, head) = tokio::join!(
        soon(open),
        soon(serve),
        soon(proxy(
            listener,
            "200 Connection established",
            Some(address.clone())
        ))
    );
    opened.unwrap();
    assert_eq!(far.open["TokenValue"], "token-1");
    assert!(head.starts_with(&format!("CONNECT {address} HTTP/1.1\r\n")));
    let credentials = base64::engine::general_purpose::STANDARD.encode("ann:s@cret");
    assert!(head.contains(&format!("Proxy-Authorization: Basic {credentials}\r\n")));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let server = Server::start().await;
    let (url, _) = wss(&server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_address = listener.local_addr().unwrap().to_string();
    let options = Options {
        proxy: Proxy::new(Some(format!("http://ann:secret@{proxy_address}")), ""),
        ..trusting()
    };
    let open = driver::open(opening(&url), server.service.clone(), options);
    let (opened, _) = tokio::join!(
        soon(open),
        soon(proxy(listener, "407 Proxy Authentication Required", None))
    );
    let Err(error) = opened else {
        panic!("it opened");
    };
    assert_eq!(
        error.to_string(),
        format!("the proxy `{proxy_address}` refused the connection with status 407")
    );
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_used_is_named() {
    let server = Server::start().await;
    let (url, _) = wss(&server);
    let options = Options {
        extra_roots: Some(data("README.md")),
        ..options()
    };
    let opened = driver::open(opening(&url), server.service.clone(), options).await;
    let Err(error @ OpenError::Roots { .. }) = opened else {
        panic!("{opened:?}");
    };
    assert!(error.to_string().contains("README.md"), "{error}");
}
