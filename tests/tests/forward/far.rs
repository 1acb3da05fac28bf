//! Servers on the far side, and clients of theirs.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use ops_tests::service::PATIENCE;

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout for reads");
    stream
}

/// A server on a port of its own; every connection gets a thread.
pub(crate) fn serve(handle: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || handle(stream));
        }
    });
    port
}

pub(crate) fn echo() -> u16 {
    serve(|mut stream| {
        let mut writer = stream.try_clone().expect("a clone");
        let _ = std::io::copy(&mut stream, &mut writer);
    })
}

/// Bytes that differ from their neighbours, and whose place matters.
pub(crate) fn pattern(at: usize, len: usize) -> Vec<u8> {
    (at..at + len)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}

pub(crate) const CHUNK: usize = 64 << 10;

/// `N\n` is answered with N bytes; `-N\n` and N bytes with their SHA-256.
pub(crate) fn store() -> u16 {
    serve(|stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        let mut writer = stream;
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let Ok(wanted) = line.trim().parse::<i64>() else {
            return;
        };
        let total = usize::try_from(wanted.abs()).expect("a size");
        if wanted > 0 {
            for at in (0..total).step_by(CHUNK) {
                if writer
                    .write_all(&pattern(at, CHUNK.min(total - at)))
                    .is_err()
                {
                    return;
                }
            }
        } else {
            let mut digest = Digest::new(&SHA256);
            let mut buffer = vec![0; CHUNK];
            let mut left = total;
            while left > 0 {
                let Ok(len @ 1..) = reader.read(&mut buffer) else {
                    return;
                };
                digest.update(&buffer[..len]);
                left -= len;
            }
            let _ = writer.write_all(digest.finish().as_ref());
        }
    })
}

pub(crate) fn sha256(total: usize) -> Vec<u8> {
    let mut digest = Digest::new(&SHA256);
    for at in (0..total).step_by(CHUNK) {
        digest.update(&pattern(at, CHUNK.min(total - at)));
    }
    digest.finish().as_ref().to_vec()
}

#[track_caller]
pub(crate) fn download(port: u16, total: usize) {
    let mut stream = connect(port);
    writeln!(stream, "{total}").expect("it is sent");
    let mut digest = Digest::new(&SHA256);
    let (mut buffer, mut got) = (vec![0; CHUNK], 0);
    loop {
        let len = stream.read(&mut buffer).expect("bytes");
        if len == 0 {
            break;
        }
        got += len;
        digest.update(&buffer[..len]);
    }
    assert_eq!(got, total);
    assert_eq!(digest.finish().as_ref(), sha256(total));
}

#[track_caller]
pub(crate) fn upload(port: u16, total: usize) {
    let mut stream = connect(port);
    writeln!(stream, "-{total}").expect("it is sent");
    for at in (0..total).step_by(CHUNK) {
        stream
            .write_all(&pattern(at, CHUNK.min(total - at)))
            .expect("bytes are taken");
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the digest");
    assert_eq!(answer, sha256(total));
}

#[track_caller]
pub(crate) fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"ping").expect("it is sent");
    let mut back = [0; 4];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"ping");
}

/// A server that sends without end.
pub(crate) fn flood() -> u16 {
    serve(|mut stream| while stream.write_all(&[b'x'; CHUNK]).is_ok() {})
}
