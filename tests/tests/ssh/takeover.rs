//! Names of instances that mean something to the user already: whoever writes tags must not get
//! what the user types for another host.

use std::net::ToSocketAddrs as _;

use ops_test_needs::needs;

use crate::{
    client::{Client, text},
    names::{fleet, meaning},
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl0";

/// What leads elsewhere already, each by another way.
const TAKEN: &[&str] = &[
    "db.corp.example",
    "agents",
    "included",
    "matched",
    "jumped",
    "ported",
    "fileserver",
    "hashed.example",
    // A number is an address to the resolver.
    "127.1",
];
/// What the user has wishes for, and nothing else.
const FREE: &[&str] = &["tuned-1", "web-1", "corp.example"];

fn client(names: &[String]) -> (Client, Vec<(String, String)>) {
    let (client, ids) = fleet(names.iter().cloned());
    client.profile("team", "ssh: { user: ec2-user }\n");
    let more = client.write("more.conf", "Host included\n  HostName 192.0.2.7\n");
    client.write(
        ".ssh/config",
        &format!(
            "Include {}\nHost agents\n  ForwardAgent yes\nHost *.corp.example\n  User corp\nMatch host matched\n  HostName 192.0.2.8\nHost jump* tuned-*\n  Compression yes\nHost jumped\n  ProxyJump bastion\nHost port*\n  Port 2200\nHost *\n  ServerAliveInterval 9\n",
            text(&more)
        ),
    );
    // Hashed by `ssh-keygen -H`.
    let hashed = client.write("hashed", &format!("hashed.example {KEY}\n"));
    client
        .run("ssh-keygen", ["-q", "-H", "-f", text(&hashed)])
        .success();
    let hashed = std::fs::read_to_string(hashed).expect("a file");
    assert!(hashed.starts_with("|1|"), "{hashed}");
    client.write(
        ".ssh/known_hosts",
        &format!("fileserver,192.0.2.9 {KEY}\n{hashed}"),
    );
    (client, ids)
}

#[test]
fn a_name_that_leads_elsewhere_already_gets_no_entry() {
    needs!("ssh", "ssh-keygen");
    let mut names: Vec<String> = TAKEN.iter().chain(FREE).map(ToString::to_string).collect();
    // The name of this very machine, where it leads anywhere.
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = own.trim().to_owned();
    let mut taken: Vec<&str> = TAKEN.to_vec();
    if own != "localhost" && (own.as_str(), 22).to_socket_addrs().is_ok() {
        names.push(own.clone());
        taken.push(&own);
    }
    let (client, ids) = client(&names);
    // The same whether the entries are printed to be appended, or installed.
    let printed = client.ops(["-p", "team", "ssh-config"]).success();
    let said = client
        .ops(["-p", "team", "ssh-config", "--install"])
        .success();
    let before = std::fs::read_to_string(client.home().join(".ssh/config.ops-backup"));
    let appended = client.write(
        "appended",
        &format!("{}{}", before.expect("a backup"), printed.stdout),
    );
    for config in [client.config(), text(&appended).to_owned()] {
        for (name, id) in &ids {
            let (host, proxy) = meaning(&client, &config, id).expect("an id");
            assert_eq!(&host, id);
            assert!(proxy.is_some_and(|proxy| proxy.contains(" ssh-proxy ")));
            let (host, proxy) = meaning(&client, &config, name).expect("a name");
            if taken.contains(&name.as_str()) {
                assert_ne!(&host, id, "{name}");
                assert_eq!(proxy, None, "{name}");
                assert!(said.stderr.contains(name), "{name}: {said:?}");
            } else {
                assert_eq!(&host, id, "{name}");
                assert!(proxy.is_some_and(|proxy| proxy.contains(" ssh-proxy ")));
            }
        }
        // The user's wishes for a server of ours hold.
        let lines = client.asked_of_ssh(&config, "tuned-1").expect("a host");
        for wanted in [
            "compression yes",
            "serveraliveinterval 9",
            "user ec2-user",
            "forwardagent no",
        ] {
            assert!(
                lines.iter().any(|line| line == wanted),
                "{wanted}: {lines:?}"
            );
        }
    }
    for why in [
        "its own User",
        "its own HostName",
        "its own Port",
        "hosts already, by DNS",
        "among the known hosts",
    ] {
        assert!(said.stderr.contains(why), "{why}: {said:?}");
    }
    // Refreshing does not find our own entries in the way.
    let again = client
        .ops(["-p", "team", "ssh-config", "--install"])
        .success();
    assert!(
        again.stderr.contains("everything is up to date"),
        "{again:?}"
    );
}

#[test]
fn what_stands_for_every_host_wins_and_is_told() {
    needs!("ssh");
    let (client, _) = fleet(["web-1".to_owned()]);
    client.profile("team", "ssh: { user: ec2-user }\n");
    client.write(
        ".ssh/config",
        "Host *\n  ForwardAgent yes\n  User me\n  ProxyJump bastion\n",
    );
    let said = client
        .ops(["-p", "team", "ssh-config", "--install"])
        .success();
    for told in [
        "ForwardAgent yes",
        "User me",
        "ProxyJump bastion",
        "the keys of your ssh agent",
    ] {
        assert!(said.stderr.contains(told), "{told}: {said:?}");
    }
    // Under `ops ssh` no entry for every host forwards the agent; who asks for it gets it.
    let shown = |words: &[&str]| {
        let said = client.ops([&["ssh"], words, &["-G", "web-1"]].concat());
        said.success().stdout
    };
    assert!(shown(&[]).contains("forwardagent no\n"));
    assert!(shown(&["-A"]).contains("forwardagent yes\n"));
}
