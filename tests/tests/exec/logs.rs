//! `ops logs`: files and journals, of one server and of many.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use ops_tests::{
    Lab,
    lab::{PATIENCE, binary},
    service::Service,
    terminal::Terminal,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{eventually, status_of};

#[test]
fn the_last_lines_of_a_file_and_those_that_match() {
    let lab = Lab::with_sandbox();
    let text: String = (1..=20).map(|number| format!("line {number}\n")).collect();
    let file = lab.write("app.log", text);
    let file = file.to_str().unwrap();
    let done = lab.ops(["logs", "web-1", file]).output().success();
    assert_eq!(done.stdout.lines().count(), 10, "{done}");
    assert!(done.stdout.ends_with("line 19\nline 20\n"), "{done}");
    let done = lab
        .ops([
            "logs", "web-1", "web-2", file, "--tail", "2", "--grep", "1[0-2]$",
        ])
        .output()
        .success();
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    // The last two of those that match.
    assert_eq!(
        lines,
        [
            "web-1: line 11",
            "web-1: line 12",
            "web-2: line 11",
            "web-2: line 12",
        ]
    );
    assert_eq!(done.stderr, "");
    let done = lab.ops(["logs", "web-1", file, "--grep", "["]).output();
    assert_eq!(done.status, 2, "{done}");
    assert!(done.stderr.contains("no extended regular expression"));
}

#[test]
fn several_files_and_globs_have_their_names_above() {
    let lab = Lab::with_sandbox();
    lab.write("logs/a.log", "one\nhalf");
    lab.write("logs/b.log", "two\n");
    let glob = lab.home().join("logs/*.log");
    let done = lab.ops(["logs", "web-1", glob.to_str().unwrap()]);
    assert_eq!(
        done.output().success().stdout,
        "==> ~/logs/a.log <==\none\nhalf\n\n==> ~/logs/b.log <==\ntwo\n"
    );
}

#[test]
fn names_of_the_profile_stand_for_files() {
    let lab = Lab::with_sandbox();
    let file = lab.write("named.log", "from a name\n");
    lab.profile("p", &format!("logs: {{ app: {} }}\n", file.display()));
    let done = lab
        .ops(["-p", "p", "logs", "web-1", "app"])
        .output()
        .success();
    assert_eq!(done.stdout, "from a name\n");
    lab.profile("p", "logs: { app: relative/path }\n");
    let done = lab
        .ops(["-p", "p", "logs", "web-1", "app"])
        .output()
        .exits(2);
    assert!(done.stderr.contains("neither a file nor a unit"), "{done}");
}

#[test]
fn a_file_that_is_not_there_is_a_failure_of_that_server_alone() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops(["logs", "web-1", "web-2", "/nosuch/file"])
        .output()
        .exits(8);
    assert!(
        done.stderr.contains("web-2: `/nosuch/file` is not there\n"),
        "{done}"
    );
    assert!(!done.stderr.contains("succeeded"), "{done}");
    let file = lab.write("there.log", "there\n");
    let done = lab
        .ops(["logs", "web-1", "/nosuch/file", file.to_str().unwrap()])
        .output()
        .exits(1);
    assert!(done.stdout.contains("there\n"), "{done}");
    assert!(
        done.stderr
            .contains("`/nosuch/file` is not there on `web-1`"),
        "{done}"
    );
    // What to do next runs as it stands.
    let done = lab.ops(["logs", "web-1", "/nosuch/file"]).output().exits(1);
    let line = "ops exec web-1 -- ls -lt /nosuch";
    assert!(done.stderr.contains(line), "{done}");
    let done = lab.ops(["logs", "web-1", "/nosuch/*.log"]).output();
    assert!(done.stderr.contains(line), "{done}");
    let done = lab.ops(["logs", "web-1"]).output().exits(2);
    assert!(done.stderr.contains("no file and no unit"), "{done}");
    // A word that begins with no slash is a server; whoever means a file or a unit learns how.
    let done = lab.ops(["logs", "web-1", "nginx"]).output().exits(2);
    for part in ["`nginx` is taken for a server", "--unit nginx"] {
        assert!(done.stderr.contains(part), "{part} in {done}");
    }
}

#[test]
fn a_journal_that_cannot_be_read_is_told_with_its_unit_and_what_to_try() {
    let lab = Lab::new();
    // As journalctl ends on a server that keeps no journal: with --quiet it says nothing.
    lab.write_program("bin/journalctl", "#!/bin/sh\nexit 1\n");
    let path = format!("{}:/usr/bin:/bin", lab.home().join("bin").display());
    let lab = lab.env("PATH", path).serve([]);
    let done = lab
        .ops(["logs", "web-1", "--unit", "nginx"])
        .output()
        .exits(1);
    for part in [
        "no journal of `nginx` can be read on `web-1`",
        "journalctl ended with 1",
        "ops exec web-1 -- systemctl status nginx",
    ] {
        assert!(done.stderr.contains(part), "{part} in {done}");
    }
}

#[test]
fn on_a_terminal_nothing_in_a_log_moves_the_cursor() {
    let service = Service::start(binary().to_str().unwrap(), "");
    let file = service.home().join("log");
    let mut bytes = b"\x1b[2Jcleared\xff\nlong ".to_vec();
    bytes.extend(vec![b'x'; 2 << 20]);
    bytes.extend(b"\nlast\x07");
    std::fs::write(&file, &bytes).unwrap();
    let mut terminal = Terminal::start(&service, &["logs", "web-1", file.to_str().unwrap()]);
    assert_eq!(terminal.wait(), Some(0));
    let shown = terminal.output();
    let text = String::from_utf8_lossy(&shown);
    assert!(
        text.starts_with("\\u{1b}[2Jcleared\\xff"),
        "{:?}",
        &text[..100]
    );
    assert!(text.trim_end().ends_with("last\\u{7}"));
    // Elsewhere the bytes are as they are.
    let output = service
        .ops(&["logs", "web-1", file.to_str().unwrap()])
        .output();
    assert!(output.unwrap().stdout == bytes);
}

/// Lines of a child as they come.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(lab: &Lab, words: &[&str]) -> Self {
        let mut child = lab.ops(words).spawn();
        let lines = collect(child.stdout.take().unwrap());
        let said = collect(child.stderr.take().unwrap());
        Self { child, lines, said }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, wanted: &str) {
        eventually(wanted, || {
            self.lines.lock().unwrap().iter().any(|line| line == wanted)
        });
    }

    /// How often another session or another run went on.
    fn losses(&self) -> usize {
        let said = self.said.lock().unwrap();
        said.iter()
            .filter(|line| line.contains("going on "))
            .count()
    }

    #[track_caller]
    fn wait_for_a_loss(&self, before: usize) {
        let begin = Instant::now();
        while self.losses() == before {
            let said = self.said.lock().unwrap();
            assert!(begin.elapsed() < PATIENCE, "no loss: {said:#?}");
            drop(said);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn interrupt(mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        status_of(&mut self.child)
    }
}

fn collect(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let kept = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line);
        }
    });
    lines
}

fn append(file: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Through a rotation and until Ctrl-C; a file that comes later is read from its beginning.
#[test]
fn a_followed_file_goes_on_through_a_rotation_and_ends_quietly() {
    let lab = Lab::with_sandbox();
    let file = lab.write("app.log", "before\n");
    let later = lab.home().join("later.log");
    let words = ["logs", "-f", "web-1"];
    let files = [file.to_str().unwrap(), later.to_str().unwrap()];
    let follower = Follower::start(&lab, &[&words[..], &files].concat());
    follower.wait_for("before");
    append(&file, "added\n");
    follower.wait_for("added");
    std::fs::rename(&file, file.with_extension("log.1")).unwrap();
    // Its writer has it open still.
    append(&file.with_extension("log.1"), "late\n");
    append(&file, "after the rotation\n");
    follower.wait_for("after the rotation");
    append(&later, "first\n");
    follower.wait_for("first");
    std::fs::write(&file, "").unwrap();
    append(&file, "again\n");
    follower.wait_for("again");
    let lines = follower.lines();
    let lines: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| !line.is_empty() && !line.starts_with("==>"))
        .collect();
    let wanted = [
        "before",
        "added",
        "late",
        "after the rotation",
        "first",
        "again",
    ];
    assert_eq!(lines, wanted);
    assert_eq!(follower.interrupt(), Some(130));
}

/// A server whose folder for temporary files is its own, and journalctl of this test.
fn apart() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let temporary = lab.folder("temporary");
    let bin = lab.folder("home/bin");
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        bin.display()
    );
    let lab = lab.env("PATH", path).env("TMPDIR", &temporary);
    (lab.serve([]), temporary)
}

/// What a restart of the server does to the runs of `ops`: their processes end, and what was kept
/// of them is gone.
fn lose_runs(temporary: &Path) {
    eventually("a run", || {
        let mut folders = std::fs::read_dir(temporary).unwrap().flatten();
        folders.any(|folder| folder.path().join("p").exists())
    });
    for entry in std::fs::read_dir(temporary).unwrap().flatten() {
        let folder = entry.path();
        let _ = std::fs::remove_file(folder.join("engine"));
        for name in ["supervise", "p"] {
            let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
        }
        // Whoever is attached looks round now.
        if let Ok(mut bell) = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(folder.join("bell"))
        {
            let _ = bell.write_all(b"\n");
        }
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// 20 losses: connections, and runs with all that the server kept, some of them with the file
/// rotated before the next one.
#[test]
fn each_line_comes_once_over_20_losses() {
    const LOSSES: usize = 20;
    let (lab, temporary) = apart();
    let cuts = ["sandbox", "fault", "cut-after=16,cuts=1"];
    lab.ops(cuts).output().success();
    let file = lab.write("app.log", "line 0\n");
    let words = ["-v", "logs", "-f", "web-1", file.to_str().unwrap()];
    let follower = Follower::start(&lab, &words);
    follower.wait_for("line 0");
    let mut written = 0;
    let mut lost = 0;
    while follower.losses() < LOSSES {
        for _ in 0..20 {
            written += 1;
            append(&file, &format!("line {written}\n"));
        }
        let before = follower.losses();
        if lost < 6 {
            lost += 1;
            // In the middle of what was written.
            follower.wait_for(&format!("line {}", written - 19));
            lose_runs(&temporary);
            if lost % 2 == 0 {
                std::fs::rename(&file, file.with_extension(format!("log.{lost}"))).unwrap();
            }
            follower.wait_for_a_loss(before);
        } else {
            follower.wait_for(&format!("line {written}"));
        }
    }
    append(&file, "the end\n");
    follower.wait_for("the end");
    let mut wanted: Vec<String> = (0..=written)
        .map(|number| format!("line {number}"))
        .collect();
    wanted.push("the end".to_owned());
    assert_eq!(follower.lines(), wanted);
    assert_eq!(follower.interrupt(), Some(130));
}

/// journalctl as its manual has it, over a file with a line `UNIT TEXT` for each entry. Cursors are
/// numbers of lines.
const JOURNALCTL: &str = r#"#!/bin/sh
journal=$HOME/journal
units= after=0 lines= follow= shows_cursor= since=
for argument; do
    case $argument in
    --unit=*) units="$units ${argument#*=} " ;;
    --after-cursor=*) after=${argument##*;i=} ;;
    --lines=*) lines=${argument#*=} ;;
    --since=*) since=${argument#*=} ;;
    --output=short-iso | --output=cat | --no-pager | --quiet) ;;
    --follow) follow=1 ;;
    --show-cursor) shows_cursor=1 ;;
    *) echo "journalctl: unrecognized option '$argument'" >&2; exit 1 ;;
    esac
done
case $since in
'' | @[0-9]* | yesterday) ;;
*) echo "Failed to parse timestamp: $since" >&2; exit 1 ;;
esac
entries() {
    awk -v after="$1" -v units="$units" '
        NR > after && (units == "" || index(units, " " $1 " ")) {
            sub(/^[^ ]* /, ""); print NR " " $0
        }' "$journal" 2>/dev/null
}
entries "$after" | { if [ -n "$lines" ]; then tail -n "$lines"; else cat; fi; } >"$journal.$$"
last=$(tail -n 1 "$journal.$$")
sed 's/^[0-9]* /2026-01-31T12:00:00+0000 web app[1]: /' "$journal.$$"
rm -f "$journal.$$"
if [ -n "$follow" ]; then
    last=$(wc -l <"$journal")
    while sleep 0.05 && kill -0 "$PPID"; do
        now=$(wc -l <"$journal")
        [ "$now" = "$last" ] || entries "$last"
        last=$now
    done
fi
[ -n "$last" ] || exit 1
[ -z "$shows_cursor" ] || echo "-- cursor: s=it's;i=${last%% *}"
"#;

fn texts(lines: &[String]) -> Vec<&str> {
    let texts = lines.iter().map(|line| {
        line.strip_prefix("2026-01-31T12:00:00+0000 web app[1]: ")
            .unwrap_or(line)
    });
    texts.collect()
}

#[test]
fn a_unit_s_journal_goes_on_behind_its_cursor() {
    let (lab, temporary) = apart();
    lab.write_program("bin/journalctl", JOURNALCTL);
    // HOME of the server's user is not that of whoever runs ops.
    let done = lab
        .ops(["exec", "web-1", "--", "sh", "-c", "echo $HOME"])
        .output();
    let home = String::from_utf8(done.bytes).unwrap();
    let journal = Path::new(home.trim()).join("journal");
    std::fs::write(&journal, "app 0\nother no\napp 1\n").unwrap();
    let of = |words: &[&str]| {
        let done = lab.ops([&["logs", "web-1", "--unit", "app"], words].concat());
        done.output()
    };
    assert!(
        of(&[])
            .success()
            .stdout
            .ends_with("web app[1]: 0\n2026-01-31T12:00:00+0000 web app[1]: 1\n")
    );
    assert_eq!(of(&["--tail", "1"]).success().stdout.lines().count(), 1);
    assert_eq!(
        of(&["--since", "30m", "--grep", "0$"])
            .success()
            .stdout
            .lines()
            .count(),
        1
    );
    let done = of(&["--since", "nonsense"]).exits(1);
    assert!(done.stderr.contains("Failed to parse timestamp"), "{done}");
    assert!(done.stderr.contains("journalctl ended with 1"), "{done}");
    let words = [
        "-v", "logs", "-f", "web-1", "--unit", "app", "--grep", "[0-8]$",
    ];
    let follower = Follower::start(&lab, &words);
    follower.wait_for("2026-01-31T12:00:00+0000 web app[1]: 1");
    let mut written = 1;
    for loss in 0..3 {
        for _ in 0..20 {
            written += 1;
            append(&journal, &format!("app {written}\nother no\n"));
        }
        if loss == 1 {
            follower.wait_for(&format!("2026-01-31T12:00:00+0000 web app[1]: {written}"));
        }
        let before = follower.losses();
        lose_runs(&temporary);
        follower.wait_for_a_loss(before);
    }
    append(&journal, "app the end 0\n");
    follower.wait_for("2026-01-31T12:00:00+0000 web app[1]: the end 0");
    let numbers = (0..=written).filter(|number| number % 10 != 9);
    let mut wanted: Vec<String> = numbers.map(|number| number.to_string()).collect();
    wanted.push("the end 0".to_owned());
    assert_eq!(texts(&follower.lines()), wanted);
    assert_eq!(follower.interrupt(), Some(130));
}

#[test]
fn a_server_without_a_journal_says_so() {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    // All that a shell needs, without systemd.
    for name in [
        "sh", "cat", "mkdir", "mktemp", "mkfifo", "rm", "sleep", "setsid", "dd", "base64", "mv",
    ] {
        std::os::unix::fs::symlink(ops_test_needs::find(name).unwrap(), bin.join(name)).unwrap();
    }
    let lab = lab.env("PATH", &bin).serve([]);
    let done = lab
        .ops(["logs", "web-1", "--unit", "nginx"])
        .output()
        .exits(1);
    assert!(
        done.stderr.contains("there is no journalctl on `web-1`"),
        "{done}"
    );
    assert!(
        done.stderr.contains("name a file in place of --unit"),
        "{done}"
    );
}
