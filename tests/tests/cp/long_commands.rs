//! Where the service takes no long parameter: the dialogue's script goes through the terminal, and
//! commands that name many files go in halves.

use super::*;

#[test]
fn a_limit_of_parameters_costs_some_sessions_and_nothing_else() {
    let lab = Lab::with_sandbox();
    let (here, there, back) = (
        lab.folder("here").join("t"),
        lab.folder("there"),
        lab.folder("back"),
    );
    for n in 0..240 {
        let name = format!("folder {}/a file with a name of some length {n}", n % 7);
        put(&here, name.as_bytes(), &noise(n * 10), 0o644);
    }
    for limit in ["max-parameter=4096", "max-parameter=8192"] {
        lab.ops(["sandbox", "fault", limit]).output().success();
        for folder in [&there, &back] {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        }
        cp(&lab, [os("-rp"), here.clone().into(), remote(&there)]).success();
        same(&here, &there.join("t"));
        let done = cp(
            &lab,
            [os("-rpv"), remote(&there.join("t")), back.clone().into()],
        )
        .success();
        same(&here, &back.join("t"));
        // Far from a session for each file.
        let begun = done.stderr.matches("did not come in an archive").count();
        assert!(begun > 0 && begun < 20, "{limit}: {begun} refused");
        // What asks for hashes names many files, too.
        cp(
            &lab,
            [
                os("-rp"),
                os("--resume"),
                here.clone().into(),
                remote(&there),
            ],
        )
        .success();
    }
}
