"""Runs every verb of `ops` once against the sandbox, through the proxy of model_proxy.py, and wants no violation of AWS's models.

    model_calls.py PATH-OF-OPS

A verb that this file does not know fails the check, and so does an operation that no verb has called: both lists are held against
what `ops --help` and the documentation say.
"""

import collections
import contextlib
import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import model_proxy

HERE = os.path.dirname(os.path.abspath(__file__))
# For what must happen sooner or later on a busy machine, in seconds.
PATIENCE = 120
# Verbs that have no call to AWS in them, or are what the others run behind.
WITHOUT_CALLS = {"version", "completion", "man", "plugin", "recent", "sandbox"}
# Operations that have to have been called in the end. Those of docs/iam.md, and of logging in.
OPERATIONS = {
    "ec2:DescribeInstances",
    "ec2:DescribeRegions",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeVpcEndpoints",
    "ec2:GetConsoleOutput",
    "ec2-instance-connect:SendSSHPublicKey",
    "iam:GetInstanceProfile",
    "iam:ListAttachedRolePolicies",
    "iam:SimulatePrincipalPolicy",
    "iam:ListAccountAliases",
    "logs:GetLogEvents",
    "kms:GenerateDataKey",
    "resource-groups:ListGroupResources",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:HeadBucket",
    "s3:PutObject",
    "ssm:CancelCommand",
    "ssm:DescribeActivations",
    "ssm:DescribeInstanceInformation",
    "ssm:DescribeSessions",
    "ssm:GetCommandInvocation",
    "ssm:GetDocument",
    "ssm:ListCommandInvocations",
    "ssm:ListCommands",
    "ssm:GetServiceSetting",
    "ssm:ListTagsForResource",
    "ssm:ResumeSession",
    "ssm:SendCommand",
    "ssm:StartSession",
    "ssm:TerminateSession",
    "sso:GetRoleCredentials",
    "sso:Logout",
    "sso-oidc:CreateToken",
    "sso-oidc:RegisterClient",
    "sso-oidc:StartDeviceAuthorization",
    "sts:AssumeRole",
    "sts:GetCallerIdentity",
    "sts:GetFederationToken",
}

AWS_CONFIG = """
[profile dev]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = Operator
[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
sso_registration_scopes = sso:account:access
"""
TEAM_PROFILES = {
    "bucket": "copy: { s3_bucket: ops-sandbox-copies, s3_prefix: some/where }\n",
    "outputs": "exec: { s3_bucket: ops-sandbox-copies }\n",
    "logged": "exec: { log_group: /ops/runs }\n",
    "connect": "ssh: { user: ec2-user, auth: instance-connect }\n",
    "role": 'aws: { role_arn: "arn:aws:iam::123456789012:role/checker", session_name: check }\n',
    "document": "copy: { document: Sandbox-CommandNice }\nexec: { document: Sandbox-CommandSeparated }\n",
    "account": 'aws: { account: "123456789012" }\n',
}


def fleet():
    """The sandbox's own fleet, in an account that logs its sessions."""
    own = os.path.join(HERE, "../../crates/sandbox/src/fleet/default.yaml")
    with open(own, encoding="utf-8") as file:
        return file.read() + "\nsession: { cloud_watch_log_group_name: /ops/sessions }\n"


class Check:
    """A sandbox, the proxy before it, and `ops` in an environment that knows the proxy alone."""

    def __init__(self, ops):
        self.ops = ops
        self.home = os.environ["HOME"]
        self.verbs = set()
        self.processes = []

    def start(self):
        server = self.spawn([self.ops, "sandbox", "serve", "--fleet", self.write("fleet.yaml", fleet())])
        text = ""
        for line in server.stdout:
            text += line
            if "export OPS_FEDERATION_ENDPOINT=" in line:
                break
        else:
            fail("ops sandbox serve did not start")
        exported = dict(re.findall(r"^export ([A-Z_]+)=(\S+)$", text, re.MULTILINE))
        upstream = exported["AWS_ENDPOINT_URL"]
        self.report = os.path.join(self.home, "report.json")
        proxy = self.spawn([sys.executable, os.path.join(HERE, "model_proxy.py"), upstream, self.report])
        address = proxy.stdout.readline().strip()
        if not address.startswith("http://127.0.0.1:"):
            fail("the proxy did not start")
        self.environment = {name: value.replace(upstream, address) for name, value in exported.items()}
        self.environment |= {
            "PATH": os.environ["PATH"],
            "HOME": self.home,
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "USER": "tester",
            "SHELL": "/bin/bash",
            "XDG_RUNTIME_DIR": os.path.join(self.home, "run"),
        }
        os.makedirs(self.environment["XDG_RUNTIME_DIR"], mode=0o700)
        self.write(".aws/config", AWS_CONFIG)
        for name, text in TEAM_PROFILES.items():
            self.write(f".config/ops/profiles/{name}.yaml", text)
        access = json.load(open(self.access_file(), encoding="utf-8"))
        self.admin = (upstream, access)

    def spawn(self, command, **options):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        self.processes.append(process)
        return process

    def access_file(self):
        for folder, _, files in os.walk(self.home):
            for name in files:
                if name.startswith("sandbox") and name.endswith(".json"):
                    return os.path.join(folder, name)
        return fail("the sandbox wrote no access file")

    def write(self, path, text):
        path = os.path.join(self.home, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def run(self, *arguments, status=0, stdin="", without=()):
        """`ops` with these arguments; its output."""
        self.verbs.add(arguments[0])
        environment = {name: value for name, value in self.environment.items() if name not in without}
        done = subprocess.run(
            [self.ops, *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=self.home,
        )
        if done.returncode != status:
            fail(f"ops {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def ask_sandbox(self, path, body=""):
        upstream, access = self.admin
        request = urllib.request.Request(f"{upstream}/_sandbox/{path}", data=body.encode(), method="POST")
        request.add_header("X-Sandbox-Token", access["admin_token"])
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.read()

    def log_in(self):
        """A login at the SSO: on a terminal, with somebody who confirms the code."""
        environment = self.keyless()
        self.verbs.add("ls")
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.home)
            os.execve(self.ops, [self.ops, "--aws-profile", "dev", "ls"], environment)
        text = self.read_until(terminal, r"Log in now\?", "")
        os.write(terminal, b"y\r")
        text = self.read_until(terminal, r"confirm the code (\S+) at", text)
        code = re.search(r"confirm the code (\S+) at", text).group(1)
        self.ask_sandbox(f"sso/{code}", "confirm")
        self.read_until(terminal, r"web-1", text)
        os.waitpid(child, 0)

    def log_in_in_the_browser(self):
        """The other grant: a browser that opens nothing, and this check in its place."""
        environment = self.keyless() | {"BROWSER": "true"}
        login = subprocess.Popen(
            [self.ops, "--aws-profile", "dev", "login"], env=environment, cwd=self.home, stderr=subprocess.PIPE, text=True
        )
        self.verbs.add("login")
        page = next(line for line in login.stderr if "log in at " in line).split("log in at ")[1].strip()
        waiting = self.led_on(page)
        self.ask_sandbox(f"sso/{waiting.split('user_code=')[1]}", "confirm")
        urllib.request.urlopen(self.led_on(waiting), timeout=PATIENCE).read()
        told = login.stderr.read()
        if login.wait(PATIENCE) != 0:
            fail(f"ops login ended with {login.returncode}: {told}")

    @staticmethod
    def led_on(page):
        """Where a page leads the browser on to."""
        address = urllib.parse.urlsplit(page)
        connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE)
        connection.request("GET", f"{address.path}?{address.query}")
        answer = connection.getresponse()
        if answer.status != 302:
            fail(f"{page} answers {answer.status}: {answer.read()}")
        return answer.headers["location"]

    def keyless(self):
        return {name: value for name, value in self.environment.items() if not name.startswith("AWS_ACCESS") and name != "AWS_SECRET_ACCESS_KEY"}

    def pick(self):
        """A choice on a terminal; it takes the first row."""
        self.verbs.add("pick")
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.home)
            os.execve(self.ops, [self.ops, "pick", "web-*"], self.environment)
        text = self.read_until(terminal, r"which server\?", "")
        text = self.read_until(terminal, r"web-1", text)
        os.write(terminal, b"\r")
        self.read_until(terminal, r"i-0a1b2c3d4e5f60718\s*$", text)
        os.waitpid(child, 0)

    @staticmethod
    def read_until(terminal, pattern, text):
        while not re.search(pattern, text):
            if not select.select([terminal], [], [], PATIENCE)[0]:
                fail(f"nothing more came before {pattern!r}: {text}")
            try:
                text += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                fail(f"ops ended before {pattern!r}: {text}")
        return text

    def forward(self):
        """A tunnel to a port of this machine, which the sandbox's servers are too; and its resumption after a cut."""
        listener = socket.create_server(("127.0.0.1", 0))

        def echo():
            with contextlib.suppress(OSError):
                while True:
                    stream, _ = listener.accept()
                    with stream:
                        while data := stream.recv(65536):
                            stream.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        port = listener.getsockname()[1]
        self.ask_sandbox("faults", json.dumps("cut-after=12"))
        script = (
            "import os, socket, sys\n"
            "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
            "for number in range(40):\n"
            "    s.sendall(b'%02d' % number)\n"
            "    got = b''\n"
            "    while len(got) < 2: got += s.recv(2) or sys.exit('closed')\n"
        )
        self.run(
            "forward", "web-1", f"0:127.0.0.1:{port}", "--", sys.executable, "-c", script, "{0.host}", "{0.port}"
        )
        self.ask_sandbox("faults", json.dumps(""))
        listener.close()

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


def fail(why):
    print(f"FAILED: {why}", file=sys.stderr)
    sys.exit(1)


def every_verb(check):
    run = check.run
    far = tempfile.mkdtemp(dir=check.home)
    file = check.write("file", "some text\n" * 1000)

    # Lists, in all their forms and with every kind of condition.
    run("ls")
    run("ls", "web-*", "10.0.1.11", "tag:Team=web", "--tag", "Env!=prod", "-o", "json")
    run("ls", "i-0a1b2c3d4e5f60718", "--state", "all", "-o", "wide")
    run("ls", "--filter", "instance-type=t3.medium,t3.large", "-o", "name")
    run("ls", "mi-0a4b5c6d7e8f90123")
    run("ls", "--all-regions", "-o", "yaml")
    run("describe", "web-1")
    run("ls", "-p", "account")
    run("ls", "-p", "role")
    run("cache", "refresh")
    run("config", "show")
    run("wait", "web-1")
    run("wait", "web-1", "--for", "session")

    run("shell", "web-1", stdin="exit\n")
    run("shell", "web-1", "--reason", "INC-4711", stdin="exit\n")
    # The one server of the sandbox's fleet whose sessions are encrypted.
    run("shell", "web-3", stdin="exit\n")

    run("exec", "web-1", "--", "cat", stdin="text")
    run("exec", "web-*", "-n", "--", "true")
    run("exec", "--profile", "document", "web-1", "-n", "--", "true")
    run("logs", "web-1", file)

    # Run Command: by ids and by a tag, a long output, from a bucket, and the history.
    run("exec", "web-1", "-n", "--via", "run-command", "--", "head", "-c", "60000", "/dev/zero")
    run("exec", "--profile", "outputs", "web-1", "-n", "--via", "run-command", "--", "head", "-c", "60000", "/dev/zero")
    run("exec", "--profile", "logged", "web-1", "-n", "--via", "run-command", "--", "seq", "20000")
    run("exec", "--resource-group", "web-servers", "-n", "--via", "run-command", "--", "true")
    command = run("exec", "tag:Team=web", "-n", "--via", "run-command", "--detach", "--time-limit", "5m", "--", "sleep", "100").strip()
    run("runs", "--since", "1d", "--mine")
    run("runs", "cancel", command)
    run("runs", "wait", command, status=8)
    run("runs", "show", command, "-o", "json", status=8)

    run("cp", "file", f"web-1:{far}/up")
    run("cp", f"web-1:{far}/up", "down")
    run("cp", "--profile", "document", f"web-1:{far}/up", "nice")
    run("cp", "--via", "sftp", "--profile", "connect", "file", f"web-1:{far}/sftp")
    run("cp", "--via", "s3", "--profile", "bucket", "file", f"web-1:{far}/s3")
    run("cp", "--via", "s3", "--profile", "bucket", f"web-1:{far}/s3", "from-s3")
    for name in ("down", "nice", "from-s3", os.path.join(far, "sftp")):
        with open(os.path.join(check.home, name), encoding="utf-8") as copied, open(file, encoding="utf-8") as original:
            if copied.read() != original.read():
                fail(f"{name} is not what was copied")

    check.forward()

    run("ssh-config")
    if shutil.which("ssh"):
        # It makes a key of the moment, and has it accepted.
        run("ssh", "--instance-connect", "ec2-user@web-1", "true")
    run("ssh-proxy", "web-1", "22", stdin="", status=0)
    run("api", "resolve", "web-1")
    run("api", "connect", "web-1", "22", stdin="", status=0)

    run("doctor", "web-1")
    # One without an agent, whose surroundings are looked at, and one without a role.
    run("doctor", "build-1", status=7)
    check.ask_sandbox("instances", json.dumps({"name": "no-role", "role": "none"}))
    run("doctor", "no-role", status=7)
    check.ask_sandbox("instances", json.dumps({"name": "depot-2", "hybrid": True, "agent": {"online": False}}))
    run("doctor", "depot-2", status=7)
    # The names of the policies are asked for where the simulator may not be.
    check.ask_sandbox("faults", json.dumps("deny=iam:SimulatePrincipalPolicy"))
    run("doctor", "build-1", status=7)
    check.ask_sandbox("faults", json.dumps(""))

    run("console", "web-1", "--print")
    run("console", "web-1", "--login", "--print")
    check.log_in()
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    run("whoami", "-o", "json")
    run("env", "--", "true")
    run("whoami", "--aws-profile", "dev", without=keys)
    run("logout", "--aws-profile", "dev", without=keys)
    check.log_in_in_the_browser()
    run("whoami", "--aws-profile", "dev", without=keys)
    check.pick()

    # Every filter that the service has; those who are asked for are not all there.
    run("sessions")
    run("sessions", "--mine", "--status", "connected", "--since", "2d", "web-1")
    run("sessions", "--history", "--owner", "arn:aws:iam::123456789012:user/alice", "-o", "json")
    past = json.loads(run("sessions", "--history", "--document", "SSM-SessionManagerRunShell", "-o", "json"))["items"]
    run("sessions", "log", past[0]["id"])
    run("sessions", "end", "--mine", "--yes")


def the_proxy_sees_what_is_wrong():
    """Holds the check itself against requests and answers that are wrong in one way each."""
    models = model_proxy.Models()
    json_headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "AmazonSSM.StartSession")]
    form_headers = [("Content-Type", "application/x-www-form-urlencoded")]

    def ssm(body):
        return model_proxy.Call(models, "POST", "/", json_headers, json.dumps(body).encode())

    def ec2(body):
        return model_proxy.Call(models, "POST", "/", form_headers, f"Version=2016-11-15&Action=DescribeInstances&{body}".encode())

    good = {"Target": "i-0a1b2c3d4e5f60718", "Parameters": {"command": ["true"]}, "DocumentName": "AWS-StartInteractiveCommand"}
    if ssm(good).violations or ec2("MaxResults=1000&Filter.1.Name=tag:Name&Filter.1.Value.1=web").violations:
        fail("the proxy takes offence at what is right")
    wrong = {
        "a member that is not there": ssm(good | {"Targett": "x"}),
        "a member that is missing": ssm({"Reason": "x"}),
        "a text that is too long": ssm(good | {"Reason": "x" * 257}),
        "a text that does not match": ssm(good | {"DocumentName": "a b"}),
        "a wrong type": ssm(good | {"Parameters": {"command": "true"}}),
        "a parameter that is not there": ec2("Filter.1.Names=tag:Name"),
        "no number": ec2("MaxResults=many"),
    }
    answer = [("x-amzn-requestid", "r")]
    for name, status, body in [
        ("an answer's member that is not there", 200, {"SessionId": "a-0", "Token": "x"}),
        ("an answer's text that is too long", 200, {"SessionId": "a" * 97}),
        ("an error that does not exist", 400, {"__type": "NoSuchThing"}),
    ]:
        wrong[name] = ssm(good)
        wrong[name].check_answer(status, answer, json.dumps(body).encode())
    blind = [name for name, call in wrong.items() if not call.violations]
    if blind:
        fail(f"the proxy does not see {blind}")


def main():
    the_proxy_sees_what_is_wrong()
    check = Check(os.path.abspath(sys.argv[1]))
    try:
        check.start()
        help_page = subprocess.run([check.ops, "--help"], capture_output=True, text=True, check=True).stdout
        every_verb(check)
        report = json.load(open(check.report, encoding="utf-8"))
        print(json.dumps(report["calls"], indent=2))
        if report["throttled"]:
            print("told to slow down:", json.dumps(report["throttled"]))
        verbs = {line.split()[0].rstrip(",") for line in help_page.splitlines() if re.match(r"^  [a-z][a-z-]+(, [a-z]+)?  +[A-Z]", line)}
        if not verbs:
            fail("the help page lists no verbs")
        missing = verbs - check.verbs - WITHOUT_CALLS
        if missing:
            fail(f"verbs that this check does not run: {sorted(missing)}")
        missing = OPERATIONS - set(report["calls"])
        if missing:
            fail(f"operations that no verb has called: {sorted(missing)}")
        if report["violations"]:
            counted = sorted(collections.Counter(report["violations"]).items())
            fail("violations of the models:\n" + "\n".join(f"{count} times: {why}" for why, count in counted))
    finally:
        check.stop()


if __name__ == "__main__":
    main()
