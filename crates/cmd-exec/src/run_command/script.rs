//! The script that Run Command is given: a command whose words keep their boundaries, whatever the
//! service and the agent replace in documents.
//!
//! All that the user wrote goes in base64, whose alphabet has neither braces nor dollars:
//! `{{ ssm:… }}` would be read by the service, `{{ … }}` and `$$` by the agent.
//!
//! Four statuses mean something else to the agent: it takes 137 for a time that is over, ends the
//! document at 168 and 169, and starts the server anew at 194. The script says its status on the
//! last line of its error output, and exits with 1 in place of those. Where the output is kept in a
//! log group, which tells no lengths, the number of its bytes stands behind the status.
//! Source: agent/plugins/pluginutil and agent/framework/runpluginutil of the public
//! amazon-ssm-agent.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ops_remote::exec::Command;
use ops_ui::{Error, Result};

/// Most bytes of a script: a document has 64 KiB, with what surrounds its parameters.
const LARGEST_SCRIPT: usize = 62_000;
/// In front of the status, on the last line of error output.
pub(crate) const STATUS_MARK: &str = "\nops-exec: ";

/// Around the lines that run the command, where its standard output is counted: `tee` passes it on
/// to descriptor 3, and a copy of it to `wc`. Status and count come back in `r`, in this order,
/// because `wc` ends after the command. The copy goes by `/dev/fd/5`, which is a pipe of our own:
/// opened anew, a file that is our standard output would be written from its beginning.
const COUNTED: [&str; 2] = [
    "exec 3>&1\nr=$({ { {",
    "} 3>&- 4>&-\necho \"$?\" >&4; } | { tee /dev/fd/5 >&3; } 5>&1 | wc -c; } 4>&1)\nset -- $r\ns=${1:-1}",
];

/// A command and what surrounds it.
pub(crate) struct RunScript<'a> {
    pub(crate) command: &'a Command,
    pub(crate) user: Option<&'a str>,
    pub(crate) cwd: Option<&'a str>,
    pub(crate) env: &'a [(String, Vec<u8>)],
    /// Whether the number of bytes of its standard output is told beside its status.
    pub(crate) counts_output: bool,
}

impl RunScript<'_> {
    /// For `AWS-RunShellScript`.
    ///
    /// # Errors
    /// It is too large for a document.
    pub(crate) fn for_sh(&self) -> Result<Vec<String>> {
        let mut lines = vec![
            format!(
                "t=$(printf %s '{}' | base64 -d) || exit 127",
                encoded(&self.sh_text())
            ),
            "p=".to_owned(),
        ];
        if let Command::Script { name, bytes, .. } = self.command {
            let path = format!("\"$d\"/{}", sh_quoted(file_name(name).as_bytes()));
            lines.push("d=$(mktemp -d) || exit 126".to_owned());
            lines.push(format!("p={path}"));
            lines.push(format!(
                "printf %s '{}' | base64 -d > \"$p\" && chmod 700 \"$p\" || exit 126",
                encoded(bytes)
            ));
        }
        let run = match self.user {
            None => "sh -c \"$t\" sh \"$p\"".to_owned(),
            Some(user) => {
                let user = sh_quoted(user.as_bytes());
                // The agent is root, which needs no password; not every server has a sudo.
                lines.push(format!(
                    "[ -z \"$p\" ] || chown -R {user} \"$d\" || exit 126"
                ));
                format!(
                    "if [ \"$(id -un)\" = {user} ]; then sh -c \"$t\" sh \"$p\"\n\
                     elif command -v sudo >/dev/null 2>&1; then sudo -n -H -u {user} -- sh -c \"$t\" sh \"$p\"\n\
                     else su -s /bin/sh {user} -c \"$t\" sh \"$p\"; fi"
                )
            }
        };
        if self.counts_output {
            let [before, behind] = COUNTED;
            lines.extend([before.to_owned(), run, behind.to_owned()]);
        } else {
            lines.extend([run, "s=$?".to_owned()]);
        }
        if matches!(self.command, Command::Script { .. }) {
            lines.push("rm -rf \"$d\"".to_owned());
        }
        lines.extend([
            if self.counts_output {
                "printf '\\nops-exec: %d %d\\n' \"$s\" \"${2:-0}\" >&2".to_owned()
            } else {
                "printf '\\nops-exec: %d\\n' \"$s\" >&2".to_owned()
            },
            "case $s in 137|168|169|194) s=1;; esac".to_owned(),
            "exit \"$s\"".to_owned(),
        ]);
        checked(lines)
    }

    /// What a shell of its own runs; its first argument is the path of a script.
    fn sh_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(dir) = self.cwd {
            // Run Command has no home of its own to begin at.
            if !dir.starts_with('/') {
                text.extend_from_slice(b"cd -- \"${HOME:-/}\" || exit 126\n");
            }
            let dir = dir.strip_prefix("~/").unwrap_or(dir);
            text.extend_from_slice(b"cd -- ");
            text.extend_from_slice(&sh_word(dir.as_bytes()));
            text.extend_from_slice(b" || exit 126\n");
        }
        for (name, value) in self.env {
            text.extend_from_slice(b"export ");
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            text.extend_from_slice(&sh_word(value));
            text.push(b'\n');
        }
        let words: &[Vec<u8>] = match self.command {
            Command::Argv(words) => {
                text.extend_from_slice(b"exec");
                words
            }
            Command::Line(line) => {
                text.extend_from_slice(b"exec sh -c ");
                text.extend_from_slice(&sh_word(line));
                &[]
            }
            Command::Script { args, .. } => {
                text.extend_from_slice(b"\"$1\"");
                args
            }
        };
        for word in words {
            text.push(b' ');
            text.extend_from_slice(&sh_word(word));
        }
        text
    }

    /// For `AWS-RunPowerShellScript`. Written from the documentation; nobody has tried it on a
    /// Windows server.
    ///
    /// # Errors
    /// It is too large for a document, or asks for what Windows servers have not.
    pub(crate) fn for_powershell(&self) -> Result<Vec<String>> {
        if self.user.is_some() {
            return Err(Error::usage("--user is for Linux servers")
                .caused_by("Run Command runs as SYSTEM on Windows servers")
                .hint("leave out --user, or those servers"));
        }
        let mut lines = vec!["$ErrorActionPreference = 'Continue'".to_owned()];
        let decoded = |bytes: &[u8]| {
            format!(
                "[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('{}'))",
                encoded(bytes)
            )
        };
        for (name, value) in self.env {
            let name = encoded(name.as_bytes());
            lines.push(format!(
                "Set-Item -LiteralPath ('Env:' + [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('{name}'))) -Value ({})",
                decoded(value)
            ));
        }
        if let Some(dir) = self.cwd {
            lines.push(format!(
                "Set-Location -LiteralPath ({})",
                decoded(dir.as_bytes())
            ));
        }
        lines.push("$global:LASTEXITCODE = $null".to_owned());
        let args = |words: &[Vec<u8>]| {
            let words: Vec<String> = words.iter().map(|word| decoded(word)).collect();
            format!("@({})", words.join(","))
        };
        match self.command {
            Command::Argv(words) => {
                let (program, rest) = words
                    .split_first()
                    .map_or((&[][..], &[][..]), |(p, r)| (p, r));
                lines.push(format!("$w = {}", args(rest)));
                lines.push(format!("& ({}) @w", decoded(program)));
            }
            Command::Line(line) => lines.push(format!("Invoke-Expression ({})", decoded(line))),
            Command::Script {
                bytes, args: words, ..
            } => {
                lines.push(format!("$w = {}", args(words)));
                lines.push(format!(
                    "& ([ScriptBlock]::Create(({}))) @w",
                    decoded(bytes)
                ));
            }
        }
        lines.extend([
            "$ok = $?".to_owned(),
            "$s = if ($null -ne $LASTEXITCODE) { $LASTEXITCODE } elseif ($ok) { 0 } else { 1 }"
                .to_owned(),
            "[Console]::Error.Write(\"`nops-exec: $s`n\")".to_owned(),
            // 3010 has the agent start the server anew.
            "if ($s -eq 3010 -or $s -eq 168 -or $s -eq 169) { $s = 1 }".to_owned(),
            "exit $s".to_owned(),
        ]);
        checked(lines)
    }
}

fn checked(lines: Vec<String>) -> Result<Vec<String>> {
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    if bytes <= LARGEST_SCRIPT {
        return Ok(lines);
    }
    Err(
        Error::usage("the command is too large for Run Command")
            .caused_by(format!(
                "it takes {bytes} bytes as it is sent, and a document of Systems Manager has room for {LARGEST_SCRIPT}"
            ))
            .hint("run it by sessions: --via session")
            .hint("or copy a file there first: ops cp FILE 'TARGET:'"),
    )
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// The last part of a path, without what a shell or a file system could take amiss.
fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.chars().filter(|c| is_plain(*c)).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "script".to_owned(),
        name => name.to_owned(),
    }
}

/// One word of sh, byte for byte.
fn sh_word(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word {
        if byte == b'\'' {
            quoted.extend_from_slice(br"'\''");
        } else {
            quoted.push(byte);
        }
    }
    quoted.push(b'\'');
    quoted
}

fn sh_quoted(word: &[u8]) -> String {
    String::from_utf8_lossy(&sh_word(word)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command as Process, Output};

    use super::*;

    fn argv(words: &[&[u8]]) -> Command {
        Command::Argv(words.iter().map(|word| word.to_vec()).collect())
    }

    /// Runs it as the agent does: `sh -c FILE`, the file without a `#!` line.
    fn run(script: &RunScript<'_>) -> Output {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("_script.sh");
        let lines = script.for_sh().expect("it fits");
        std::fs::write(&path, lines.join("\n") + "\n").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("its mode");
        Process::new("sh")
            .arg("-c")
            .arg(&path)
            .output()
            .expect("sh")
    }

    fn plain(command: &Command) -> RunScript<'_> {
        RunScript {
            command,
            user: None,
            cwd: None,
            env: &[],
            counts_output: false,
        }
    }

    #[test]
    fn the_bytes_of_the_output_are_counted_and_pass_as_they_are() {
        for (line, stdout, told) in [
            (
                "printf 'a\\0b\\377'; echo err >&2; exit 3",
                &b"a\0b\xff"[..],
                "3 4",
            ),
            ("exit 194", b"", "194 0"),
            ("echo one; kill -9 $$", b"one\n", "137 4"),
            // A process of its own that outlives the command is waited for, as the agent does.
            (
                "(sleep 0.2; echo late) & echo soon",
                b"soon\nlate\n",
                "0 10",
            ),
        ] {
            let command = Command::Line(line.as_bytes().to_vec());
            let script = RunScript {
                counts_output: true,
                ..plain(&command)
            };
            let text = script.for_sh().expect("it fits").join("\n");
            assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
            let output = run(&script);
            assert_eq!(output.stdout, stdout, "{line}");
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                stderr.ends_with(&format!("\nops-exec: {told}\n")),
                "{stderr}"
            );
        }
    }

    #[test]
    fn words_keep_their_boundaries_and_nothing_in_them_is_replaced() {
        let words: [&[u8]; 9] = [
            b"printf",
            b"<%s>",
            b"a b",
            b"",
            b"it's",
            b"{{ ssm:secret }}",
            b"$$HOME",
            b"-x\n",
            b"\xff*",
        ];
        let command = argv(&words);
        let script = plain(&command);
        let lines = script.for_sh().expect("it fits").join("\n");
        assert!(!lines.contains("{{") && !lines.contains("$$"), "{lines}");
        let output = run(&script);
        assert_eq!(
            output.stdout,
            b"<a b><><it's><{{ ssm:secret }}><$$HOME><-x\n><\xff*>"
        );
        assert_eq!(output.stderr, b"\nops-exec: 0\n");
    }

    #[test]
    fn the_status_is_told_and_those_that_the_agent_reads_otherwise_are_not_used() {
        for (line, code, told) in [
            ("exit 3", 3, 3),
            ("exit 137", 1, 137),
            ("exit 168", 1, 168),
            ("exit 194", 1, 194),
            ("kill -9 $$", 1, 137),
        ] {
            let command = Command::Line(line.as_bytes().to_vec());
            let output = run(&plain(&command));
            assert_eq!(output.status.code(), Some(code), "{line}");
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                stderr.ends_with(&format!("\nops-exec: {told}\n")),
                "{stderr}"
            );
        }
    }

    #[test]
    fn folder_variables_and_script_are_there_and_the_script_is_gone_afterwards() {
        let command = Command::Script {
            name: "../fix it.sh".to_owned(),
            bytes: b"#!/bin/sh\npwd; echo \"$A\" \"$1\"; echo \"$0\" >&2\n".to_vec(),
            args: vec![b"x y".to_vec()],
        };
        let env = [("A".to_owned(), b"1 '2'".to_vec())];
        let output = run(&RunScript {
            cwd: Some("/"),
            env: &env,
            ..plain(&command)
        });
        assert_eq!(output.stdout, b"/\n1 '2' x y\n");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let path = stderr.lines().next().expect("its path");
        assert!(path.ends_with("/fixit.sh"), "{path}");
        assert!(!std::path::Path::new(path).exists());
        let missing = run(&RunScript {
            cwd: Some("/no/such"),
            ..plain(&command)
        });
        assert_eq!(missing.status.code(), Some(126));
    }

    #[test]
    fn what_is_too_large_for_a_document_is_refused() {
        let command = argv(&[&[b'x'; 50_000]]);
        assert!(plain(&command).for_sh().is_err());
        let command = argv(&[&[b'x'; 40_000]]);
        assert!(plain(&command).for_sh().is_ok());
    }

    #[test]
    fn a_command_of_powershell_is_text_that_holds_no_word_of_the_user() {
        let command = argv(&[b"Write-Output", b"it's {{ x }}"]);
        let env = [("NAME".to_owned(), b"$v".to_vec())];
        let script = RunScript {
            env: &env,
            ..plain(&command)
        };
        let text = script.for_powershell().expect("it fits").join("\n");
        assert!(!text.contains("it's") && !text.contains("{{"), "{text}");
        assert!(text.ends_with("exit $s"), "{text}");
    }
}
