//! How much goes through, each way and both at once. The large sizes are for a run by hand: `cargo
//! test -p ops --test exec long_ -- --ignored`.

use bytes::Bytes;
use ops_remote::exec::{Event, Request, Run, Status, Stdin};

use super::{Stage, noise, sh, started};

/// What a stream has brought so far is what `bytes` begin with.
struct Compared<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Compared<'a> {
    fn to(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, piece: &[u8]) {
        let end = self.at + piece.len();
        assert!(
            self.bytes.get(self.at..end) == Some(piece),
            "at byte {}",
            self.at
        );
        self.at = end;
    }
}

/// Takes all output, which is `out` and `err`, and gives the status.
async fn compare(run: &mut Run, out: &[u8], err: &[u8]) -> Status {
    let (mut out, mut err) = (Compared::to(out), Compared::to(err));
    loop {
        match run.next().await.unwrap().expect("an end") {
            Event::Stdout(bytes) => out.take(&bytes),
            Event::Stderr(bytes) => err.take(&bytes),
            Event::Ended(status) => {
                assert_eq!((out.at, err.at), (out.bytes.len(), err.bytes.len()));
                return status;
            }
            Event::Started => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn send(mut stdin: Stdin, bytes: &Bytes) {
    for piece in bytes.chunks(64 << 10) {
        stdin.send(bytes.slice_ref(piece)).await.unwrap();
    }
    stdin.end().await.unwrap();
}

async fn out_with_errors_beside(len: usize) {
    let stage = Stage::new().await;
    let (out, err) = (noise(len), noise(len / 10));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out"), &out).unwrap();
    std::fs::write(folder.path().join("err"), &err).unwrap();
    let path = folder.path().display();
    let line = format!("cat {path}/err >&2 & cat {path}/out; wait; exit 6");
    let mut run = stage.start(sh(&line)).await;
    let status = compare(&mut run, &out, &err).await;
    assert_eq!(status, Status::Code(6));
    stage.settle().await;
}

async fn input(len: usize) {
    let stage = Stage::new().await;
    let bytes = Bytes::from(noise(len));
    let mut request = sh("sha256sum; exit 7");
    request.stdin = true;
    let mut run = stage.start(request).await;
    let stdin = run.take_stdin().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let expected = format!("{}  -\n", ops_ui::text::hex(digest.as_ref()));
    let compared = compare(&mut run, expected.as_bytes(), b"");
    let ((), status) = tokio::join!(send(stdin, &bytes), compared);
    assert_eq!(status, Status::Code(7));
    stage.settle().await;
}

async fn both_at_once(len: usize) {
    let stage = Stage::new().await;
    let bytes = Bytes::from(noise(len));
    let mut request: Request = sh("cat");
    request.stdin = true;
    let mut run = stage.start(request).await;
    let stdin = run.take_stdin().unwrap();
    let compared = compare(&mut run, &bytes, b"");
    let ((), status) = tokio::join!(send(stdin, &bytes), compared);
    assert_eq!(status, Status::Code(0));
    stage.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_error_output_and_input_are_byte_exact() {
    tokio::join!(
        out_with_errors_beside(10_000_000),
        input(20_000_000),
        both_at_once(4_000_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long"]
async fn long_a_hundred_megabytes_out_with_ten_of_errors_beside() {
    out_with_errors_beside(100_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long"]
async fn long_a_hundred_megabytes_in() {
    input(100_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long"]
async fn long_a_hundred_megabytes_both_ways() {
    both_at_once(100_000_000).await;
}

/// Whoever reads nothing holds back the command: what it has written is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_back_the_command() {
    let stage = Stage::new().await;
    let (run, traces) = started(&stage, sh("yes | tee written")).await;
    let home = std::fs::read_link(format!("/proc/{}/cwd", traces.process)).unwrap();
    let size = || home.join("written").metadata().map_or(0, |file| file.len());
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(400));
    let mut last = 0;
    loop {
        tick.tick().await;
        let before = std::mem::replace(&mut last, size());
        if last > 0 && last == before {
            break;
        }
    }
    // The ring, and what is under way.
    assert!(last < 48 << 20, "{last}");
    drop(run);
    traces.gone().await;
    stage.settle().await;
}
