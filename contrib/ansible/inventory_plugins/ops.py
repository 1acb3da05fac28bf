"""Ansible inventory plugin: the servers that `ops ls` finds."""

from __future__ import annotations

DOCUMENTATION = """
name: ops
short_description: servers on AWS as ops ls finds them
description:
  - Each server of C(ops ls -o json) is a host, reached by the connection plugin C(ops). A file of
    this inventory ends in C(ops.yml) or C(ops.yaml).
  - A server is called by its Name tag. Where two have one name, each is called by its id.
extends_documentation_fragment:
  - constructed
options:
  plugin:
    description: Says that a file is for this plugin.
    required: true
    choices: [ops]
  ops_executable:
    description: The C(ops) to run, a path or a name to be found on C(PATH).
    default: ops
    env:
      - name: ANSIBLE_OPS_EXECUTABLE
  profile:
    description: Team profile, C(ops -p).
  region:
    description: AWS region, C(ops --region).
  patterns:
    description: Names, globs, ids or C(tag:Key=Value), as C(ops ls) takes them. All without.
    type: list
    elements: str
    default: []
  tags:
    description: Conditions on tags, C(ops ls --tag).
    type: list
    elements: str
    default: []
  online:
    description: Whether servers whose agent does not answer are left out.
    type: bool
    default: true
"""

EXAMPLES = """
# web.ops.yml
plugin: ops
profile: shop
tags: ['Team=web']
keyed_groups:
  - key: ops_tags.Role
    prefix: role
"""

import json
import shutil
import subprocess
from collections import Counter

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.unsafe_proxy import wrap_var


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Hosts of `ops ls`, with what is known of each as variables that begin with ops_."""

    NAME = "ops"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(("ops.yml", "ops.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        items = self._list()
        names = Counter(item["name"] for item in items)
        for item in items:
            name = item["name"]
            host = name if name and names[name] == 1 else item["id"]
            self._add(host, item)

    def _add(self, host, item):
        self.inventory.add_host(host)
        # Whoever may tag a server must not have a template evaluated here.
        known = {f"ops_{key}": wrap_var(value) for key, value in item.items()}
        known |= {
            "ansible_connection": "ops",
            # The id reaches the server also where its name changes, or another takes it.
            "ansible_ops_target": item["id"],
            "ansible_ops_region": item["region"],
        }
        if self.get_option("profile"):
            known["ansible_ops_profile"] = self.get_option("profile")
        for key, value in known.items():
            self.inventory.set_variable(host, key, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), known, host, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), known, host, strict)
        self._add_host_to_keyed_groups(
            self.get_option("keyed_groups"), known, host, strict
        )

    def _list(self):
        program = self.get_option("ops_executable")
        if shutil.which(program) is None:
            raise AnsibleParserError(
                f"there is no `{program}` to run: install ops, or set ops_executable"
            )
        words = [program, "ls", "--no-input", "--output=json"]
        for option in ("profile", "region"):
            value = self.get_option(option)
            words += [f"--{option}={value}"] if value else []
        words += [f"--tag={condition}" for condition in self.get_option("tags")]
        words += ["--online"] if self.get_option("online") else []
        words += ["--", *self.get_option("patterns")]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise AnsibleParserError(done.stderr.decode("utf-8", "replace").strip())
        return json.loads(done.stdout)["items"]
