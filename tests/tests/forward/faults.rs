//! Transfers over links and agents that fail.

use std::{
    io::{Read as _, Write as _},
    thread,
};

use ops_sandbox::Pace;
use ops_tests::service::Service;

use crate::{
    far::{download, serve, store, upload},
    tunnel::{Forward, OPS, service, spec},
};

/// 4 MB each way with `faults` on.
#[track_caller]
fn transfer_with(faults: &str) {
    // At the real agent's pace few messages are under way, of which it repairs ten a second after a
    // cut.
    let service = Service::start_with(OPS, |options| options.pace = Pace::Real);
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    service.set_faults(faults);
    upload(forward.port(0), 4 << 20);
    download(forward.port(0), 4 << 20);
    let told = forward.end();
    assert!(!told.contains("is gone"), "{faults}: {told}");
}

#[test]
fn a_connection_opens_beside_a_download_from_a_paced_agent() {
    let service = Service::start_with(OPS, |options| options.pace = Pace::Real);
    let port = serve(|mut stream| {
        let _ = stream.write_all(b"!");
        // Far more than a paced agent sends while this test lasts.
        let _ = stream.write_all(&vec![b'x'; 64 << 20]);
    });
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let (mut first, mut second) = (forward.connect(), forward.connect());
    first.read_exact(&mut [0; 4096]).expect("a download");
    second.read_exact(&mut [0; 1]).expect("an answer beside it");
    drop((first, second));
    forward.end();
}

#[test]
fn four_megabytes_arrive_whole_with_duplicates() {
    transfer_with("seed=1,duplicate=3%");
}

#[test]
fn four_megabytes_arrive_whole_out_of_order() {
    transfer_with("seed=2,reorder=3%");
}

#[test]
fn four_megabytes_arrive_whole_over_cut_connections() {
    transfer_with("seed=3,cut-after=1500,cuts=1");
}

#[test]
fn four_megabytes_arrive_whole_over_the_hourly_close() {
    transfer_with("seed=4,bye-after=1500,cuts=1");
}

#[test]
fn four_megabytes_arrive_whole_among_malformed_messages() {
    transfer_with("seed=6,garbage=1%,drop-acks=0.1%");
}

#[test]
fn lost_messages_are_repaired_both_ways() {
    // The agent repairs its side by at most ten messages a second.
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    service.set_faults("seed=7,drop=1%");
    upload(forward.port(0), 4 << 20);
    download(forward.port(0), 256 << 10);
    forward.end();
}

#[test]
fn an_agent_that_is_slow_to_begin_and_to_connect_loses_nothing() {
    let service = Service::start(OPS, "late-plugin=400ms,slow-dial=100ms,strict");
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let ports = [forward.port(0); 3];
    thread::scope(|scope| {
        for port in ports {
            scope.spawn(move || upload(port, 200_000));
        }
    });
    download(forward.port(0), 200_000);
    forward.end();
}
