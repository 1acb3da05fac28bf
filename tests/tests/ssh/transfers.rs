//! scp, sftp and rsync, both ways.

use std::{fs, path::PathBuf, thread};

use ops_sandbox::Pace;
use ops_test_needs::needs;

use crate::client::{Client, WEB_1, digest, pattern, small_files, text};

const LARGE_BYTES: usize = 64 << 20;

struct Transfer {
    client: Client,
    config: String,
    here: PathBuf,
    there: PathBuf,
}

impl Transfer {
    fn new(client: Client) -> Self {
        let client = client.installed("team");
        let (here, there) = (client.home().join("here"), client.state(WEB_1).join("home"));
        fs::create_dir_all(&here).expect("a folder");
        // The server makes its home at first use.
        client.ssh(["web-1", "true"]).success();
        Self {
            config: client.config(),
            here,
            there,
            client,
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let said = self.client.run(program, args).success();
        said.stderr
    }

    fn rsync(&self, args: &[&str]) -> String {
        let shell = format!("ssh -F {}", self.config);
        self.run("rsync", &[&["-a", "-e", shell.as_str()], args].concat())
    }
}

#[test]
fn scp_carries_a_large_file_both_ways() {
    needs!("ssh", "ssh-keygen", "scp");
    let t = Transfer::new(Client::with_key());
    let file = t.here.join("large");
    fs::write(&file, pattern(1, LARGE_BYTES)).expect("a file");
    t.run("scp", &["-q", "-F", &t.config, text(&file), "web-1:large"]);
    assert_eq!(digest(&file), digest(&t.there.join("large")));
    let back = t.here.join("back");
    t.run(
        "scp",
        &[
            "-q",
            "-F",
            &t.config,
            &format!("{WEB_1}:large"),
            text(&back),
        ],
    );
    assert_eq!(digest(&file), digest(&back));
}

#[test]
fn sftp_carries_a_large_file_and_small_ones_both_ways() {
    needs!("ssh", "ssh-keygen", "sftp");
    let t = Transfer::new(Client::with_key());
    // Eight times what sftp has under way: 64 requests of 32 KiB, which wait for their answers.
    fs::write(t.here.join("large"), pattern(2, LARGE_BYTES / 4)).expect("a file");
    // sftp waits several round trips for each of them: thousands would be a test of patience.
    small_files(&t.here.join("small"), 300);
    let batch = t.client.write(
        "batch",
        "put -r here/large large\nput -r here/small small\nget large here/large-back\nget -r small here/small-back\n",
    );
    t.run(
        "sftp",
        &["-q", "-F", &t.config, "-b", text(&batch), "web-1"],
    );
    for name in ["large", "small"] {
        let first = digest(&t.here.join(name));
        assert_eq!(first, digest(&t.there.join(name)), "{name}");
        assert_eq!(
            first,
            digest(&t.here.join(format!("{name}-back"))),
            "{name}"
        );
    }
}

#[test]
fn rsync_carries_a_large_file_and_small_ones_both_ways() {
    needs!("ssh", "ssh-keygen", "rsync");
    let t = Transfer::new(Client::with_key());
    let tree = t.here.join("tree");
    small_files(&tree.join("small"), 2000);
    fs::write(tree.join("large"), pattern(3, LARGE_BYTES)).expect("a file");
    t.rsync(&[text(&tree), "web-1:copies/"]);
    assert_eq!(digest(&tree), digest(&t.there.join("copies/tree")));
    t.rsync(&[
        &format!("{WEB_1}:copies/tree/"),
        text(&t.here.join("back/")),
    ]);
    assert_eq!(digest(&tree), digest(&t.here.join("back")));
}

#[test]
fn rsync_goes_on_over_a_connection_that_is_cut() {
    needs!("ssh", "ssh-keygen", "rsync");
    // At the real agent's pace few messages are under way, of which it repairs ten a second after a
    // cut.
    let t = Transfer::new(Client::with(|options| options.pace = Pace::Real).and_key(""));
    let file = t.here.join("file");
    fs::write(&file, pattern(4, 4 << 20)).expect("a file");
    let shell = format!("ssh -F {}", t.config);
    // Both ways at once, each over a session of its own.
    fs::copy(&file, t.there.join("there")).expect("a copy");
    t.client.service.set_faults("seed=3,cut-after=150,cuts=1");
    let back = t.here.join("back");
    thread::scope(|scope| {
        for (from, to) in [(text(&file), "web-1:copy"), ("web-1:there", text(&back))] {
            let (client, shell) = (&t.client, &shell);
            scope.spawn(move || {
                // Compressed it would be over before the cut; whole, so that each byte travels.
                let said = client
                    .run("rsync", ["-a", "-W", "-e", shell, from, to])
                    .success();
                // Of a connection that is back at once nothing is said.
                assert!(!said.stderr.contains("lost"), "{to}: {said:?}");
            });
        }
    });
    assert_eq!(t.client.calls("ResumeSession"), 2);
    for copy in [&t.there.join("copy"), &back] {
        assert_eq!(digest(&file), digest(copy));
    }
}
