//! Names that anybody with `ec2:CreateTags` may give, and what ssh makes of them.

use std::fmt::Write as _;

use ops_test_needs::needs;

use crate::client::Client;

/// Written into the fleet as YAML, which takes JSON's escapes.
const HOSTILE: &[&str] = &[
    "web*",
    "*",
    "web?",
    "!web-1",
    "a,b",
    "a\nProxyCommand touch /tmp/x",
    "a\r\nHost *",
    "a\\",
    "a\"b",
    "'a'",
    "$(touch x)",
    "`touch x`",
    "a;b",
    "a|b",
    "a&b",
    "a>b",
    "%h",
    "100%",
    "#a",
    "a#b",
    "a=b",
    "-oProxyCommand=x",
    "me@host",
    "a/b",
    "a:b",
    " a",
    "a ",
    "a\tb",
    "a\u{a0}b",
    "a\u{202e}b",
    "a\u{200b}b",
    "\u{1b}[31mred",
    "localhost",
    "127.0.0.1",
    "::1",
    "github.com",
    "a\u{0}b",
    "i-0123456789abcdef0",
];
const HARMLESS: &[&str] = &[
    "web-1",
    "Web-1",
    "web.internal",
    "web_1",
    "büro",
    "日本",
    "i-team",
    "a+b",
    "~a",
    "[a]",
    "a^b",
    "x",
];

pub(crate) fn fleet(names: impl IntoIterator<Item = String>) -> (Client, Vec<(String, String)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut yaml = "instances:\n".to_owned();
    let mut ids = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let id = format!("i-{:017x}", number + 0xabc0_0000);
        let quoted = serde_json::to_string(&name).expect("JSON");
        writeln!(yaml, "  - {{ name: {quoted}, id: {id} }}").expect("text");
        ids.push((name, id));
    }
    let path = folder.path().join("fleet.yaml");
    std::fs::write(&path, yaml).expect("a file");
    (Client::with(|options| options.fleet = Some(path)), ids)
}

/// What ssh says of `name`: its HostName and ProxyCommand.
pub(crate) fn meaning(
    client: &Client,
    config: &str,
    name: &str,
) -> Option<(String, Option<String>)> {
    let lines = client.asked_of_ssh(config, name)?;
    let value = |key: &str| {
        let line = lines.iter().find(|line| line.starts_with(key));
        line.map(|line| line[key.len()..].to_owned())
    };
    Some((
        value("hostname ").expect("a HostName"),
        value("proxycommand "),
    ))
}

#[test]
fn a_name_leads_to_its_instance_or_nowhere() {
    needs!("ssh");
    let names = HOSTILE.iter().chain(HARMLESS).map(ToString::to_string);
    let (client, ids) = fleet(names.chain(["two words".to_owned()]));
    client.write(".ssh/known_hosts", "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl0\n");
    client.profile("team", "ssh: { user: ec2-user }\n");
    let said = client
        .ops(["-p", "team", "ssh-config", "--install"])
        .success();
    assert!(
        !said.stderr.contains('\u{1b}') && !said.stderr.contains('\u{202e}'),
        "{said:?}"
    );
    let config = client.config();
    for (name, id) in &ids {
        // Whatever its name, its id works.
        let (host, proxy) = meaning(&client, &config, id).expect("an id");
        assert_eq!(&host, id);
        assert!(
            proxy.is_some_and(|proxy| proxy.contains(" ssh-proxy ")),
            "{id}"
        );
        let hostile = HOSTILE.contains(&name.as_str());
        // No program can be given this as an argument.
        if name.contains('\0') {
            continue;
        }
        match meaning(&client, &config, name) {
            // Since 9.6 ssh takes no such name at all; before, it has no entry and means itself.
            None => assert!(hostile || name == "two words", "{name:?}"),
            Some((host, proxy)) if hostile && !name.starts_with("i-") => {
                assert_ne!(&host, id, "{name:?}");
                assert_eq!(proxy, None, "{name:?}");
            }
            // It is another's id, and that is what it means.
            Some((host, _)) if hostile => assert_eq!(&host, name),
            Some((host, _)) => assert_eq!(&host, id, "{name:?}"),
        }
        // The service's XML does not carry control characters as they are, so that the name told
        // may be another.
        if hostile && !name.starts_with("i-") && !name.contains(char::is_control) {
            let told = format!("{id} has no entry by its name");
            assert!(said.stderr.contains(&told), "{name:?}: {said:?}");
        }
    }
    // Nothing but what is meant to be there.
    let (host, proxy) = meaning(&client, &config, "elsewhere").expect("a host");
    assert_eq!((host.as_str(), proxy), ("elsewhere", None));
    let known = [
        "Host",
        "HostName",
        "ForwardAgent",
        "HostKeyAlias",
        "ProxyCommand",
        "User",
        "UserKnownHostsFile",
        "StrictHostKeyChecking",
    ];
    let text =
        std::fs::read_to_string(client.home().join(".ssh/ops/hosts-team.conf")).expect("a file");
    for line in text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let keyword = line.trim_start().split(' ').next().expect("a word");
        assert!(known.contains(&keyword), "{line:?}");
    }
}

#[test]
fn several_of_one_name_get_the_ends_of_their_ids_and_the_first_the_name_if_asked_for() {
    needs!("ssh");
    let (client, ids) = fleet(["web", "web", "db"].map(str::to_owned));
    client.profile("team", "ssh: { host_prefix: stg- }\n");
    let tail = |index: usize| ids[index].1[ids[index].1.len() - 4..].to_owned();
    client
        .ops(["-p", "team", "ssh-config", "--install"])
        .success();
    let config = client.config();
    let host = |name: &str| meaning(&client, &config, name).expect("a host").0;
    assert_eq!(host("stg-web"), "stg-web");
    assert_eq!(host("web"), "web");
    assert_eq!(host("stg-db"), ids[2].1);
    for index in [0, 1] {
        assert_eq!(host(&format!("stg-web-{}", tail(index))), ids[index].1);
    }
    client
        .ops(["-p", "team", "ssh-config", "--install", "--first"])
        .success();
    assert_eq!(host("stg-web"), ids[0].1);
    assert_eq!(host(&format!("stg-web-{}", tail(1))), ids[1].1);
}
