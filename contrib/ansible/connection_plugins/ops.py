"""Ansible connection plugin: commands by `ops exec`, files by `ops cp`."""

from __future__ import annotations

DOCUMENTATION = """
name: ops
short_description: reach servers on AWS through Systems Manager, with ops
description:
  - Runs commands with C(ops exec) and copies files with C(ops cp), through AWS Systems Manager
    Session Manager. The server needs neither an SSH daemon nor an open port, and no bucket is
    needed.
  - C(ops) must be installed on the control node. Servers need a POSIX shell and Python.
options:
  host:
    description: Name, instance id or address of the server, as C(ops) takes it.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_ops_target
  remote_user:
    description:
      - User to act as on the server. Without it, the user that Session Manager starts as.
        C(ops) becomes that user with a sudo that asks for no password.
    vars:
      - name: ansible_user
      - name: ansible_ops_user
  ops_executable:
    description: The C(ops) to run, a path or a name to be found on C(PATH).
    default: ops
    vars:
      - name: ansible_ops_executable
    env:
      - name: ANSIBLE_OPS_EXECUTABLE
  ops_profile:
    description: Team profile, C(ops -p).
    vars:
      - name: ansible_ops_profile
  ops_region:
    description: AWS region, C(ops --region).
    vars:
      - name: ansible_ops_region
  ops_reason:
    description: Why, for the history of sessions, C(ops --reason).
    vars:
      - name: ansible_ops_reason
  pipelining:
    description:
      - Send modules on the standard input of Python there, in place of a copy before each. There
        is no terminal that sudo could demand, so it is on.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
      - name: ansible_ops_pipelining
    env:
      - name: ANSIBLE_PIPELINING
  timeout:
    description: Seconds until a session must be ready.
    type: int
    default: 60
    vars:
      - name: ansible_ops_timeout
    env:
      - name: ANSIBLE_TIMEOUT
"""

import os
import re
import shutil
import subprocess

from ansible.errors import (
    AnsibleConnectionFailure,
    AnsibleError,
    AnsibleFileNotFound,
)
from ansible.plugins.connection import ConnectionBase

# `ops exec` ends with 255 where `ops` itself failed, and a command may end with 255 too. What
# tells them apart is a last line with one of the stable words of docs/exec.md.
OPS_FAILED = re.compile(rb"^ops: (OPS-E-[A-Z-]+)", re.MULTILINE)
# `ops cp` uses the exit codes of docs/output.md: 7 is a server that cannot be reached.
UNREACHABLE = 7


class Connection(ConnectionBase):
    """One server. Each command and each copy is a session of its own, so nothing is kept open."""

    transport = "ops"
    # A module travels on the standard input of Python there: one session in place of four.
    has_pipelining = True
    # Windows servers are not served: `ops exec` promises nothing there.
    allow_extras = True

    def _connect(self):
        if not self._connected:
            program = self.get_option("ops_executable")
            if shutil.which(program) is None:
                raise AnsibleError(
                    f"there is no `{program}` to run: install ops, or set ansible_ops_executable"
                )
            self._connected = True
        return self

    def close(self):
        self._connected = False

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Runs `cmd`, a line of sh, and returns (status, output, error output)."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if sudoable and self.become and self.become.expect_prompt():
            raise AnsibleError(
                "the connection plugin `ops` cannot answer a password prompt: let sudo ask for "
                "none on the server, or set ansible_user to the user that you want to be"
            )
        words = self._ops("exec")
        # Nothing of Ansible's own standard input may go to the server.
        words += ["--no-stdin"] if in_data is None else []
        words += [f"--timeout={self.get_option('timeout')}s", self._target(), "--shell", cmd]
        self._display.vvv(f"EXEC {' '.join(words)}", host=self.get_option("host"))
        done = self._run(words, in_data)
        failed = OPS_FAILED.search(done.stderr)
        if done.returncode == 255 and failed:
            raise AnsibleConnectionFailure(self._text(done.stderr))
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        """Copies a file from here to the server."""
        super().put_file(in_path, out_path)
        if not os.path.exists(in_path):
            raise AnsibleFileNotFound(f"there is no file {in_path} to copy")
        # An absolute path is never taken for a server, whatever colons are in it.
        self._copy(os.path.abspath(in_path), f"{self._target()}:{out_path}")

    def fetch_file(self, in_path, out_path):
        """Copies a file from the server to here."""
        super().fetch_file(in_path, out_path)
        self._copy(f"{self._target()}:{in_path}", os.path.abspath(out_path))

    def _copy(self, source, target):
        words = self._ops("cp")
        words += ["--sudo"] if self.get_option("remote_user") else []
        words += [f"--timeout={self.get_option('timeout')}s", "--", source, target]
        self._display.vvv(f"COPY {' '.join(words)}", host=self.get_option("host"))
        done = self._run(words, None)
        if done.returncode == UNREACHABLE:
            raise AnsibleConnectionFailure(self._text(done.stderr))
        if done.returncode != 0:
            raise AnsibleError(
                f"cannot copy {source} to {target}: {self._text(done.stderr)}"
            )

    def _ops(self, verb):
        words = [self.get_option("ops_executable"), verb, "--no-input"]
        for option, name in (
            ("--profile", "ops_profile"),
            ("--region", "ops_region"),
            ("--reason", "ops_reason"),
        ):
            value = self.get_option(name)
            words += [f"{option}={value}"] if value else []
        return words

    def _target(self):
        user = self.get_option("remote_user")
        target = self.get_option("host")
        target = f"{user}@{target}" if user else target
        # It stands where an option could.
        if target.startswith("-"):
            raise AnsibleError(f"{target!r} is no name of a server: it begins with a dash")
        return target

    @staticmethod
    def _run(words, in_data):
        how = {"stdin": subprocess.DEVNULL} if in_data is None else {"input": in_data}
        return subprocess.run(words, capture_output=True, check=False, **how)

    @staticmethod
    def _text(stderr):
        return stderr.decode("utf-8", "replace").strip()
