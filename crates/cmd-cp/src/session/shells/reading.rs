//! What scripts print in each shell: lists, files and archives.

use std::os::unix::ffi::OsStringExt as _;

use ops_remote::pipe::text::{DecodedItem, Decoder, Encoding};
use tokio::sync::mpsc;

use super::*;
use crate::{
    hashes::parse_hash,
    item::{Entry, Kind, ListRequest},
    session::{
        download::fetching_script,
        fetch_archive::{bundling_script, with_prelude},
        list::{self, listing_script},
    },
    transport::{Fetch, Sink},
};

/// Names that mean something to a shell, to printf or to a tool.
const NAMES: [&[u8]; 9] = [
    b"plain",
    b"-n",
    b" a  b ",
    b"new\nline\n",
    b"$(touch pwned) `id` \"q\" 'q'",
    b"back\\slash\\0101",
    b"50%s",
    b"bad\xff\xfe",
    b"\xe6\x97\xa5",
];

/// What a script has left: standard output, and the messages that it has written to descriptor 6.
struct ScriptResult {
    output: Vec<u8>,
    messages: String,
    complaints: String,
}

/// Runs a script as a command on a server runs it.
fn run_in(shell: &Shell, script: &str, folder: &Path) -> ScriptResult {
    assert!(!script.contains('\''), "{script}");
    let messages = folder.join("messages");
    let script = format!("exec 6>{}\n{script}", messages.display());
    let output = shell.command(&script).env("HOME", folder).output().unwrap();
    ScriptResult {
        output: output.stdout,
        messages: fs::read_to_string(messages).unwrap(),
        complaints: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `tools` without those of `names`, as a server without them has told.
fn without(tools: &Tools, names: &[&str]) -> Tools {
    let all = [
        "tar",
        "gzip",
        "zstd",
        "sha256sum",
        "sums",
        "openssl",
        "printf",
        "null",
        "xargs",
        "window",
    ];
    let have: Vec<&str> = all
        .into_iter()
        .filter(|name| tools.has(name) && !names.contains(name))
        .collect();
    let told = [
        &tools.home[..],
        b"0022",
        have.join(" ").as_bytes(),
        b"1",
        b"",
    ]
    .join(&0);
    Tools::parse_told(&told).unwrap()
}

fn path_of(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(std::ffi::OsString::from_vec(name.to_vec()))
}

/// A list of all kinds of things is the same in `shell`, whatever tools make it.
fn lists(shell: &Shell) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let tree = root.join("tree");
    fs::create_dir(&tree).unwrap();
    for name in NAMES {
        fs::write(path_of(&tree, name), name).unwrap();
        fs::set_permissions(path_of(&tree, name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    symlink("../new\nwhere\n", tree.join("link")).unwrap();
    symlink("tree", root.join("by-link")).unwrap();
    fs::create_dir(tree.join("below")).unwrap();
    fs::write(tree.join("below/deep"), "deep").unwrap();
    fs::create_dir_all(root.join("other/below")).unwrap();
    for name in NAMES {
        fs::write(path_of(&root.join("other"), name), name).unwrap();
    }
    let all = tools_of(shell);
    for tools in [&all, &without(&all, &["printf", "sums"])] {
        let ask = ListRequest {
            // By its whole path, from the home by way of a link, by a pattern, and not there.
            places: vec![
                tree.as_os_str().as_bytes().to_vec(),
                b"~/by-link/".to_vec(),
                b"other/b*".to_vec(),
                b"other/missing*".to_vec(),
            ],
            globs: true,
            recursive: true,
            digests: true,
            ..ListRequest::default()
        };
        let script = format!(
            "{}{}",
            with_home(tools, &root),
            listing_script(&ask).unwrap()
        );
        let written = run_in(shell, &script, &root);
        let listing = list::parse_list(&written.output, 4).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&written.output);
            panic!("{text}\n{}", written.complaints)
        });
        let absolute = |name: &str| [root.as_os_str().as_bytes(), b"/", name.as_bytes()].concat();
        assert_eq!(
            listing.places,
            ["tree", "by-link", "other/b*", "other/missing*"].map(absolute)
        );
        for place in [0, 1] {
            let found = |name: &[u8]| {
                let mut found = listing.found.iter();
                found
                    .find(|found| found.place == place && found.below == name)
                    .unwrap_or_else(|| panic!("{place}: no {name:?}"))
            };
            for name in NAMES {
                let known = fs::metadata(path_of(&tree, name)).unwrap();
                let expected = Entry {
                    kind: Kind::File,
                    size: name.len() as u64,
                    mode: 0o640,
                    mtime: known.mtime(),
                    // Names with a backslash too: they are ended by a NUL, and not escaped.
                    sha256: parse_hash(&sha256(name)),
                };
                assert_eq!(found(name).entry, expected, "{name:?}");
            }
            let link = Kind::Link(b"../new\nwhere\n".to_vec());
            assert_eq!(found(b"link").entry.kind, link);
            assert_eq!(found(b"below").entry.kind, Kind::Folder);
            assert_eq!(found(b"below/deep").entry.size, 4);
            // A match that is a link is looked through.
            assert_eq!(found(b"").entry.kind, Kind::Folder);
        }
        let mut matches: Vec<&[u8]> = listing
            .found
            .iter()
            .filter(|found| found.place == 2 && found.below.is_empty())
            .map(|found| &found.root[absolute("other/").len()..])
            .collect();
        matches.sort_unstable();
        assert_eq!(
            matches,
            [&b"back\\slash\\0101"[..], b"bad\xff\xfe", b"below"]
        );
        assert!(listing.found.iter().all(|found| found.place != 3));
        assert!(!tree.join("pwned").exists() && !root.join("pwned").exists());
    }
    // What is not recursive ends at the place; -P takes a link as a link.
    let ask = ListRequest {
        places: vec![b"by-link".to_vec()],
        keep_links: true,
        ..ListRequest::default()
    };
    let script = format!(
        "{}{}",
        with_home(&all, &root),
        listing_script(&ask).unwrap()
    );
    let written = run_in(shell, &script, &root);
    let listing = list::parse_list(&written.output, 1).unwrap();
    assert_eq!(listing.found.len(), 1);
    assert_eq!(listing.found[0].entry.kind, Kind::Link(b"tree".to_vec()));
}

/// The beginning of a script for a user whose home is `home`.
fn with_home(tools: &Tools, home: &Path) -> String {
    let mut tools = tools.clone();
    tools.home = home.as_os_str().as_bytes().to_vec();
    tools.prelude_script()
}

/// Files arrive as they are, in parts, when they have grown, and when they do not say their size.
fn fetches(shell: &Shell) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let content: Vec<u8> = (0..20 * 1024 * 1024_u32)
        .map(|n| (n / 77 % 251) as u8)
        .collect();
    let tools = tools_of(shell);
    for name in NAMES {
        fs::write(path_of(&root, name), &content[..5000]).unwrap();
        let script = fetching_script(&tools, &remote(&root, name));
        let written = run_in(
            shell,
            &format!("{script}codec=\ngo_to_file\nchoose_compressor 5000\nfetch_whole\n"),
            &root,
        );
        assert!(
            written.output == content[..5000],
            "{name:?}: {}",
            written.complaints
        );
        let sum = format!("!sha {}\n", sha256(&content[..5000]));
        assert!(
            written.messages.contains(&sum) && written.messages.contains("!whole\n"),
            "{}",
            written.messages
        );
    }
    fs::write(root.join("large"), &content).unwrap();
    let script = fetching_script(&tools, &remote(&root, b"large"));
    // From the second block of the first part, over the third part's end as it was listed.
    let size = 19 << 20;
    let written = run_in(
        shell,
        &format!(
            "{script}codec=gzip\ngo_to_file\nchoose_compressor {size}\nhash_beside {size}\n\
             {{\ncopy_range 10 7\ncopy_parts 0 1 2 2 {}\ncopy_growth {size} {size}\n}} | compress\nwait\n",
            3 << 20
        ),
        &root,
    );
    let mut read = Vec::new();
    let mut unpacked = flate2::read::MultiGzDecoder::new(&written.output[..]);
    unpacked.read_to_end(&mut read).unwrap();
    let expected = [
        &content[10..17],
        &content[1 << 20..8 << 20],
        &content[16 << 20..19 << 20],
        &content[19 << 20..],
    ]
    .concat();
    assert!(read == expected, "{} of {}", read.len(), expected.len());
    for message in [
        "!z gzip\n".to_owned(),
        format!("!sha {}\n", sha256(&content[..size])),
        format!("!grown {} {}\n", content.len(), sha256(&content)),
    ] {
        assert!(written.messages.contains(&message), "{}", written.messages);
    }
    // A link below what was named is not read, wherever it stands.
    symlink("large", root.join("link")).unwrap();
    symlink(".", root.join("here")).unwrap();
    for below in [&b"link"[..], b"here/large"] {
        let script = fetching_script(&tools, &remote(&root, below));
        let written = run_in(
            shell,
            &format!("{script}go_to_file\ncat <\"$file\"\n"),
            &root,
        );
        assert!(written.output.is_empty());
        assert!(
            written.complaints.contains("not followed"),
            "{}",
            written.complaints
        );
    }
}

/// An archive has all of its files with their hashes, and no file behind a link.
fn writes_archives(shell: &Shell) {
    let tools = tools_of(shell);
    if !tools.has("null") {
        // busybox's tar: files are fetched one by one then.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("tree/sub 50%s/-x")).unwrap();
    let mut expected = Vec::new();
    let mut files = Vec::new();
    let (sender, _kept) = mpsc::channel(1);
    for below in ["", "sub 50%s/", "sub 50%s/-x/"] {
        for name in NAMES {
            let name = [below.as_bytes(), name].concat();
            fs::write(path_of(&root.join("tree"), &name), &name).unwrap();
            expected.push((name.clone(), name.clone()));
            files.push(Fetch {
                id: files.len(),
                path: remote(&root.join("tree"), &name),
                entry: Entry {
                    kind: Kind::File,
                    size: name.len() as u64,
                    mode: 0o644,
                    mtime: 0,
                    sha256: None,
                },
                sink: Sink::Stream(sender.clone()),
            });
        }
    }
    let script = with_prelude(&tools, &bundling_script(&tools, &files, false));
    let written = run_in(shell, &script, &root);
    let end = written.output.windows(2).position(|two| two == b"\n\n");
    let end = end.unwrap_or_else(|| panic!("no hashes: {}", written.complaints));
    let (hashes, archive) = written.output.split_at(end + 2);
    let mut sums: Vec<String> = String::from_utf8(hashes.to_vec())
        .unwrap()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    sums.sort();
    let mut wanted: Vec<String> = expected.iter().map(|(_, bytes)| sha256(bytes)).collect();
    wanted.sort();
    assert_eq!(sums, wanted, "{}", written.complaints);
    let mut archive = tar::Archive::new(archive);
    let mut arrived = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path_bytes().strip_prefix(b"./").unwrap().to_vec();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        arrived.push((name, content));
    }
    assert_eq!(arrived, expected);
    // One folder has become a link since.
    fs::rename(root.join("tree/sub 50%s"), root.join("elsewhere")).unwrap();
    symlink("../elsewhere", root.join("tree/sub 50%s")).unwrap();
    let written = run_in(shell, &script, &root);
    assert!(written.output.is_empty());
    assert!(
        written.complaints.contains("not followed"),
        "{}",
        written.complaints
    );
}

/// A dialogue tells what the probe tells, and what a script writes.
fn runs_scripts(shell: &Shell) {
    let mut talk = ShellDialogue::start_on(shell, None);
    let (told, complaints, answer) = talk.output_of("tools", b"");
    assert_eq!(
        (complaints, answer),
        (vec![], format!("ok 0 {}", told.len()))
    );
    let (told, tools) = (Tools::parse_told(&told).unwrap(), tools_of(shell));
    assert_eq!(told.prelude_script(), tools.prelude_script());
    assert!(told.free_bytes.is_some());
    let script = b"cd /; name=changed\nprintf \"\\000\\377\\n\"; cat; printf gone >&2; has head || echo no head\nexit 3";
    let command = format!("run {}", script.len());
    let (told, complaints, answer) = talk.output_of(&command, script);
    assert_eq!(told, b"\0\xff\n");
    assert_eq!(
        (complaints, answer),
        (vec!["gone".to_owned()], "ok 3 3".to_owned())
    );
    let (told, _, answer) = talk.output_of("run 4", b"true");
    assert_eq!((told.len(), answer.as_str()), (0, "ok 0 0"));
    talk.quit();
}

impl ShellDialogue {
    /// Asks for something that a script prints: what it printed, its complaints, and the answer.
    #[track_caller]
    fn output_of(&mut self, command: &str, input: &[u8]) -> (Vec<u8>, Vec<String>, String) {
        self.send(command);
        self.input.write_all(input).unwrap();
        let (mut items, mut complaints) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::new(Encoding::Base64);
        loop {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            let text = line.trim_end();
            if let Some(digits) = text.strip_prefix("!+ ") {
                decoder.push(digits.as_bytes(), &mut items).unwrap();
            } else if let Some(complaint) = text.strip_prefix("!- ") {
                complaints.push(complaint.to_owned());
            } else if !text.is_empty() {
                let answer = text.strip_prefix(&format!("!{} ", self.number));
                let bytes = items.into_iter().flat_map(|item| match item {
                    DecodedItem::Bytes(bytes) => bytes.to_vec(),
                    DecodedItem::Message(text) => panic!("a message among data: {text}"),
                });
                let told = bytes.collect();
                return (told, complaints, answer.expect(text).to_owned());
            }
        }
    }
}

fn reads_as_agreed(shell: &Shell) {
    runs_scripts(shell);
    lists(shell);
    fetches(shell);
    writes_archives(shell);
}

#[test]
fn files_are_listed_and_read_in_dash() {
    needs!("dash", "gzip");
    reads_as_agreed(&Shell::new("dash"));
}

#[test]
fn files_are_listed_and_read_in_bash() {
    needs!("bash", "gzip");
    reads_as_agreed(&Shell::new("bash"));
}

#[test]
fn files_are_listed_and_read_in_busybox() {
    needs!("busybox");
    reads_as_agreed(&Shell::new("busybox"));
}

#[test]
fn files_are_listed_and_read_in_mksh() {
    needs!("mksh", "gzip");
    reads_as_agreed(&Shell::new("mksh"));
}

#[test]
fn files_are_listed_and_read_in_ksh() {
    needs!("ksh93", "gzip");
    reads_as_agreed(&Shell::new("ksh93"));
}
