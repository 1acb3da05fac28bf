//! Bytes of many clients and of large files.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    sync::mpsc,
    thread,
};

use ops_tests::service::PATIENCE;

use crate::{
    far::{download, echo, pattern, serve, store, upload},
    tunnel::{Forward, service, spec},
};

#[test]
fn fifty_clients_keep_their_http_connections() {
    let port = serve(|stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        let mut writer = stream;
        let mut line = String::new();
        let mut path = String::new();
        while reader.read_line(&mut line).is_ok_and(|len| len > 0) {
            if let Some(rest) = line.strip_prefix("GET ") {
                path = rest.split(' ').next().unwrap_or_default().to_owned();
            } else if line == "\r\n" {
                let body = path.repeat(300);
                let _ = write!(
                    writer,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
            line.clear();
        }
    });
    let service = service();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    thread::scope(|scope| {
        for client in 0..50 {
            let stream = forward.connect();
            scope.spawn(move || {
                let mut writer = stream.try_clone().expect("a clone");
                let mut reader = BufReader::new(stream);
                for request in 0..10 {
                    let path = format!("/{client}/{request}");
                    write!(writer, "GET {path} HTTP/1.1\r\nHost: web\r\n\r\n").expect("it is sent");
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        reader.read_line(&mut line).expect("a head");
                    }
                    let mut body = vec![0; path.len() * 300];
                    reader.read_exact(&mut body).expect("a body");
                    assert_eq!(body, path.repeat(300).into_bytes());
                }
            });
        }
    });
    forward.end();
}

#[test]
fn a_large_download_and_upload_arrive_whole() {
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    upload(forward.port(0), 256 << 20);
    download(forward.port(0), 256 << 20);
    forward.end();
    assert!(
        service
            .sessions()
            .iter()
            .all(|status| status == "Terminated")
    );
}

#[test]
fn a_hundred_connections_at_once() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let streams: Vec<_> = (0..100).map(|_| forward.connect()).collect();
    thread::scope(|scope| {
        for (number, mut stream) in streams.into_iter().enumerate() {
            scope.spawn(move || {
                let sent = pattern(number, 20_000);
                let mut writer = stream.try_clone().expect("a clone");
                let bytes = sent.clone();
                let writing = thread::spawn(move || writer.write_all(&bytes).expect("it is sent"));
                let mut back = vec![0; sent.len()];
                stream.read_exact(&mut back).expect("an echo");
                writing.join().expect("the writer");
                assert!(back == sent, "connection {number}");
            });
        }
    });
    forward.end();
}

#[test]
fn a_client_that_stops_sending_gets_the_whole_answer() {
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    stream.write_all(b"300000\n").expect("it is sent");
    stream.shutdown(Shutdown::Write).expect("a half-close");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer");
    assert!(answer == pattern(0, 300_000));
    forward.end();
}

#[test]
fn a_client_that_goes_away_is_gone_for_the_destination_too() {
    let service = service();
    let (gone, seen) = mpsc::channel();
    let port = serve(move |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
        let _ = gone.send(());
    });
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    stream.write_all(b"x").expect("it is sent");
    drop(stream);
    seen.recv_timeout(PATIENCE).expect("the close is passed on");
    forward.end();
}
