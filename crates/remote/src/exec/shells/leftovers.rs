//! Whatever is killed on a server, and whenever: nothing of a run stays.

use std::{
    fs::{self, File, FileTimes},
    path::Path,
    process::{Child, Command},
    time::{Duration, SystemTime},
};

use ops_test_needs::needs;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{begin, eventually, in_every_shell, order, told_folder};

/// The number in a file of a run's folder, once it is there.
fn number(name: &str, path: &Path) -> Pid {
    let read = || {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().next()?.parse().ok().and_then(Pid::from_raw)
    };
    eventually(name, &format!("{}", path.display()), || read().is_some());
    read().unwrap()
}

fn is_process_waiting(pid: Pid) -> bool {
    let path = format!("/proc/{}/wchan", pid.as_raw_pid());
    fs::read_to_string(path).is_ok_and(|place| place.contains("pipe_write"))
}

/// The processes of a group, those too that nobody has waited for.
fn members_of(group: Pid) -> Vec<Pid> {
    let group = group.as_raw_pid().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let members = processes.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let of_process = stat.rsplit(") ").next()?.split(' ').nth(2)?;
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        (of_process == group).then_some(pid)
    });
    members.collect()
}

/// Seconds that nobody else sleeps.
fn odd_seconds(kind: u32) -> String {
    format!("61{kind}.{}", std::process::id())
}

/// What the agent of Session Manager does when its service ends a session: it kills its shell
/// alone, reads no more of its output, and waits for the end of that before it waits for the shell.
struct AgentThatWaits(Child);

impl Drop for AgentThatWaits {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        // It may have gone.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn what_writes_to_an_agent_that_reads_no_more_is_ended() {
    in_every_shell(|name, shell| {
        let seconds = odd_seconds(1);
        let line = format!("sleep {seconds} & exec head -c 20000000 /dev/zero");
        let order = order(&line, |request| request.patience = Duration::from_secs(1));
        let agent = AgentThatWaits(shell.start(&begin(&order)));
        let session = Pid::from_raw(i32::try_from(agent.0.id()).unwrap()).unwrap();
        eventually(name, "a writer waits", || {
            members_of(session).into_iter().any(is_process_waiting)
        });
        kill_process(session, Signal::KILL).unwrap();
        eventually(name, "nothing is left", || {
            shell.is_clean() && !shell.has_processes(&format!("sleep\0{seconds}"))
        });
        // The agent's shell, for which nobody has waited.
        eventually(name, "nobody holds its output", || {
            members_of(session) == [session]
        });
    });
}

#[test]
fn a_keeper_that_is_killed_is_replaced() {
    in_every_shell(|name, shell| {
        let seconds = odd_seconds(2);
        let order = order(&format!("exec sleep {seconds}"), |request| {
            request.patience = Duration::from_secs(1);
        });
        let mut session = shell.session(&begin(&order));
        let folder = told_folder(&session.hear("folder"));
        session.hear("running");
        let keeper = Path::new(folder.path().unwrap()).join("keeper");
        let first = number(name, &keeper);
        kill_process(first, Signal::KILL).unwrap();
        eventually(name, "another keeper", || number(name, &keeper) != first);
        drop(session);
        eventually(name, "nothing is left", || {
            shell.is_clean() && !shell.has_processes(&format!("sleep\0{seconds}"))
        });
    });
}

#[test]
fn an_end_that_is_known_is_the_end_without_a_keeper_too() {
    in_every_shell(|name, shell| {
        let mut session = shell.session(&begin(&order("exit 3", |_| ())));
        let folder = told_folder(&session.hear("folder"));
        assert_eq!(session.hear("status"), "3", "{name}");
        let keeper = number(name, &Path::new(folder.path().unwrap()).join("keeper"));
        kill_process(keeper, Signal::KILL).unwrap();
        let words = format!("/proc/{}/cmdline", keeper.as_raw_pid());
        eventually(name, "the keeper is dead", || {
            fs::read(&words).map_or(true, |words| words.is_empty())
        });
        session.acknowledge();
        session.hear("ended");
        eventually(name, "nothing is left", || shell.is_clean());
    });
}

/// As `pkill` of a careless administrator does.
#[test]
fn a_run_whose_processes_are_killed_says_so_and_leaves_nothing() {
    in_every_shell(|name, shell| {
        let seconds = odd_seconds(3);
        let order = order(&format!("exec sleep {seconds}"), |_| ());
        let mut session = shell.session(&begin(&order));
        let folder = told_folder(&session.hear("folder"));
        session.hear("running");
        let group = number(name, &Path::new(folder.path().unwrap()).join("supervise"));
        kill_process_group(group, Signal::KILL).unwrap();
        session.hear("killed");
        eventually(name, "nothing is left", || {
            shell.is_clean() && !shell.has_processes(&format!("sleep\0{seconds}"))
        });
    });
}

/// Whoever removes a folder moves it away first, and may be killed then.
#[test]
fn a_removal_that_was_broken_off_is_done_by_the_keeper() {
    in_every_shell(|name, shell| {
        let seconds = odd_seconds(4);
        let order = order(&format!("exec sleep {seconds}"), |_| ());
        let mut session = shell.session(&begin(&order));
        let folder = session.hear("folder");
        session.hear("running");
        fs::rename(&folder, format!("{folder}.gone")).unwrap();
        drop(session);
        eventually(name, "nothing is left", || {
            shell.is_clean() && !shell.has_processes(&format!("sleep\0{seconds}"))
        });
    });
}

#[test]
fn the_next_run_removes_what_a_restart_of_the_server_has_left() {
    in_every_shell(|name, shell| {
        let parent = shell.folder();
        let old = SystemTime::now() - Duration::from_secs(3600);
        let make = |name: &str| {
            let folder = parent.join(format!("ops-exec.{name}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("out.0"), "data").unwrap();
            folder
        };
        let age = |folder: &Path| {
            let times = FileTimes::new().set_modified(old);
            File::open(folder).unwrap().set_times(times).unwrap();
        };
        let (dead, tombstone) = (make("dead"), make("tombstone.gone"));
        // The number is that of somebody else by now.
        fs::write(dead.join("supervise"), format!("{}\n", std::process::id())).unwrap();
        fs::remove_file(tombstone.join("out.0")).unwrap();
        let young = make("young");
        let foreign = parent.join("foreign");
        fs::create_dir(&foreign).unwrap();
        std::os::unix::fs::symlink(&foreign, parent.join("ops-exec.link")).unwrap();
        for folder in [&dead, &tombstone, &foreign] {
            age(folder);
        }
        // That of a long command has not changed for long either.
        let seconds = odd_seconds(5);
        let order_of_long = order(&format!("exec sleep {seconds}"), |_| ());
        let mut long = shell.session(&begin(&order_of_long));
        let kept = long.hear("folder");
        long.hear("running");
        eventually(name, "what was broken off has gone", || {
            !dead.exists() && !tombstone.exists()
        });
        age(Path::new(&kept));
        let mut session = shell.session(&begin(&order("exit 0", |_| ())));
        session.hear("status");
        session.acknowledge();
        session.hear("ended");
        assert!(young.exists() && foreign.exists(), "{name}");
        eventually(name, "its own folder has gone", || {
            let entries = fs::read_dir(parent).unwrap().flatten();
            let left = entries.filter(|entry| {
                let name = entry.file_name();
                name.to_string_lossy().starts_with("ops-exec.")
            });
            left.count() == 3
        });
        assert!(Path::new(&kept).exists(), "{name}");
        long.acknowledge();
        fs::remove_dir_all(young).unwrap();
        fs::remove_file(parent.join("ops-exec.link")).unwrap();
        eventually(name, "nothing is left", || shell.is_clean());
    });
}

/// Several hundred runs may begin on one machine: what one costs must not grow with their number.
#[test]
fn the_folders_of_many_other_runs_are_looked_at_by_one_program() {
    needs!("find");
    let program = ops_test_needs::find("find").unwrap();
    in_every_shell(|name, shell| {
        // It runs the find that is built in, whatever PATH says.
        if name == "busybox" {
            return;
        }
        let parent = shell.folder();
        // Written by another process: while this one holds a program open for writing, a child that
        // another test starts would hold it too, and nobody could run it.
        let text = format!(
            "#!/bin/sh\necho >>'{}'\nexec '{}' \"$@\"\n",
            parent.join("calls").display(),
            program.display()
        );
        let mut put = Command::new("sh");
        put.args(["-c", "printf %s \"$0\" >\"$1\" && chmod +x \"$1\"", &text])
            .arg(parent.join("find"));
        assert!(put.status().unwrap().success());
        let others: Vec<_> = (0..30)
            .map(|n| parent.join(format!("ops-exec.other{n}")))
            .collect();
        for folder in &others {
            fs::create_dir(folder).unwrap();
        }
        let mut session = shell.session(&begin(&order("exit 0", |_| ())));
        let own = session.hear("folder");
        session.hear("status");
        session.acknowledge();
        session.hear("ended");
        eventually(name, "its own folder has gone", || {
            !Path::new(&own).exists()
        });
        let calls = fs::read(parent.join("calls")).unwrap_or_default().len();
        // All of them are young, which perl sees by itself.
        let expected = usize::from(!name.ends_with("with perl"));
        assert_eq!(calls, expected, "{name}");
        for folder in &others {
            fs::remove_dir(folder).unwrap();
        }
        eventually(name, "nothing is left", || shell.is_clean());
    });
}

/// The agent waits until nobody holds the output, and the client for the agent.
#[test]
fn what_sleeps_between_signs_of_life_holds_no_output() {
    in_every_shell(|name, shell| {
        let ends_before_the_sleep = || {
            let mut session = shell.session(&begin(&order("exit 0", |_| ())));
            session.hear("status");
            session.acknowledge();
            while session.pieces.recv().is_ok() {}
            members_of(session.process()).into_iter().any(|pid| {
                let words = format!("/proc/{}/cmdline", pid.as_raw_pid());
                fs::read(words).is_ok_and(|words| words.ends_with(b"sleep\x003\0"))
            })
        };
        // Once a test that does not get its turn for three seconds may be late.
        // ksh93 sleeps by itself, without a process that would be left.
        assert!(
            name == "ksh93" || (0..3).any(|_| ends_before_the_sleep()),
            "{name}"
        );
        eventually(name, "nothing is left", || shell.is_clean());
    });
}
