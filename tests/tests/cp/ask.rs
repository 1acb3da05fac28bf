//! `--overwrite ask`, on a terminal and without one.

use ops_tests::{service::Service, terminal::Terminal};

use super::*;

#[test]
fn a_question_for_each_file_is_asked_where_somebody_can_answer() {
    let service = Service::start(env!("CARGO_BIN_EXE_ops-under-test"), "");
    let folder = service.home().join("ask");
    for name in ["a", "b", "c"] {
        put(&folder, format!("far/{name}").as_bytes(), b"new", 0o644);
        put(&folder, format!("here/{name}").as_bytes(), b"old", 0o644);
    }
    let far = format!("web-1:{}/far/", folder.display());
    let here = format!("{}/here/", folder.display());
    let content = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    let ask = |places: &[String], answers: &[(&str, &str)]| {
        let mut args = vec!["cp", "--overwrite", "ask"];
        args.extend(places.iter().map(String::as_str));
        let mut terminal = Terminal::start(&service, &args);
        let mut at = 0;
        for (name, answer) in answers {
            at = terminal.wait_for_after(at, name);
            at = terminal.wait_for_after(at, "? [y/N] ");
            terminal.send(format!("{answer}\r"));
        }
        assert_eq!(terminal.wait(), Some(0));
        let screen = terminal.screen(80, 24).screen().contents();
        // Nothing is drawn over a question.
        assert!(!screen.contains("total"), "{screen}");
        screen
    };
    let places = ["a", "b", "c"].map(|name| format!("{far}{name}"));
    let all = [&places[..], std::slice::from_ref(&here)].concat();
    let screen = ask(&all, &[("here/a", "y"), ("here/b", "n"), ("here/c", "")]);
    assert!(screen.contains("2 left alone"), "{screen}");
    let now = ["here/a", "here/b", "here/c"].map(content);
    assert_eq!(now, ["new", "old", "old"]);
    // Towards the server.
    fs::write(folder.join("here/b"), "newer").unwrap();
    let places = [format!("{here}b"), format!("{here}c"), far.clone()];
    ask(
        &places,
        &[("here/b on web-1", "yes"), ("here/c on web-1", "no")],
    );
    assert_eq!(["far/b", "far/c"].map(content), ["newer", "new"]);
}

#[test]
fn where_nobody_can_be_asked_that_is_said_before_anything_is_copied() {
    let lab = Lab::with_sandbox();
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    put(&far, b"a", b"new", 0o644);
    put(&here, b"a", b"old", 0o644);
    let args = [
        os("--overwrite"),
        os("ask"),
        remote(&far.join("a")),
        here.clone().into(),
    ];
    let done = cp(&lab, &args).exits(9);
    assert!(
        done.stderr.contains("--overwrite ask` needs a terminal")
            && done.stderr.contains("hint: decide before"),
        "{done}"
    );
    assert_eq!(fs::read(here.join("a")).unwrap(), b"old");
    // A plan asks nobody.
    let done = cp(&lab, [os("--dry-run")].iter().chain(&args)).success();
    assert!(done.stdout.contains("far/a -> "), "{done}");
}
