"""A proxy that holds every call to AWS's own models.

It stands between `ops` and the sandbox, passes each request and each answer on as it is, and checks both against the service models
that botocore ships: unknown and missing members, types, lengths, ranges, patterns and enumerations. It enforces the documented
quotas of Session Manager, as the service does: a call beyond them gets ThrottlingException and never reaches the sandbox.

    model_proxy.py UPSTREAM REPORT

prints the address it listens on, serves until it is ended, and writes REPORT (JSON) after each call.
"""

import base64
import binascii
import contextlib
import http.client
import json
import re
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session
import regex

# Calls a second for one account and region. Source: "AWS Systems Manager endpoints and quotas" in
# the AWS General Reference.
# How large a burst may be is not documented: it is taken to be what one second allows.
QUOTAS = {
    "StartSession": 3,
    "TerminateSession": 6,
    "ResumeSession": 6,
    "DescribeSessions": 6,
    "GetConnectionStatus": 50,
}

# Codes that no operation's model lists, and that every service gives. Source: "Common Errors" of
# the API references.
COMMON_ERRORS = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InternalError",
    "InternalFailure",
    "InvalidAction",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "RequestLimitExceeded",
    "SerializationException",
    "SignatureDoesNotMatch",
    "Throttling",
    "ThrottlingException",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
    "ValidationError",
    "ValidationException",
}

# Codes that the service gives although its model does not list them, seen in answers that people
# pasted into public threads.
UNLISTED_ERRORS = {
    "StartSession": {"InvalidParameters", "BadRequest"},
    "ResumeSession": {"BadRequest"},
    "TerminateSession": {"DoesNotExistException"},
}

# EC2's query API lists no errors in its model: codes have this form.
EC2_ERROR = re.compile(r"^[A-Z][A-Za-z]+(\.[A-Z][A-Za-z]+)*$")

JSON_SERVICES = {"AmazonSSM": "ssm", "AWSEC2InstanceConnectService": "ec2-instance-connect", "TrentService": "kms", "Logs_20140328": "logs"}
QUERY_SERVICES = {"2016-11-15": "ec2", "2011-06-15": "sts", "2010-05-08": "iam"}
REST_JSON_SERVICES = ("sso-oidc", "sso", "resource-groups")
# Headers of every signed or HTTP request, which are no members of an operation.
PLAIN_HEADERS = {
    "accept",
    "accept-encoding",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "transfer-encoding",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-target",
    "x-amz-user-agent",
}
PRESIGNED = {
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
}


class Models:
    """The service models, loaded once each: EC2's takes a second."""

    def __init__(self):
        self._session = botocore.session.get_session()
        self._models = {}
        self._lock = threading.Lock()

    def of(self, service):
        with self._lock:
            if service not in self._models:
                self._models[service] = self._session.get_service_model(service)
            return self._models[service]


class Walk:
    """Holds one value against one shape and gathers what does not fit."""

    def __init__(self, where):
        self.where = where
        self.violations = []

    def wrong(self, path, why):
        self.violations.append(f"{self.where}: {path}: {why}")

    # --- values that are known by now ------------------------------------------------------------

    def scalar(self, shape, value, path):
        kind = shape.type_name
        limits = shape.metadata
        if kind == "string":
            if not isinstance(value, str):
                return self.wrong(path, f"a string is wanted, not {value!r}")
            # Run Command answers with an empty text where nothing is set, and with a duration where
            # its model has a date: the examples of its documentation have both ("NotificationType":
            # "", "ExecutionElapsedTime": "PT0.004S").
            if self.where.startswith("answer") and (value == "" or path.endswith("ExecutionElapsedTime")):
                return None
            self.size(limits, len(value), path, "characters")
            if "enum" in limits and value not in limits["enum"]:
                self.wrong(path, f"{value!r} is none of {limits['enum']}")
            if "pattern" in limits:
                self.pattern(limits["pattern"], value, path)
        elif kind in ("integer", "long"):
            if isinstance(value, bool) or not isinstance(value, int):
                return self.wrong(path, f"a whole number is wanted, not {value!r}")
            self.size(limits, value, path, "in value")
        elif kind in ("float", "double"):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return self.wrong(path, f"a number is wanted, not {value!r}")
        elif kind == "boolean":
            if not isinstance(value, bool):
                return self.wrong(path, f"true or false is wanted, not {value!r}")
        elif kind == "timestamp":
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return self.wrong(path, f"seconds since 1970 are wanted, not {value!r}")
        elif kind == "blob":
            try:
                self.size(limits, len(base64.b64decode(value, validate=True)), path, "bytes")
            except (binascii.Error, TypeError, ValueError):
                return self.wrong(path, "base64 is wanted")
        else:
            return self.wrong(path, f"the model has a type that nothing here knows: {kind}")
        return None

    def size(self, limits, size, path, unit):
        if "min" in limits and size < limits["min"]:
            self.wrong(path, f"{size} {unit}, {limits['min']} at least")
        if "max" in limits and size > limits["max"]:
            self.wrong(path, f"{size} {unit}, {limits['max']} at most")

    def pattern(self, pattern, value, path):
        try:
            # The models' patterns are Java's, with classes such as \p{L} that `re` does not have.
            fits = regex.search(pattern, value)
        except regex.error as error:
            return self.wrong(path, f"the model's pattern {pattern!r} cannot be read: {error}")
        if not fits:
            return self.wrong(path, f"{value!r} does not match {pattern!r}")
        return None

    def missing(self, shape, given, path):
        for name in shape.required_members:
            if name not in given:
                self.wrong(path, f"{name} is missing, which is required")

    # --- JSON ------------------------------------------------------------------------------------

    def json(self, shape, value, path):
        kind = shape.type_name
        if value is None:
            return
        if kind == "structure":
            if not isinstance(value, dict):
                return self.wrong(path, f"an object is wanted, not {value!r}")
            names = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
            for key, inner in value.items():
                if key == "__type":
                    continue
                if key not in names:
                    self.wrong(path, f"there is no member {key!r}")
                else:
                    self.json(names[key][1], inner, f"{path}.{key}")
            self.missing(shape, {names[key][0] for key in value if key in names and value[key] is not None}, path)
        elif kind == "list":
            if not isinstance(value, list):
                return self.wrong(path, f"a list is wanted, not {value!r}")
            self.size(shape.metadata, len(value), path, "entries")
            for number, inner in enumerate(value):
                self.json(shape.member, inner, f"{path}[{number}]")
        elif kind == "map":
            if not isinstance(value, dict):
                return self.wrong(path, f"an object is wanted, not {value!r}")
            self.size(shape.metadata, len(value), path, "entries")
            for key, inner in value.items():
                self.scalar(shape.key, key, f"{path} key")
                self.json(shape.value, inner, f"{path}.{key}")
        else:
            self.scalar(shape, value, path)

    # --- query parameters ------------------------------------------------------------------------

    def query(self, shape, form, prefix, used, is_ec2):
        """Whether something of `form` begins with `prefix` and belongs to `shape`; what is read is added to `used`."""
        kind = shape.type_name
        inside = [key for key in form if key == prefix or key.startswith(prefix + ".") or prefix == ""]
        if not inside:
            return False
        if kind == "structure":
            given = set()
            for name, member in shape.members.items():
                key = self.query_name(name, member, is_ec2)
                if self.query(member, form, f"{prefix}.{key}" if prefix else key, used, is_ec2):
                    given.add(name)
            self.missing(shape, given, prefix or "request")
        elif kind == "list":
            flat = is_ec2 or shape.serialization.get("flattened")
            base = prefix if flat else f"{prefix}.{shape.member.serialization.get('name', 'member')}"
            count = 0
            while self.query(shape.member, form, f"{base}.{count + 1}", used, is_ec2):
                count += 1
            self.size(shape.metadata, count, prefix, "entries")
        elif kind == "map":
            self.wrong(prefix, "maps are not read here")
        else:
            text = form.get(prefix)
            if text is None:
                return False
            used.add(prefix)
            self.text(shape, text, prefix)
        return True

    @staticmethod
    def query_name(name, member, is_ec2):
        serialization = member.serialization
        if is_ec2:
            if "queryName" in serialization:
                return serialization["queryName"]
            name = serialization.get("name", name)
            return name[:1].upper() + name[1:]
        return serialization.get("name", name)

    def text(self, shape, text, path):
        """A value that is written as text."""
        kind = shape.type_name
        if kind in ("integer", "long"):
            if not re.fullmatch(r"-?[0-9]+", text):
                return self.wrong(path, f"a whole number is wanted, not {text!r}")
            return self.scalar(shape, int(text), path)
        if kind == "boolean":
            if text not in ("true", "false"):
                return self.wrong(path, f"true or false is wanted, not {text!r}")
            return None
        if kind in ("float", "double"):
            if not re.fullmatch(r"-?[0-9.eE+-]+", text):
                return self.wrong(path, f"a number is wanted, not {text!r}")
            return None
        if kind == "timestamp":
            if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text):
                return self.wrong(path, f"a time is wanted, not {text!r}")
            return None
        return self.scalar(shape, text, path)

    # --- XML -------------------------------------------------------------------------------------

    def xml(self, shape, node, path):
        kind = shape.type_name
        if kind == "structure":
            names = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
            given = set()
            for child in node:
                tag = bare(child.tag)
                if tag not in names:
                    self.wrong(path, f"there is no element {tag!r}")
                    continue
                name, member = names[tag]
                given.add(name)
                self.xml(member, child, f"{path}.{tag}")
            self.missing(shape, given, path)
        elif kind == "list":
            if shape.serialization.get("flattened"):
                return self.xml(shape.member, node, path)
            wanted = shape.member.serialization.get("name", "member")
            for number, child in enumerate(node):
                if bare(child.tag) != wanted:
                    self.wrong(path, f"{bare(child.tag)!r} stands where {wanted!r} is wanted")
                self.xml(shape.member, child, f"{path}[{number}]")
            self.size(shape.metadata, len(node), path, "entries")
        elif kind == "map":
            self.wrong(path, "maps are not read here")
        else:
            self.text(shape, node.text or "", path)
        return None


def bare(tag):
    return tag.rsplit("}", 1)[-1]


class Call:
    """One request, as far as it is understood: service, operation and what is wrong with it."""

    def __init__(self, models, method, target, headers, body):
        self.models = models
        self.method = method
        self.headers = {name.lower(): value for name, value in headers}
        self.url = urllib.parse.urlsplit(target)
        self.body = body
        self.service = None
        self.operation = None
        self.model = None
        self.violations = []
        self.find()

    def region(self):
        scope = re.search(r"Credential=[^/]+/\d{8}/([^/]+)/", self.headers.get("authorization", ""))
        return scope.group(1) if scope else ""

    def key(self):
        scope = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
        return scope.group(1) if scope else ""

    def find(self):
        target = self.headers.get("x-amz-target")
        if target:
            prefix, _, operation = target.partition(".")
            service = JSON_SERVICES.get(prefix)
            if not service:
                return self.wrong(f"{target}: no such service")
            return self.take(service, operation, self.json_request)
        if self.method == "POST" and self.url.path == "/" and self.is_form():
            form = urllib.parse.parse_qsl(self.body.decode(), keep_blank_values=True)
            if len({name for name, _ in form}) != len(form):
                self.wrong("a parameter is given twice")
            form = dict(form)
            service = QUERY_SERVICES.get(form.get("Version"))
            if not service:
                return self.wrong(f"Version {form.get('Version')!r} is of no service")
            return self.take(service, form.get("Action", ""), lambda: self.query_request(form))
        for service in REST_JSON_SERVICES:
            for name in self.models.of(service).operation_names:
                http = self.models.of(service).operation_model(name).http
                if (http["method"], http["requestUri"]) == (self.method, self.url.path):
                    return self.take(service, name, self.rest_json_request)
        if self.is_of_objects():
            return self.object_request()
        # The console's federation endpoint, the sandbox's own pages, web sockets: no model
        # describes them.
        return None

    def is_form(self):
        return self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")

    def take(self, service, operation, check):
        self.service = service
        model = self.models.of(service)
        if operation not in model.operation_names:
            return self.wrong(f"{service} has no operation {operation!r}")
        self.operation = operation
        self.model = model.operation_model(operation)
        check()
        self.check_headers()
        return None

    def wrong(self, why):
        self.violations.append(f"request {self.service}:{self.operation}: {why}")

    def check_headers(self):
        members = self.model.input_shape.members.values() if self.model.input_shape is not None else []
        own = {member.serialization.get("name", "").lower() for member in members if member.serialization.get("location") == "header"}
        extra = {name for name in self.headers if name.startswith("x-amz")} - PLAIN_HEADERS - own
        if extra:
            self.wrong(f"headers that the operation does not have: {sorted(extra)}")

    def json_request(self):
        version = self.model.service_model.metadata["jsonVersion"]
        kind = self.headers.get("content-type")
        if kind != f"application/x-amz-json-{version}":
            self.wrong(f"content-type is {kind!r}")
        try:
            value = json.loads(self.body)
        except ValueError as error:
            return self.wrong(f"the body is no JSON: {error}")
        walk = Walk(f"request {self.service}:{self.operation}")
        walk.json(self.model.input_shape, value, "request")
        self.violations += walk.violations
        return None

    def rest_json_request(self):
        shape = self.model.input_shape
        walk = Walk(f"request {self.service}:{self.operation}")
        query = dict(urllib.parse.parse_qsl(self.url.query, keep_blank_values=True))
        given, body_members = set(), {}
        for name, member in shape.members.items():
            place, key = member.serialization.get("location"), member.serialization.get("name", name)
            if place == "querystring":
                text = query.pop(key, None)
            elif place == "header":
                text = self.headers.get(key.lower())
            else:
                body_members[key] = (name, member)
                continue
            if text is not None:
                given.add(name)
                walk.text(member, text, key)
        for key in query:
            walk.wrong("query", f"there is no parameter {key!r}")
        value = {}
        if body_members:
            try:
                value = json.loads(self.body)
            except ValueError as error:
                return self.wrong(f"the body is no JSON: {error}")
        for key, inner in value.items():
            if key not in body_members:
                walk.wrong("body", f"there is no member {key!r}")
                continue
            given.add(body_members[key][0])
            walk.json(body_members[key][1], inner, key)
        walk.missing(shape, given, "request")
        self.violations += walk.violations
        return None

    def query_request(self, form):
        walk = Walk(f"request {self.service}:{self.operation}")
        used = {"Action", "Version"}
        if self.model.input_shape is not None:
            walk.query(self.model.input_shape, form, "", used, self.service == "ec2")
        for key in sorted(set(form) - used):
            walk.wrong("request", f"there is no parameter {key!r}")
        self.violations += walk.violations

    # --- S3: what is asked for is told by method and path ----------------------------------------

    def is_of_objects(self):
        query = dict(urllib.parse.parse_qsl(self.url.query, keep_blank_values=True))
        scope = query.get("X-Amz-Credential", "") or self.headers.get("authorization", "")
        return "/s3/aws4_request" in scope

    def object_request(self):
        self.service = "s3"
        parts = self.url.path.strip("/").split("/", 1)
        kind = "Object" if len(parts) == 2 and parts[1] else "Bucket"
        names = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete"}
        operation = names.get(self.method, "?") + kind
        model = self.models.of("s3")
        if operation not in model.operation_names:
            return self.wrong(f"no operation is {self.method} of {kind}")
        self.operation = operation
        self.model = model.operation_model(operation)
        walk = Walk(f"request s3:{operation}")
        query = dict(urllib.parse.parse_qsl(self.url.query, keep_blank_values=True))
        for name in PRESIGNED:
            query.pop(name, None)
        own = set()
        for name, member in self.model.input_shape.members.items():
            place, key = member.serialization.get("location"), member.serialization.get("name", name)
            if place == "querystring" and key in query:
                walk.text(member, query.pop(key), key)
            elif place == "header":
                own.add(key.lower())
                if key.lower() in self.headers:
                    walk.text(member, self.headers[key.lower()], key)
        query.pop("x-id", None)
        for key in query:
            walk.wrong("query", f"there is no parameter {key!r}")
        for name in self.headers:
            if name.startswith("x-amz-") and name not in own and name not in PLAIN_HEADERS:
                walk.wrong("headers", f"there is no header {name!r}")
        self.violations += walk.violations
        return None

    # --- answers ---------------------------------------------------------------------------------

    def check_answer(self, status, headers, body):
        if self.model is None:
            return
        self_headers = {name.lower(): value for name, value in headers}
        walk = Walk(f"answer {status} {self.service}:{self.operation}")
        protocol = self.model.service_model.metadata["protocol"]
        if protocol != "rest-xml" and not any(name in self_headers for name in ("x-amzn-requestid", "x-amz-request-id")):
            # The query protocols carry it in the body as well.
            if protocol not in ("query", "ec2"):
                walk.wrong("headers", "there is no request id")
        try:
            if status >= 400:
                self.check_error(walk, protocol, status, self_headers, body)
            elif protocol in ("json", "rest-json"):
                value = json.loads(body) if body else {}
                if self.model.output_shape is not None:
                    walk.json(self.model.output_shape, value, "answer")
                elif value:
                    walk.wrong("answer", "there is a body where the model has none")
            elif protocol in ("query", "ec2"):
                self.check_xml(walk, protocol, body)
        except (ValueError, ElementTree.ParseError) as error:
            walk.wrong("answer", f"cannot be read: {error}")
        self.violations += walk.violations

    def check_xml(self, walk, protocol, body):
        root = ElementTree.fromstring(body)
        if bare(root.tag) != f"{self.operation}Response":
            walk.wrong("answer", f"its root is {bare(root.tag)!r}")
        namespace = self.model.service_model.metadata["xmlNamespace"].rstrip("/")
        if not root.tag.startswith("{" + namespace):
            walk.wrong("answer", f"its namespace is that of {root.tag!r}")
        shape = self.model.output_shape
        if protocol == "ec2":
            children = [child for child in root if bare(child.tag) != "requestId"]
            if len(children) == len(root):
                walk.wrong("answer", "there is no requestId")
            root[:] = children
            if shape is not None:
                walk.xml(shape, root, "answer")
            return
        wrapper = self.model.output_shape.serialization.get("resultWrapper") if shape is not None else None
        for child in root:
            tag = bare(child.tag)
            if tag == wrapper:
                walk.xml(shape, child, "answer")
            elif tag != "ResponseMetadata":
                walk.wrong("answer", f"there is no element {tag!r}")

    def check_error(self, walk, protocol, status, headers, body):
        if self.method == "HEAD":
            return
        listed = {shape.metadata.get("error", {}).get("code", shape.name) for shape in self.model.error_shapes}
        listed |= {shape.name for shape in self.model.error_shapes}
        if protocol in ("json", "rest-json"):
            value = json.loads(body)
            code = value.get("__type") or headers.get("x-amzn-errortype", "").split(":")[0] or value.get("code", "")
            code = code.rsplit("#", 1)[-1]
            for shape in self.model.error_shapes:
                if shape.name == code and protocol == "rest-json":
                    walk.json(shape, {key: inner for key, inner in value.items() if key != "__type"}, "error")
        else:
            root = ElementTree.fromstring(body)
            codes = [node.text or "" for node in root.iter() if bare(node.tag) == "Code"]
            if len(codes) != 1:
                return walk.wrong("error", f"it has {len(codes)} codes")
            code = codes[0]
            if self.service in ("ec2", "s3"):
                if not EC2_ERROR.match(code):
                    walk.wrong("error", f"{code!r} has not the form of a code")
                return None
        if code not in listed | COMMON_ERRORS | UNLISTED_ERRORS.get(self.operation, set()):
            walk.wrong("error", f"{code!r} is no error of this operation: {sorted(listed)}")
        return None


class Quotas:
    """Token buckets by action, region and access key."""

    def __init__(self):
        self.lock = threading.Lock()
        self.buckets = {}

    def take(self, call):
        rate = QUOTAS.get(call.operation) if call.service == "ssm" else None
        if rate is None:
            return True
        now = time.monotonic()
        with self.lock:
            # One account stands behind every key of the sandbox.
            key = (call.operation, call.region())
            tokens, last = self.buckets.get(key, (float(rate), now))
            tokens = min(float(rate), tokens + (now - last) * rate)
            allowed = tokens >= 1.0
            self.buckets[key] = (tokens - 1.0 if allowed else tokens, now)
            return allowed


class Report:
    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.calls = {}
        self.throttled = {}
        self.violations = []

    def add(self, call, was_throttled):
        with self.lock:
            if call.model is not None:
                name = f"{call.service}:{call.operation}"
                self.calls[name] = self.calls.get(name, 0) + 1
                if was_throttled:
                    self.throttled[name] = self.throttled.get(name, 0) + 1
            self.violations += call.violations
            text = json.dumps(
                {"calls": self.calls, "throttled": self.throttled, "violations": self.violations}, indent=2, sort_keys=True
            )
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(text)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = models = quotas = report = None

    def pass_on(self):
        body = self.read_body()
        call = Call(self.models, self.command, self.path, self.headers.items(), body)
        allowed = self.quotas.take(call)
        if allowed:
            status, headers, answer = self.ask(body)
        else:
            status = 400
            headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-RequestId", "0f7b2c9d-1e3a-4f6b-8c2d-5e7f9a1b3c4d")]
            answer = b'{"__type":"ThrottlingException","message":"Rate exceeded"}'
        call.check_answer(status, headers, answer)
        self.report.add(call, not allowed)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        # The length of an answer to HEAD is that of the body which is not sent.
        told = [value for name, value in headers if name.lower() == "content-length"] if self.command == "HEAD" else []
        self.send_header("Content-Length", told[0] if told else str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            # Whoever has what it wants may have gone.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer)

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            piece = self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return body
            body += piece

    def ask(self, body):
        connection = http.client.HTTPConnection(self.upstream, timeout=120)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                # The Host is signed: it stays that of this proxy.
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "expect"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = pass_on

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main():
    upstream, report = sys.argv[1:]
    Handler.upstream = urllib.parse.urlsplit(upstream).netloc
    Handler.models = Models()
    Handler.quotas = Quotas()
    Handler.report = Report(report)
    for service in ("ec2", "ssm", "sts"):
        Handler.models.of(service)
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
