//! Files by way of a bucket.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use ops_test_needs::needs;
use ops_tests::lab::{Done, Lab, PATIENCE};

use crate::scene::{
    BUCKET, no_objects, no_sessions, noise, remote, run, same_trees, service, succeed, text,
    there_and_back,
};

#[test]
fn a_tree_goes_there_and_back_by_way_of_the_bucket_and_nothing_stays_in_it() {
    needs!("curl");
    let service = service("", BUCKET);
    there_and_back(&service, "s3");
    no_objects(&service.home().join("sandbox"));
    let calls = service.calls();
    let count = |action: &str| calls.iter().filter(|call| *call == action).count();
    // The large file, the small ones together, and those with odd names alone.
    assert!((4..20).contains(&count("PutObject")), "{calls:?}");
    assert_eq!(count("PutObject"), count("DeleteObject"));
}

#[test]
fn a_tree_goes_there_and_back_by_way_of_the_bucket_while_the_network_is_bad() {
    needs!("curl");
    let faults = "seed=11,drop=2%,duplicate=2%,reorder=2%,cut-after=60";
    let service = service(faults, BUCKET);
    there_and_back(&service, "s3");
    no_objects(&service.home().join("sandbox"));
}

/// How long an agent says nothing.
const GONE: Duration = Duration::from_secs(10);

#[test]
fn files_arrive_by_way_of_the_bucket_although_the_agent_is_gone_for_ten_seconds() {
    needs!("curl");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), noise(3_000_001)).unwrap();
    let (here, there) = (text(&path("file")).to_owned(), remote(&path("file")));
    let (up, down) = (path("up"), path("down"));
    std::thread::scope(|scope| {
        for (from, to) in [(here, remote(&up)), (there, text(&down).to_owned())] {
            scope.spawn(move || {
                let service = service("slow=GetObject/3s", BUCKET);
                let begun = Instant::now();
                std::thread::scope(|scope| {
                    let copy = scope.spawn(|| run(&service, &["--via", "s3", &from, &to]));
                    // In the middle: one side has put the object, and the other is still about to
                    // get it.
                    service.wait_for_call("PutObject");
                    service.set_faults(&format!("silent-after=0,silent-for={}s", GONE.as_secs()));
                    succeed(&copy.join().unwrap());
                });
                // However slow the machine, it took as long as the agent was gone, or the agent
                // never was.
                assert!(begun.elapsed() >= GONE);
                no_objects(&service.home().join("sandbox"));
                no_sessions(&service);
            });
        }
    });
    for copy in [up, down] {
        assert!(fs::read(path("file")).unwrap() == fs::read(copy).unwrap());
    }
}

/// A lab whose server finds this in place of curl; with `$real` and `$seen` set.
fn lab_with_curl(script: &str) -> (Lab, PathBuf) {
    let lab = Lab::new();
    let seen = lab.home().join("seen");
    let real = ops_test_needs::find("curl").expect("curl");
    let head = format!(
        "#!/bin/sh\nreal={}\nseen={}\n",
        real.display(),
        seen.display()
    );
    lab.write_program("bin/curl", &format!("{head}{script}"));
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        lab.home().join("bin").display()
    );
    let lab = lab.env("PATH", path).serve([]);
    lab.profile("t", BUCKET);
    (lab, seen)
}

/// Sends Ctrl-C's signal as soon as `seen` is there, and waits for the end.
#[track_caller]
fn interrupt_once(seen: &Path, mut child: Child) {
    let begin = Instant::now();
    while !seen.exists() {
        assert!(begin.elapsed() < PATIENCE, "curl was not started");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

fn copy_by_s3(lab: &Lab, from: &str, to: &str) -> Done {
    lab.ops(["cp", "--profile", "t", "--via", "s3", from, to])
        .output()
}

#[test]
fn no_command_line_on_the_server_holds_an_address() {
    needs!("curl", "ps");
    let (lab, seen) = lab_with_curl(
        "printf '%s\\n' \"$@\" >>\"$seen\"\nps -eo args >>\"$seen\"\nexec \"$real\" \"$@\"\n",
    );
    let there = lab.write("there", noise(300_000));
    let here = lab.home().join("here");
    copy_by_s3(&lab, &remote(&there), text(&here)).success();
    copy_by_s3(&lab, text(&here), &remote(&lab.home().join("again"))).success();
    assert!(fs::read(lab.home().join("again")).unwrap() == noise(300_000));
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("-K"), "{seen}");
    assert!(!seen.contains("X-Amz-Signature"), "{seen}");
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}

#[test]
fn an_object_is_deleted_when_the_server_fails_and_when_the_user_gives_up() {
    needs!("curl");
    let (lab, seen) = lab_with_curl(
        "\"$real\" \"$@\"\n[ -e \"$seen.wait\" ] || { echo \"no more\" >&2; exit 55; }\necho $$ >\"$seen\"\nexec sleep 600\n",
    );
    let state = lab.home().join(".local/state/ops/sandbox");
    let there = lab.write("there", noise(300_000));
    let here = lab.home().join("here");
    let done = copy_by_s3(&lab, &remote(&there), text(&here)).exits(8);
    assert!(done.stderr.contains("no more"), "{done}");
    assert!(!here.exists());
    no_objects(&state);

    lab.write("seen.wait", "");
    let to = remote(&lab.home().join("new"));
    let child = lab
        .ops(["cp", "--profile", "t", "--via", "s3", text(&there), &to])
        .spawn();
    interrupt_once(&seen, child);
    no_objects(&state);
    assert!(!lab.home().join("new").exists());
}

#[test]
fn wget_does_where_there_is_no_curl() {
    needs!("wget");
    let lab = Lab::new();
    let bin = lab.folder("bin");
    for program in fs::read_dir("/usr/bin")
        .unwrap()
        .chain(fs::read_dir("/bin").unwrap())
    {
        let program = program.unwrap();
        if program.file_name() != "curl" {
            // Both folders may be one.
            let _ = symlink(program.path(), bin.join(program.file_name()));
        }
    }
    let lab = lab.env("PATH", text(&bin)).serve([]);
    lab.profile("t", BUCKET);
    let there = lab.write("there", noise(300_000));
    let here = lab.home().join("here");
    copy_by_s3(&lab, &remote(&there), text(&here)).success();
    copy_by_s3(&lab, text(&here), &remote(&lab.home().join("again"))).success();
    assert!(fs::read(lab.home().join("again")).unwrap() == noise(300_000));
    fs::remove_file(bin.join("wget")).unwrap();
    let done = copy_by_s3(&lab, text(&here), &remote(&there)).exits(7);
    assert!(done.stderr.contains("neither curl nor wget"), "{done}");
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}

/// Small files in some folders.
fn plant_many(root: &Path, count: usize) {
    for number in 0..count {
        let folder = root.join(format!("folder {}", number % 20));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(number.to_string()), noise(number + 1)).unwrap();
    }
}

#[test]
fn many_small_files_go_together() {
    needs!("curl");
    let service = service("", BUCKET);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    plant_many(&path("here"), 2000);
    let count = |action: &str| {
        let calls = service.calls();
        calls.iter().filter(|call| *call == action).count()
    };
    for (from, to) in [
        (text(&path("here")).to_owned(), remote(&path("there"))),
        (remote(&path("there")), text(&path("back")).to_owned()),
    ] {
        let before = count("PutObject");
        let output = run(&service, &["-v", "--via", "s3", "-rp", &from, &to]);
        succeed(&output);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("one by one"), "{said}");
        assert!((1..10).contains(&(count("PutObject") - before)));
    }
    same_trees(&path("here"), &path("there"));
    same_trees(&path("here"), &path("back"));
    assert_eq!(count("PutObject"), count("DeleteObject"));
    no_objects(&service.home().join("sandbox"));
    no_sessions(&service);
}

#[test]
fn an_archive_that_is_changed_in_the_bucket_is_not_unpacked() {
    needs!("curl");
    // By the server's curl, before it puts and after it has got.
    let (lab, seen) = lab_with_curl(
        "spoil() { printf x | dd of=\"$1\" bs=1 seek=20 conv=notrunc 2>/dev/null; }\n\
         for a; do case \"$p$a\" in -T*/a) spoil \"$a\"; echo up >>\"$seen\";; esac; p=$a; done\n\
         \"$real\" \"$@\"; s=$?\n\
         p=; for a; do case \"$p$a\" in -o*/a) spoil \"$a\"; echo down >>\"$seen\";; esac; p=$a; done\n\
         exit $s\n",
    );
    let path = |name: &str| lab.home().join(name);
    plant_many(&path("here"), 10);
    for (from, to) in [
        (text(&path("here")).to_owned(), remote(&path("there"))),
        (remote(&path("there")), text(&path("back")).to_owned()),
    ] {
        let args = ["--profile", "t", "-v", "--via", "s3", "-rp"];
        let args = ["cp"].iter().chain(&args).copied().chain([&from[..], &to]);
        let done = lab.ops(args).output();
        assert!(done.stderr.contains("one by one"), "{done}");
        done.success();
    }
    same_trees(&path("here"), &path("there"));
    same_trees(&path("here"), &path("back"));
    assert_eq!(fs::read_to_string(seen).unwrap(), "down\nup\n");
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}

#[test]
fn what_a_hostile_server_packs_in_stays_out() {
    needs!("curl");
    let lab = Lab::new();
    lab.write("evil", "evil");
    let path = |name: &str| lab.home().join(name);
    // Adds files that would land outside: by an absolute path, by one that climbs, and through a
    // link.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *\" -cf -\"*) ;; *) exec /usr/bin/tar \"$@\";; esac\n\
         cat >{home}/names\n/usr/bin/tar --null -T {home}/names -chf {home}/archive\n\
         cd {home}; ln -s {home}/outside link\n\
         add() {{ /usr/bin/tar -P -rf archive --transform \"s,^$1\\$,$2,\" \"$1\"; }}\n\
         add evil {home}/absolute; add evil ./../../climbed\n\
         add link ./link; add evil ./link/linked\nexec cat archive\n",
        home = text(&lab.home()),
    );
    fs::create_dir(path("outside")).unwrap();
    lab.write_program("bin/tar", &script);
    let search = format!("{}:/usr/local/bin:/usr/bin:/bin", text(&path("bin")));
    let lab = lab.env("PATH", search).serve([]);
    lab.profile("t", BUCKET);
    let path = |name: &str| lab.home().join(name);
    plant_many(&path("here"), 10);
    let (from, to) = (remote(&path("here")), text(&path("back")).to_owned());
    let args = ["cp", "--profile", "t", "--via", "s3", "-rp", &from, &to];
    lab.ops(args).output().success();
    for name in ["absolute", "climbed", "outside/linked", "back/link"] {
        assert!(!path(name).exists(), "{name}");
    }
    same_trees(&path("here"), &path("back"));
    let list = Command::new("tar")
        .arg("-Ptf")
        .arg(path("archive"))
        .output();
    let packed = list.unwrap().stdout;
    for name in ["/absolute\n", "./../../climbed\n", "./link/linked\n"] {
        assert!(String::from_utf8_lossy(&packed).contains(name), "{name}");
    }
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}

#[test]
fn an_archive_leaves_nothing_behind_when_the_user_gives_up() {
    needs!("curl");
    let (lab, seen) = lab_with_curl(
        "p=; for a; do case $p in -o|-T) n=$a;; esac; p=$a; done\n\
         case $n in /*) ;; *) n=$PWD/$n;; esac\n\
         \"$real\" \"$@\"\necho \"$n\" >\"$seen.new\"; mv \"$seen.new\" \"$seen\"\nexec sleep 600\n",
    );
    let state = lab.home().join(".local/state/ops/sandbox");
    let path = |name: &str| lab.home().join(name);
    plant_many(&path("here"), 10);
    fs::create_dir(path("there")).unwrap();
    fs::create_dir(path("back")).unwrap();
    for (from, to) in [
        (text(&path("here")).to_owned(), remote(&path("there"))),
        (remote(&path("here")), text(&path("back")).to_owned()),
    ] {
        let args = ["cp", "--profile", "t", "--via", "s3", "-r", &from, &to];
        let child = lab.ops(args).spawn();
        interrupt_once(&seen, child);
        no_objects(&state);
        let archive = PathBuf::from(fs::read_to_string(&seen).unwrap().trim());
        assert_eq!(archive.file_name().unwrap(), "a");
        // The keeper there moves the archive's folder away, and then removes what the copy has made
        // for the moment beside its files.
        let private = archive.parent().unwrap();
        let moved = private.with_file_name(format!(
            "{}.gone",
            text(private.file_name().unwrap().as_ref())
        ));
        let left = || {
            let temporary = ["there", "back"].into_iter().flat_map(|folder| {
                fs::read_dir(path(folder).join("here"))
                    .into_iter()
                    .flatten()
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| {
                        path.file_name()
                            .unwrap()
                            .as_encoded_bytes()
                            .starts_with(b".")
                    })
            });
            let folders = [private.to_owned(), moved.clone()];
            let folders = folders.into_iter().filter(|folder| folder.exists());
            folders.chain(temporary).collect::<Vec<_>>()
        };
        let begin = Instant::now();
        while !left().is_empty() {
            assert!(begin.elapsed() < PATIENCE, "{:?} stay", left());
            std::thread::yield_now();
        }
        fs::remove_file(&seen).unwrap();
    }
}

#[test]
fn a_file_that_grows_after_it_was_listed_comes_by_the_bucket_as_it_was_then() {
    needs!("curl");
    let lab = Lab::new();
    let find = ops_test_needs::find("find").expect("find");
    // Grows as soon as it is listed.
    let script = format!(
        "#!/bin/sh\n{} \"$@\"\ncase \"$*\" in *grows*printf*) echo more >>{};; esac\n",
        find.display(),
        lab.home().join("grows").display()
    );
    lab.write_program("bin/find", &script);
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        lab.home().join("bin").display()
    );
    let lab = lab.env("PATH", path).serve([]);
    lab.profile("t", BUCKET);
    let there = lab.write("grows", noise(300_000));
    let here = lab.home().join("here");
    copy_by_s3(&lab, &remote(&there), text(&here)).success();
    assert!(fs::read(&here).unwrap() == noise(300_000));
    assert!(fs::metadata(&there).unwrap().len() > 300_000);
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}
