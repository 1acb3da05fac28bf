//! A command that runs while the tunnels are up.

use crate::tunnel::{ops, service, text};

#[test]
fn a_command_runs_while_the_tunnel_is_up_and_gives_its_exit_code() {
    let service = service();
    let script = r#"echo "$1 $OPS_FORWARD_0_ADDR $OPS_FORWARD_0_HOST:$OPS_FORWARD_0_PORT"; exit 7"#;
    let output = ops(
        &service,
        &[
            "forward", "web-1", "0:80", "--", "sh", "-c", script, "sh", "{0.addr}",
        ],
    );
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words.len(), 3, "{said}");
    assert!(words[0].starts_with("127.0.0.1:") && words.iter().all(|word| *word == words[0]));
    let failed = ops(&service, &["forward", "nobody", "0:80", "--", "true"]);
    assert_eq!(failed.status.code(), Some(255));
    let said = text(&failed.stderr);
    assert!(said.starts_with("ops: OPS-E-NOT-FOUND: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
