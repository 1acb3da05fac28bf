//! `--resume` where a copy was of many files.

use super::*;

/// The numbers of `-o json`: copied, skipped, failed.
fn counts(done: &ops_tests::lab::Done) -> [u64; 3] {
    let report = done.json();
    ["copied", "skipped", "failed"].map(|name| report[name].as_u64().unwrap())
}

#[test]
fn files_that_an_earlier_run_has_brought_are_not_sent_again() {
    let lab = Lab::with_sandbox();
    let (one, other) = (lab.folder("one"), lab.folder("other"));
    for n in 0..60 {
        put(
            &one,
            format!("t/d{}/f {n}", n % 3).as_bytes(),
            &noise(n * 50),
            0o644,
        );
    }
    for n in 0..3 {
        put(
            &one,
            format!("t/large{n}").as_bytes(),
            &noise(700_000 + n),
            0o644,
        );
    }
    let copies: [(OsString, OsString); 2] = [
        (one.join("t").into(), remote(&other)),
        (remote(&one.join("t")), lab.folder("here").into()),
    ];
    for (from, to) in copies {
        let folder = match to.to_string_lossy().split_once(':') {
            Some(_) => other.join("t"),
            None => Path::new(&to).join("t"),
        };
        let args = [os("-r"), os("--resume"), os("-o"), os("json"), from, to];
        let done = cp(&lab, &args).success();
        assert_eq!(counts(&done), [67, 0, 0], "{done}");
        // Some are missing, one is another of the same size, one has grown.
        for name in ["d0/f 3", "d1/f 4", "large0"] {
            fs::remove_file(folder.join(name)).unwrap();
        }
        let len = fs::metadata(folder.join("large1")).unwrap().len();
        fs::write(
            folder.join("large1"),
            vec![7; usize::try_from(len).unwrap()],
        )
        .unwrap();
        fs::write(folder.join("d2/f 5"), noise(251)).unwrap();
        let done = cp(&lab, &args).success();
        // Four folders count as copied as well.
        assert_eq!(counts(&done), [5 + 4, 58, 0], "{done}");
        same(&one.join("t"), &folder);
    }
}

#[test]
fn an_interrupted_copy_of_many_files_goes_on_where_it_was() {
    let lab = Lab::with_sandbox();
    let (here, far) = (lab.folder("here"), lab.folder("far"));
    for n in 0..700 {
        put(&here, format!("t/f{n}").as_bytes(), &noise(30_000), 0o644);
    }
    let args = |more: &[&str]| -> Vec<OsString> {
        [os("-r"), os("--resume")]
            .into_iter()
            .chain(more.iter().map(|&arg| os(arg)))
            .chain([here.join("t").into(), remote(&far)])
            .collect()
    };
    interrupt(&lab, &args(&["--limit-rate", "6MB"]), &|| {
        far.join("t/f0").exists()
    });
    until("the far end is cleaned up", || leftovers(&far).is_empty());
    let there = fs::read_dir(far.join("t")).unwrap().count() as u64;
    assert!((1..700).contains(&there), "{there}");
    let done = cp(&lab, args(&["-o", "json"])).success();
    let [copied, skipped, failed] = counts(&done);
    assert_eq!((copied + skipped, failed), (701, 0), "{done}");
    assert!(skipped >= there, "{done}");
    same(&here.join("t"), &far.join("t"));
}
