//! Files that do not say their size: of `/proc`, of `/sys`, and those that grow.
//!
//! The referee is what `cat` reads of the same files of this machine, which is the sandbox's too.

use super::*;

/// All ways lead to the sandbox's servers.
pub(crate) const PROFILE: &str = "ssh: { user: ec2-user, auth: instance-connect }\n\
                       copy: { s3_bucket: ops-sandbox-copies, s3_prefix: some/where }\n";
const WAYS: [&str; 3] = ["session", "sftp", "s3"];

fn by(lab: &Lab, via: &str, args: &[OsString]) -> ops_tests::lab::Done {
    lab.profile("t", PROFILE);
    let way = [os("--profile"), os("t"), os("--via"), os(via)];
    cp(lab, way.iter().chain(args))
}

/// A file of `/sys` that says a page and holds a few bytes.
fn of_sys() -> PathBuf {
    fs::canonicalize("/sys/class/net/lo/mtu").unwrap()
}

#[test]
fn files_of_proc_and_sys_arrive_whole_whatever_they_say() {
    let lab = Lab::with_sandbox();
    let to = lab.folder("to");
    let mtu = of_sys();
    assert_eq!(
        (
            fs::metadata(&mtu).unwrap().len(),
            fs::metadata("/proc/version").unwrap().len()
        ),
        (4096, 0)
    );
    for via in WAYS {
        for file in [Path::new("/proc/version"), &mtu] {
            let whole = fs::read(file).unwrap();
            let got = to.join(format!("{via}-{}", file.file_name().unwrap().display()));
            let done = by(&lab, via, &[remote(file), got.clone().into()]).success();
            assert_eq!(
                fs::read(&got).unwrap(),
                whole,
                "{via} {}: {done}",
                file.display()
            );
            let done = by(&lab, via, &[remote(file), os("-")]).success();
            assert_eq!(done.stdout.as_bytes(), whole, "{via} -: {done}");
        }
        // It is another one each time that it is read.
        let got = to.join(format!("{via}-meminfo"));
        by(
            &lab,
            via,
            &[remote(Path::new("/proc/meminfo")), got.clone().into()],
        )
        .success();
        let text = fs::read_to_string(&got).unwrap();
        assert!(
            text.starts_with("MemTotal:") && text.lines().count() > 20,
            "{via}: {text}"
        );
    }
}

#[test]
fn trees_of_proc_and_sys_arrive_whole() {
    let lab = Lab::with_sandbox();
    let net = of_sys().parent().unwrap().join("statistics");
    for via in WAYS {
        let to = lab.folder(via);
        let args = [
            os("-r"),
            remote(Path::new("/proc/sys/kernel/random")),
            to.clone().into(),
        ];
        let done = by(&lab, via, &args).success();
        for entry in fs::read_dir("/proc/sys/kernel/random").unwrap() {
            let name = entry.unwrap().file_name();
            let got = fs::read(to.join("random").join(&name)).unwrap();
            assert!(!got.is_empty(), "{via} {}: {done}", name.display());
        }
        let done = by(&lab, via, &[os("-r"), remote(&net), to.clone().into()]).success();
        for entry in fs::read_dir(&net).unwrap() {
            let name = entry.unwrap().file_name();
            let got = fs::read_to_string(to.join("statistics").join(&name)).unwrap();
            assert!(
                got.trim_end().parse::<u64>().is_ok(),
                "{via} {got:?}: {done}"
            );
        }
    }
}

#[test]
fn files_that_do_not_say_their_size_are_sent_whole_too() {
    let lab = Lab::with_sandbox();
    let far = lab.folder("far");
    let whole = fs::read("/proc/version").unwrap();
    for via in WAYS {
        let to = far.join(via);
        let done = by(&lab, via, &[os("/proc/version"), remote(&to)]).success();
        assert_eq!(fs::read(&to).unwrap(), whole, "{via}: {done}");
        let to = far.join(format!("{via}-tree"));
        let args = [os("-r"), os("/proc/sys/kernel/random"), remote(&to)];
        by(&lab, via, &args).success();
        for entry in fs::read_dir("/proc/sys/kernel/random").unwrap() {
            let name = entry.unwrap().file_name();
            assert!(
                !fs::read(to.join(&name)).unwrap().is_empty(),
                "{via} {}",
                name.display()
            );
        }
        let to = far.join(format!("{via}-mtu"));
        by(&lab, via, &[of_sys().into(), remote(&to)]).success();
        assert_eq!(fs::read(&to).unwrap(), fs::read(of_sys()).unwrap(), "{via}");
    }
    // Across, through this machine.
    for via in ["session", "sftp"] {
        let to = far.join(format!("{via}-across"));
        let across = os(&format!("web-2:{}", to.display()));
        by(&lab, via, &[remote(Path::new("/proc/version")), across]).success();
        assert_eq!(fs::read(&to).unwrap(), whole, "{via}");
    }
}

#[test]
fn a_log_that_is_written_to_while_it_is_sent_arrives_as_it_was() {
    let lab = Lab::with_sandbox();
    let (here, far) = (lab.folder("here"), lab.folder("far"));
    for (name, size) in [("middle.log", 6_000_000), ("large.log", 70_000_000)] {
        let bytes = noise(size);
        put(&here, name.as_bytes(), &bytes, 0o644);
        let (from, to) = (
            here.join(name),
            lab.folder(&format!("far/{name}.d")).join(name),
        );
        let rate = (size / 1_500_000).to_string();
        let all = ["cp", "--limit-rate", &format!("{rate}MB")].map(os);
        let all = all.into_iter().chain([from.clone().into(), remote(&to)]);
        let child = lab.ops(all).spawn();
        until("the copy begins", || has_part(to.parent().unwrap()));
        fs::OpenOptions::new()
            .append(true)
            .open(&from)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"more"))
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(fs::read(&to).unwrap() == bytes, "{name}");
    }
    assert_eq!(leftovers(&far).len(), 0);
}

#[test]
fn a_file_that_grows_is_read_to_where_it_ends() {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    // The list is made by find: what is appended after it has run was not there when it was listed.
    let (far, to) = (lab.folder("far"), lab.folder("to"));
    let find = bin.join("find");
    let text = format!(
        "#!/bin/sh\n/usr/bin/find \"$@\"\nstatus=$?\ncase \"$*\" in *.log*-printf*) \
         for f in {}/*.log; do echo more >>\"$f\"; done;; esac\nexit $status\n",
        far.display()
    );
    fs::write(&find, text).unwrap();
    fs::set_permissions(&find, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let lab = lab.env("PATH", path).serve([]);
    for (name, size) in [
        ("small.log", 100),
        ("middle.log", 2_000_000),
        ("large.log", 60_000_000),
    ] {
        put(&far, name.as_bytes(), &noise(size), 0o644);
        let got = to.join(name);
        let done = cp(&lab, [remote(&far.join(name)), got.clone().into()]).success();
        let (there, here) = (fs::read(far.join(name)).unwrap(), fs::read(&got).unwrap());
        assert!(
            there == here,
            "{name}: {} of {}: {done}",
            here.len(),
            there.len()
        );
        assert_eq!(here.len(), size + b"more\n".len());
        fs::remove_file(far.join(name)).unwrap();
    }
}
