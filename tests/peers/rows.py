"""An independent judge of the promises about one line: rows H, F, V, C and L, from the wire, in every version.

It has a WebSocket client of its own, on a bare socket, so that nothing between it and the server smooths anything over,
and it knows the server only by its command line, its API and its ports. Each row prints `ok` or `FAILED`; the exit code
says whether one failed.

Usage: rows.py PATH_OF_SWITCHBOARD [ROW ...]        (H, or F05, or V10@2.1: only what begins so)
"""

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BINARY = os.path.abspath(sys.argv[1])
ONLY = sys.argv[2:]
PATIENCE = 30
V16, V201, V21 = "1.6", "2.0.1", "2.1"
ALL = (V16, V201, V21)
TWO = (V201, V21)
PASSWORD = b"sixteen or more: letters"


class Gone(Exception):
    """The other side has closed or broken the connection."""


class Server:
    """A running switchboard with a folder of its own."""

    def __init__(self, *words, environment=(), accounts=()):
        self.folder = tempfile.TemporaryDirectory()
        self.words = words
        self.environment = {n: v for n, v in os.environ.items() if not n.startswith("SWITCHBOARD_")}
        self.environment.update(environment)
        for account in accounts:
            ran = self.tool("stations", "add", *account, "--data-dir", "data", "--api", "127.0.0.1:1")
            assert ran.returncode == 0, ran
        self.start()

    def tool(self, *words, stdin=b""):
        return subprocess.run(
            [BINARY, *words], cwd=self.folder.name, env=self.environment, input=stdin, capture_output=True, timeout=120
        )

    def start(self):
        ports = os.path.join(self.folder.name, "ports.json")
        if os.path.exists(ports):
            os.remove(ports)
        self.log = open(os.path.join(self.folder.name, "log"), "ab")
        free = [f"--{name}=127.0.0.1:0" for name in ("listen", "api-listen", "admin-listen")]
        self.process = subprocess.Popen(
            [BINARY, "run", "--data-dir", "data", "--ports-file", "ports.json", *free, *self.words],
            cwd=self.folder.name, env=self.environment, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
        )
        self.ports = {n: a.rsplit(":", 1) for n, a in until(lambda: read_json(ports)).items() if ":" in str(a)}

    def port(self, name="stations"):
        return int(self.ports[name][1])

    def said(self):
        with open(os.path.join(self.folder.name, "log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def send(self, station, action, payload=None, **more):
        """A command by the API: the outcome as an object. What went wrong on the way is an outcome as well."""
        body = {"action": action, "payload": payload or {}, **more}
        line = http.client.HTTPConnection("127.0.0.1", self.port("api"), timeout=PATIENCE * 4)
        line.request("POST", f"/v1/stations/{station}/commands", json.dumps(body), {"content-type": "application/json"})
        answer = line.getresponse()
        return json.loads(answer.read())

    def shown(self, station):
        """What the API shows of a station."""
        line = http.client.HTTPConnection("127.0.0.1", self.port("api"), timeout=PATIENCE)
        line.request("GET", f"/v1/stations/{station}")
        return json.loads(line.getresponse().read())

    def sends(self, *what, **more):
        """The same in the background; what it gives back is called for the outcome."""
        box = []
        thread = threading.Thread(target=lambda: box.append(self.send(*what, **more)), daemon=True)
        thread.start()

        def outcome():
            thread.join(PATIENCE * 4)
            assert box, "the command has no outcome"
            return box[0]

        return outcome

    def metric(self, name):
        """The sum of all series of a metric whose name begins so; labels may follow in the name."""
        line = http.client.HTTPConnection("127.0.0.1", self.port("admin"), timeout=PATIENCE)
        line.request("GET", "/metrics")
        text = line.getresponse().read().decode()
        return sum(float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(name))

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


class Line:
    """One WebSocket, by hand."""

    def __init__(self, server, path, protocols=None, headers=(), early=b"", receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", server.port()))
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        head = [f"GET {path} HTTP/1.1", "Host: csms.example", "Connection: Upgrade", "Upgrade: websocket",
                "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        if protocols is not None:
            rows = [protocols] if isinstance(protocols, str) else protocols
            head += [f"Sec-WebSocket-Protocol: {row}" for row in rows]
        head += list(headers)
        self.socket.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + early)
        self.status, self.headers, self.body = self.response()
        if self.status == 101:
            proof = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert self.headers["sec-websocket-accept"] == base64.b64encode(proof).decode()

    def response(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *rows = head.decode("latin-1").split("\r\n")
        headers = {}
        for row in rows:
            name, value = row.split(":", 1)
            assert name.lower() not in headers or name.lower() == "vary", f"{name} twice"
            headers[name.lower()] = value.strip()
        status = int(first.split(" ")[1])
        length = int(headers.get("content-length", 0)) if status != 101 else 0
        while len(self.buffer) < length:
            self.more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, headers, body.decode()

    def more(self):
        try:
            bytes_ = self.socket.recv(65536)
        except ConnectionError as error:
            raise Gone(str(error)) from error
        if not bytes_:
            raise Gone("the end of the stream")
        self.buffer += bytes_

    def take(self, count):
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def raw(self, bytes_):
        try:
            self.socket.sendall(bytes_)
        except ConnectionError as error:
            raise Gone(str(error)) from error

    def frame(self, opcode, payload, end=True, reserved=0, masked=True):
        self.raw(frame(opcode, payload, end, reserved, masked))

    def say(self, text):
        """Sends a text: a str, or what becomes JSON."""
        text = text if isinstance(text, str) else json.dumps(text)
        self.frame(1, text.encode())

    def hear_raw(self):
        """The next text as it is; a close is raised as Gone with its code."""
        text = b""
        while True:
            one, two = self.take(2)
            length = two & 127
            assert not two & 128, "a server does not mask"
            assert not one & 0x70, "no reserved bits without an extension"
            if length == 126:
                (length,) = struct.unpack("!H", self.take(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self.take(8))
            payload = self.take(length)
            opcode = one & 15
            if opcode == 8:
                code = struct.unpack("!H", payload[:2])[0] if payload else None
                raise Gone(code, payload[2:].decode())
            if opcode == 9:
                self.frame(10, payload)
            elif opcode in (0, 1):
                text += payload
                if one & 128:
                    return text.decode()
            else:
                assert opcode == 10, f"opcode {opcode}"

    def hear(self):
        return json.loads(self.hear_raw())

    def ask(self, text):
        self.say(text)
        return self.hear()

    def silence(self):
        """Nothing but the answer to a heartbeat comes, so what was sent before was not answered."""
        mark = "mark" + os.urandom(4).hex()
        answer = self.ask([2, mark, "Heartbeat", {}])
        assert answer[0] in (3, 4) and answer[1] == mark, f"was answered: {answer}"

    def closed(self):
        """The code of the close that comes; other texts may come before."""
        try:
            while True:
                self.hear_raw()
        except Gone as gone:
            return gone.args[0]

    def end(self):
        self.socket.close()


def frame(opcode, payload, end=True, reserved=0, masked=True):
    head = bytes([(128 if end else 0) | reserved << 4 | opcode])
    bit = 128 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    mask = b"\x37\xfa\x21\x3d"
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
    return head + mask + mixed.to_bytes(len(payload), "big")


def until(ask, what="what was waited for"):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


def read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


# What rows share -----------------------------------------------------------------------------------------------------

SERVERS = {}
ROWS = []
PROCESSED = {}
NUMBER = iter(range(1, 1_000_000))


def server(*words, **more):
    """One server for all rows that want the same settings."""
    key = (words, tuple(sorted(more.items())))
    if key not in SERVERS:
        SERVERS[key] = Server(*words, **more)
    return SERVERS[key]


def row(name, versions=ALL, processed=False):
    """A row, the versions it is judged in, and whether it is about the processing side."""
    def register(judge):
        ROWS.append((name, versions, judge, processed))
        return judge
    return register


def fresh():
    return f"CP{next(NUMBER):05}"


def boot_of(version):
    if version == V16:
        return {"chargePointVendor": "Vendor", "chargePointModel": "Model"}
    return {"reason": "PowerUp", "chargingStation": {"vendorName": "Vendor", "model": "Model"}}


def station(version, *words, identity=None, boots=True, **more):
    """A line of a station that has booted."""
    line = Line(server(*words), f"/ocpp/{identity or fresh()}", f"ocpp{version}", **more)
    assert line.status == 101, (line.status, line.body)
    if boots:
        answer = line.ask([2, "boot", "BootNotification", boot_of(version)])
        same(answer[0], done(version), answer)
    return line


def done(version):
    """What answers a good call: a result."""
    if version not in PROCESSED:
        line = Line(server(), f"/ocpp/{fresh()}", f"ocpp{version}")
        PROCESSED[version] = line.ask([2, "boot", "BootNotification", boot_of(version)])[0]
        assert PROCESSED[version] == 3, f"{version} is not processed"
    return PROCESSED[version]


def basic(user, password):
    user = user.encode() if isinstance(user, str) else user
    return "Authorization: Basic " + base64.b64encode(user + b":" + password).decode()


def same(found, expected, what=""):
    assert found == expected, f"{what}: {found!r}, not {expected!r}"


def is_error(answer, id_, code, version):
    same(answer[:3], [4, id_, code], "answer")
    same(len(answer), 5, "length")
    assert isinstance(answer[3], str) and len(answer[3]) <= 255, answer
    assert isinstance(answer[4], dict), answer


def framework(answer, id_="-1"):
    is_error(answer, id_, "RpcFrameworkError", V201)


FORM = {V16: "FormationViolation", V201: "FormatViolation", V21: "FormatViolation"}
OCCURRENCE = {V16: "OccurenceConstraintViolation", V201: "OccurrenceConstraintViolation",
              V21: "OccurrenceConstraintViolation"}
NOW = "2026-11-23T10:00:00Z"


def start_of(version, **more):
    """A call that begins a transaction: action and payload."""
    if version == V16:
        return "StartTransaction", {"connectorId": 1, "idTag": "A1", "meterStart": 0, "timestamp": NOW, **more}
    return "TransactionEvent", {
        "eventType": "Started", "timestamp": NOW, "triggerReason": "Authorized", "seqNo": 0,
        "transactionInfo": {"transactionId": os.urandom(8).hex()},
        "idToken": {"idToken": "A1", "type": "ISO14443"}, **more,
    }


def command_of(version):
    return ("ClearCache", {})


# Handshake -----------------------------------------------------------------------------------------------------------

@row("H01")
def h01(version):
    line = station(version, boots=False)
    same(line.headers["sec-websocket-protocol"], f"ocpp{version}")
    assert "sec-websocket-extensions" not in line.headers or "deflate" in line.headers["sec-websocket-extensions"]


@row("H02")
def h02(version):
    for offered in (f"ocpp1.5, ocpp{version},ocpp1.6", [f"ocpp0.9", f"ocpp{version}", "ocpp2.1", "ocpp1.6"],
                    ["mqtt ,\tocpp1.2", f" ocpp{version} , ocpp1.6"]):
        line = Line(server(), f"/ocpp/{fresh()}", offered)
        same((line.status, line.headers.get("sec-websocket-protocol")), (101, f"ocpp{version}"), offered)
    only = Line(server("--gateway-versions", "1.6"), f"/ocpp/{fresh()}", f"ocpp{version}, ocpp1.6")
    same(only.headers.get("sec-websocket-protocol"), "ocpp1.6")


@row("H03", ("",))
def h03(_):
    for offered in (None, "ocpp1.5", "OCPP1.6", "ocpp1.6j", "", ","):
        same(Line(server(), f"/ocpp/{fresh()}", offered).status, 400, offered)
        line = Line(server("--gateway-no-common-version", "accept_then_close"), f"/ocpp/{fresh()}", offered)
        same((line.status, "sec-websocket-protocol" in line.headers), (101, False), offered)
        same(line.closed(), 1002, offered)


@row("H04")
def h04(version):
    same(Line(server(), f"/ocpp/{fresh()}").status, 400)
    assuming = server("--gateway-assume-version", version)
    line = Line(assuming, f"/ocpp/{fresh()}")
    same((line.status, "sec-websocket-protocol" in line.headers), (101, False))
    same(line.ask([2, "1", "BootNotification", boot_of(version)])[:2], [done(version), "1"])
    same(Line(assuming, f"/ocpp/{fresh()}", "mqtt").status, 400)


@row("H05")
def h05(version):
    line = Line(server(), f"/ocpp/1.6/{fresh()}", f"ocpp{version}")
    same((line.status, line.headers.get("sec-websocket-protocol")), (101, f"ocpp{version}"))
    same(Line(server(), f"/ocpp/{version}/{fresh()}", f"Ocpp{version}").status, 400)


CLOSED = ("--accept-unknown=false",)


def guarded(*words):
    return server(*CLOSED, *words, accounts=(
        ("GUARDED", "--password", PASSWORD.decode()),
        ("HEX", "--password", "0102030405060708090a0b0c0d0e0f1011121314"),
        ("FREE", "--no-password"),
        ("RDAM|123", "--password", PASSWORD.decode()),
    ))


@row("H06", ("",))
def h06(_):
    same(Line(guarded(), "/ocpp/NOBODY", "ocpp1.6").status, 404)
    same(Line(guarded(), "/ocpp/guarded", "ocpp1.6").status, 404, "another case of letters")
    hidden = Line(guarded("--gateway-hide-unknown"), "/ocpp/NOBODY", "ocpp1.6")
    same(hidden.status, 401)
    assert hidden.headers["www-authenticate"].startswith('Basic realm="'), hidden.headers


@row("H07")
def h07(version):
    for headers in ([], ["Authorization: Bearer x"], ["Authorization: Basic ???"], ["Authorization: Basic"],
                    [basic("GUARDED", b"wrong password, it is")], [basic("GUARDED", b"")],
                    [basic("GUARDED", PASSWORD + b"x")], [basic("GUARDED", PASSWORD[:-1])]):
        line = Line(guarded(), "/ocpp/GUARDED", f"ocpp{version}", headers)
        same(line.status, 401, headers)
        assert line.headers["www-authenticate"].startswith('Basic realm="'), line.headers
    same(Line(guarded(), "/ocpp/GUARDED", f"ocpp{version}", [basic("GUARDED", PASSWORD)]).status, 101)
    lower = basic("GUARDED", PASSWORD).replace("Basic", "basic").replace("Authorization", "AUTHORIZATION")
    same(Line(guarded(), "/ocpp/GUARDED", f"ocpp{version}", [lower]).status, 101, "letters of either case")


@row("H08", ("",))
def h08(_):
    for user in ("HEX", "guarded", "", "GUARDED2", "GUARDE"):
        same(Line(guarded(), "/ocpp/GUARDED", "ocpp1.6", [basic(user, PASSWORD)]).status, 401, user)
    for user in ("RDAM|123", "RDAM%7C123"):
        line = Line(guarded(), "/ocpp/RDAM%7C123", "ocpp1.6", [basic(user, PASSWORD)])
        same(line.status, 101 if user == "RDAM|123" else line.status, user)


@row("H09", ("",))
def h09(_):
    hexed = "0102030405060708090a0b0c0d0e0f1011121314"
    for password in (hexed.encode(), hexed.upper().encode(), bytes.fromhex(hexed)):
        same(Line(guarded(), "/ocpp/HEX", "ocpp1.6", [basic("HEX", password)]).status, 101, password)
    for password in (bytes.fromhex(hexed)[:-1] + b"\xff", bytes.fromhex(hexed) + b"\0"):
        same(Line(guarded(), "/ocpp/HEX", "ocpp1.6", [basic("HEX", password)]).status, 401, password)
    bytes_ = b"a:b\0c\xff" + b"0123456789ab"
    added = guarded().tool("stations", "add", "BYTES", "--password", bytes_.hex(), "--api",
                           f"127.0.0.1:{guarded().port('api')}")
    same(added.returncode, 0, added.stderr)
    same(Line(guarded(), "/ocpp/BYTES", "ocpp1.6", [basic("BYTES", bytes_)]).status, 101)
    same(Line(guarded(), "/ocpp/BYTES", "ocpp1.6", [basic("BYTES", b"a:b")]).status, 401)


@row("H10", ("",))
def h10(_):
    line = Line(guarded(), "/ocpp/RDAM%7C123", "ocpp1.6", [basic("RDAM|123", PASSWORD)])
    same(line.status, 101)
    same(Line(server(), "/ocpp/A%2FB", "ocpp1.6").status, 400, "a slash after decoding is no identity (H11)")
    same(Line(server(), "/ocpp/TWICE%2525", "ocpp1.6").status, 101)
    same(Line(server(), "/ocpp/%C3%BCber", "ocpp1.6").status, 101)
    names = until(lambda: {"TWICE%25", "über"} <= (found := listed(server())) and found)
    assert "TWICE%" not in names, names


def listed(on):
    ran = on.tool("stations", "--json", "--api", f"127.0.0.1:{on.port('api')}")
    return {one["id"] for one in json.loads(ran.stdout)["stations"]}


@row("H11", ("",))
def h11(_):
    for path in ("/ocpp/", "/ocpp", "/ocpp//", "/ocpp/" + "x" * 49, "/ocpp/a%00b", "/ocpp/a%0ab", "/ocpp/a%7Fb",
                 "/ocpp/%FF%FE", "/ocpp/a%2Fb", "/ocpp/%2F"):
        line = Line(server(), path, "ocpp1.6")
        assert line.status in (400, 404) if path == "/ocpp" else line.status == 400, (path, line.status)
        assert line.body.strip(), path
    same(Line(server(), "/ocpp/" + "%C3%BC" * 48, "ocpp1.6").status, 101, "48 characters, not bytes")
    long = server("--gateway-identity-characters-max", "255")
    same(Line(long, "/ocpp/" + "x" * 255, "ocpp1.6").status, 101)
    same(Line(long, "/ocpp/" + "x" * 256, "ocpp1.6").status, 400)


@row("H12", ("",))
def h12(_):
    identity = fresh()
    same(Line(server(), f"/ocpp/{identity}/?id=/ocpp/QUERY&x=%FF", "ocpp1.6").status, 101)
    same(Line(server(), f"/ocpp/{fresh()}?/OTHER/", "ocpp1.6").status, 101)
    names = until(lambda: identity in (found := listed(server())) and found)
    assert not names & {"QUERY", "OTHER", ""}, names


@row("H13")
def h13(version):
    for origin in ("http://evil.example", "null", "", "file://"):
        same(Line(server(), f"/ocpp/{fresh()}", f"ocpp{version}", [f"Origin: {origin}"]).status, 101, origin)


def http_says(port, request):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as line:
        line.sendall(request)
        answer = b""
        line.settimeout(PATIENCE)
        try:
            while b"\r\n\r\n" not in answer and (part := line.recv(65536)):
                answer += part
        except ConnectionError:
            pass
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.") else None


@row("H15", ("",))
def h15(_):
    for target in ("/", "/ocpp/CP1", "/healthz", "/metrics", "/readyz", "/v1/stations"):
        status = http_says(server().port(), f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert status in (400, 404, 426), (target, status)
    up = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for head, allowed in (
        (f"GET /ocpp/X HTTP/1.1\r\nHost: x\r\n{up}Sec-WebSocket-Version: 8\r\n\r\n", (426,)),
        (f"GET /ocpp/X HTTP/1.1\r\nHost: x\r\n{up}\r\n", (426, 400)),
        (f"POST /ocpp/X HTTP/1.1\r\nHost: x\r\n{up}Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n", (400, 405)),
        (f"GET /ocpp/X HTTP/1.0\r\nHost: x\r\n{up}Sec-WebSocket-Version: 13\r\n\r\n", (400, 426, 505)),
        ("GET /ocpp/X HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n", (400,)),
    ):
        status = http_says(server().port(), head.encode())
        assert status in allowed, (head, status)
    for target in ("/healthz", "/readyz", "/metrics"):
        same(http_says(server().port("admin"), f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()), 200, target)


@row("H16", ("",))
def h16(_):
    one = Server("--gateway-connections-max", "1")
    first = Line(one, "/ocpp/A", "ocpp1.6")
    same(first.status, 101)
    second = until(lambda: Line(one, "/ocpp/B", "ocpp1.6"))
    assert second.status in (503, 429) and int(second.headers["retry-after"]) > 0, (second.status, second.headers)
    first.end()
    until(lambda: Line(one, "/ocpp/C", "ocpp1.6").status == 101)
    one.stop()
    slow = Server("--gateway-accept-rate", "2")
    lines = [Line(slow, f"/ocpp/R{number}", "ocpp1.6") for number in range(40)]
    refused = [line for line in lines if line.status != 101]
    assert refused and all(line.status in (503, 429) and "retry-after" in line.headers for line in refused)
    slow.stop()


# Frames --------------------------------------------------------------------------------------------------------------

@row("F01")
def f01(version):
    for text in ("hello", "{}", '{"a":1}', "[]", '"x"', "17", "null", "[null]", '["2","x","Heartbeat",{}]', "[true]",
                 "[2.0,", "[[2]]", "\ufeff[2,\"x\",\"Heartbeat\",{}]", "[2,\"a\\\",\"Heartbeat\",{}]",
                 '[2,"9","MeterValues",{"a":[,1]}]', '[2,"9","MeterValues",{"a":}]', "[2"):
        line = station(version)
        line.say(text)
        if version == V16:
            if "MeterValues" not in text:  # Where an id can be read, an answer is allowed.
                line.silence()
            else:
                answer = line.ask([2, "mark", "Heartbeat", {}])
                if answer[1] != "mark":
                    is_error(answer, "9", "FormationViolation", version)
                    same(line.hear()[1], "mark")
        else:
            answer = line.hear()
            if "MeterValues" in text:  # An envelope that can be read, around a payload that cannot.
                same((answer[0], answer[1] in ("9", "-1")), (4, True), answer)
            else:
                framework(answer)
        line.end()


@row("F02")
def f02(version):
    for text in ('[2.9,"a","Heartbeat",{}]', '["2","a","Heartbeat",{}]', '[2.0,"a","Heartbeat",{}]',
                 '[2e0,"a","Heartbeat",{}]', '[02,"a","Heartbeat",{}]', '[-2,"a","Heartbeat",{}]'):
        line = station(version)
        line.say(text)
        first = line.ask([2, "mark", "Heartbeat", {}])
        assert first[0] != done(version) or first[1] == "mark" or first[2] == "RpcFrameworkError", f"{text} was processed: {first}"
        if version == V16:
            same(first[1], "mark", text)
        line.end()


@row("F03")
def f03(version):
    for number in (0, 1, 7, 99, -1, 123456789012345678901234567890) + ((5, 6) if version != V21 else ()):
        line = station(version)
        line.say(f'[{number},"id","Heartbeat",{{}}]')
        if version == V201:
            is_error(line.hear(), "id", "MessageTypeNotSupported", version)
        line.silence()
        line.end()


@row("F04")
def f04(version):
    line = station(version)
    same(line.ask('[2,17,"Heartbeat",{}]')[:2], [done(version), 17])
    assert line.ask('[2,12345678901234567890,"Heartbeat",{}]')[:2] == [done(version), 12345678901234567890]
    for id_ in ("null", "{}", "[]", "true", "1.5"):
        line.say(f'[2,{id_},"Heartbeat",{{}}]')
        if version == V16:
            line.silence()
        else:
            framework(line.hear())
    line.say('[2,"","Heartbeat",{}]')
    answer = line.hear()
    if version == V16:
        is_error(answer, "", "FormationViolation", version)
    else:
        framework(answer, answer[1])
        assert answer[1] in ("", "-1"), answer


@row("F05")
def f05(version):
    line = station(version)
    for id_ in ("x" * 36, "ü" * 36, "\U0001f50c" * 36, "a\"b\\c/d\n"):
        same(line.ask(json.dumps([2, id_, "Heartbeat", {}], ensure_ascii=False))[:2], [done(version), id_])
        same(line.ask(json.dumps([2, id_[:-1] + "y", "Heartbeat", {}]))[:2], [done(version), id_[:-1] + "y"])
    for id_ in ("x" * 37, "ü" * 37, "\U0001f50c" * 37):
        action, payload = start_of(version)
        code = "FormationViolation" if version == V16 else "RpcFrameworkError"
        is_error(line.ask(json.dumps([2, id_, action, payload], ensure_ascii=False)), id_, code, version)


@row("F06")
def f06(version):
    line = station(version)
    code = "FormationViolation" if version == V16 else "RpcFrameworkError"
    for text in ('[2,"a"]', '[2,"b","Heartbeat"]', '[2,"c","Heartbeat",{},{}]', '[2,"d",7,{}]', '[2,"e",null,{}]'):
        answer = line.ask(text)
        is_error(answer, text[4], code, version)
    line.silence()


@row("F07")
def f07(version):
    line = station(version)
    same(line.ask('[2,"n","Heartbeat",null]')[:2], [done(version), "n"])
    for payload in ("[]", '"x"', "5", "true", "[{}]"):
        for action in ("Heartbeat", "BootNotification", start_of(version)[0]):
            is_error(line.ask(f'[2,"p","{action}",{payload}]'), "p", FORM[version], version)


@row("F08")
def f08(version):
    line = station(version)
    same(line.ask(' \n\t[ 2 ,\r\n"w" , "Heartbeat" , { } ] \n')[:2], [done(version), "w"])
    line.say("")
    line.silence()
    for text in ('[2,"t","Heartbeat",{}]x', '[2,"t","Heartbeat",{}][]', '[2,"t","Heartbeat",{}]]', '[2,"t","Heartbeat",{},]'):
        line.say(text)
        answer = line.ask([2, "mark", "Heartbeat", {}])
        assert answer[0] == 4 or answer[1] == "mark", answer
        if answer[0] == 4:
            line.hear()


@row("F09")
def f09(version):
    line = station(version)
    line.frame(2, b'[2,"b","Heartbeat",{}]')
    same(line.hear()[:2], [done(version), "b"])
    line = station(version, "--gateway-binary-as-text=false")
    line.frame(2, b'[2,"b","Heartbeat",{}]')
    same(line.closed(), 1003)


@row("F10")
def f10(version):
    line = station(version)
    line.frame(1, b'[2,"\xff\xfe","Heartbeat",{}]')
    same(line.closed(), 1007)
    line = station(version)
    line.frame(1, b'[2,"split', end=False)
    line.frame(0, b' \xe2\x82', end=False)
    line.frame(0, b'\xac","Heartbeat",{}]')
    same(line.hear()[:2], [done(version), "split \u20ac"], "a character over two fragments")
    line = station(version)
    room = 1 << 20
    body = '[2,"big","DataTransfer",{"vendorId":"x","data":"%s"}]'
    same(line.ask(body % ("x" * (room - len(body) + 2)))[1], "big")
    line.say(body % ("x" * (room - len(body) + 3)))
    same(line.closed(), 1009)
    line = station(version)
    line.raw(bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 62))
    same(line.closed(), 1009, "told by its length alone")
    line = station(version)
    try:
        for _ in range(40):
            line.frame(1 if not _ else 0, b"x" * 65536, end=False)
    except Gone:
        pass
    assert line.closed() in (1009, "[Errno 104] Connection reset by peer"), "in fragments"
    for depth, fine in ((28, True), (40, False), (100_000, False)):
        line = station(version)
        line.say('[2,"deep","DataTransfer",{"vendorId":"x","data":' + "[" * depth + "]" * depth + "}]")
        answer = line.ask([2, "mark", "Heartbeat", {}])
        if fine:
            same(answer[1], "deep")
        else:
            assert answer[0] == 4 or answer[1] == "mark", answer


@row("F11")
def f11(version):
    line = station(version)
    text = json.dumps([2, "f", "Heartbeat", {}]).encode()
    for number, byte in enumerate(text):
        line.frame(0 if number else 1, bytes([byte]), end=number == len(text) - 1)
        line.frame(9, b"ping")
        line.frame(10, b"pong nobody asked for")
    same(line.hear()[:2], [done(version), "f"])
    line.frame(1, b"", end=False)
    line.frame(0, b"", end=False)
    line.frame(0, text)
    same(line.hear()[:2], [done(version), "f"])
    for opcode, payload, more in ((0, b"x", {}), (3, b"x", {}), (9, b"x" * 126, {}), (9, b"x", {"end": False}),
                                  (1, b"x", {"masked": False}), (8, b"x", {}), (8, struct.pack("!H", 1005), {}),
                                  (8, struct.pack("!H", 1000) + b"\xff", {})):
        broken = station(version)
        broken.frame(opcode, payload, **more)
        assert broken.closed() in (1002, 1007), (opcode, payload, more)


@row("F12")
def f12(version):
    line, name = named(version)
    outcome = server().sends(name, "DataTransfer", {"vendorId": "v"}, timeoutMs=20_000)
    call = line.hear()
    same(call[2], "DataTransfer")
    number = "123456789012345678901234567890"
    line.say('[3,"%s",{"status":"Accepted","data":"\\u00e9 %s 1.10"}]' % (call[1], number))
    same(outcome()["payload"]["data"], f"é {number} 1.10")


@row("F13")
def f13(version):
    for text in ('[4,"%s","NotSupported","no"]', '[4,"%s","NotSupported",null,null]',
                 '[4,"%s","OwnCode","no","text"]', '[4,"%s","","",[]]', '[4,"%s","FormationViolation","",{"a":1}]'):
        line, name = named(version)
        outcome = server().sends(name, *command_of(version), timeoutMs=20_000)
        line.say(text % line.hear()[1])
        found = outcome()
        same(found["outcome"], "refused", text)
        line.end()


def named(version, *words, **more):
    name = fresh()
    line = station(version, *words, identity=name, **more)
    return line, name


@row("F14")
def f14(version):
    line = station(version)
    secret = "SECRET" * 60
    for action, payload in (("Authorize", {"idTag": [secret], "idToken": secret}), (secret[:50], {"a": secret}),
                            (secret[:400], {}), ("Heartbeat", [secret])):
        answer = line.ask([2, "e", action, payload])
        is_error(answer, "e", answer[2], version)
        assert secret[:60] not in json.dumps(answer), answer


@row("F15")
def f15(version):
    line = station(version)
    bad = "nonsense"
    for _ in range(21):
        line.say(bad)
    same(line.closed(), 1002)
    line = station(version)
    for number in range(60):
        same(line.ask([2, f"v{number}", "BootNotification", {"wrong": 1}])[0], 4)
    line.silence()


@row("F16", (V21,))
def f16(version):
    line, name = named(version)
    line.say([6, "s1", "NotifyPeriodicEventStream", {"id": 1, "pending": 0, "basetime": NOW, "data": [{"t": 0, "v": "1"}]}])
    line.say([6, "s2", "NoSuchAction", {}])
    line.say([6, "s3", "NotifyPeriodicEventStream", {"wrong": True}])
    line.silence()
    # All three were dealt with, though nobody says so.
    same(server().metric("switchboard_gateway_sends_lost_total"), 0)
    outcome = server().sends(name, *command_of(version), timeoutMs=20_000)
    id_ = line.hear()[1]
    line.say([5, id_, "InternalError", "no", {}])
    line.silence()
    line.say([3, id_, {"status": "Accepted"}])
    same(outcome()["outcome"], "answered")


@row("C12", (V21,), processed=True)
def c12(version):
    line, name = named(version)
    for answer, fit in (({}, False), ({"status": "Accepted"}, True), ({"status": 7}, False)):
        outcome = server().sends(name, "ClearCache", timeoutMs=20_000)
        id_ = line.hear()[1]
        line.say([3, id_, answer])
        if not fit:
            told = line.hear()
            same(told[:2], [5, id_])
            assert "ConstraintViolation" in told[2] and "status" in told[3], told
        same(outcome()["outcome"], "answered")
        same("faults" in outcome(), not fit)
        line.silence()


@row("F17")
def f17(version):
    line = station(version)
    line.frame(1, b"\xaaV*2", reserved=4)
    same(line.closed(), 1002)
    until(lambda: re.search("compress|deflate", server().said()), "a line in the log that names the cause")


# Validation ----------------------------------------------------------------------------------------------------------

STRICT = ("--worker-strict",)


@row("V01")
def v01(version):
    for words in ((), STRICT):
        line = station(version, *words)
        for action in ("NoSuchAction", "heartbeat", "HEARTBEAT", "Heartbeat ", "HeartbeatRequest", ""):
            answer = line.ask([2, "u", action, {}])
            assert answer[2] == "NotImplemented" or action == "", (action, answer)
        for action in ("Reset", "ClearCache", "ChangeAvailability"):
            is_error(line.ask([2, "d", action, {}]), "d", "NotSupported", version)
        if version != V21:
            is_error(line.ask([2, "x", "BatterySwap", {}]), "x", "NotImplemented", version)
        foreign = "TransactionEvent" if version == V16 else "StartTransaction"
        is_error(line.ask([2, "x", foreign, {}]), "x", "NotImplemented", version)


@row("V02", processed=True)
def v02(version):
    for words in ((), STRICT):
        line = station(version, *words)
        cases = [("BootNotification", {}), ("Authorize", {}), ("StatusNotification", {"timestamp": NOW}),
                 ("DataTransfer", {}), ("FirmwareStatusNotification", {})]
        if version == V16:
            cases += [("StatusNotification", {"errorCode": "NoError", "status": "Available"})]  # a number is missing
        else:
            cases += [("StatusNotification", {"timestamp": NOW, "connectorStatus": "Available", "evseId": 1}),
                      ("NotifyEvent", {"generatedAt": NOW, "eventData": []})]
            if words:
                cases += [("NotifyEvent", {"generatedAt": NOW, "seqNo": 0, "eventData": []})]  # too few
        for action, payload in cases:
            answer = line.ask([2, "m", action, payload])
            same((answer[0], answer[2]), (4, OCCURRENCE[version]), (action, payload, answer))


@row("V03", processed=True)
def v03(version):
    for words in ((), STRICT):
        line = station(version, *words)
        one = "chargePointVendor" if version == V16 else "reason"
        for payload in ({**boot_of(version), one: 5}, {**boot_of(version), one: {}}, {**boot_of(version), one: [1]}):
            is_error(line.ask([2, "t", "BootNotification", payload]), "t", "TypeConstraintViolation", version)
        if version == V16:
            bad = {"connectorId": "1", "errorCode": "NoError", "status": "Available"}
        else:
            bad = {"timestamp": NOW, "connectorStatus": "Available", "evseId": "1", "connectorId": 1}
        if words:
            is_error(line.ask([2, "t", "StatusNotification", bad]), "t", "TypeConstraintViolation", version)


@row("V04", processed=True)
def v04(version):
    line = station(version, *STRICT)
    long = {V16: {**boot_of(V16), "chargePointVendor": "x" * 21}}.get(
        version, {"reason": "PowerUp", "chargingStation": {"vendorName": "x" * 51, "model": "m"}})
    cases = [("BootNotification", long)]
    if version == V16:
        status = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
        cases += [("StatusNotification", {**status, "status": "available"}),
                  ("StatusNotification", {**status, "timestamp": "yesterday"}),
                  ("StatusNotification", {**status, "timestamp": "2026-02-30T10:00:00Z"}),
                  ("Authorize", {"idTag": "x" * 21})]
    else:
        status = {"timestamp": NOW, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
        cases += [("StatusNotification", {**status, "connectorStatus": "available"}),
                  ("StatusNotification", {**status, "timestamp": "2026-13-01T10:00:00Z"})]
    for action, payload in cases:
        is_error(line.ask([2, "c", action, payload]), "c", "PropertyConstraintViolation", version)


@row("V05", processed=True)
def v05(version):
    line = station(version, *STRICT)
    is_error(line.ask([2, "k", "Heartbeat", {"extra": 1}]), "k", FORM[version], version)
    is_error(line.ask([2, "k", "BootNotification", {**boot_of(version), "extra": 1}]), "k", FORM[version], version)
    if version != V16:
        custom = {**boot_of(version), "customData": {"vendorId": "com.example", "anything": [1, {}]}}
        same(line.ask([2, "k", "BootNotification", custom])[0], 3)


@row("V07")
def v07(version):
    one, name = named(version)
    period = [{"startPeriod": 0, "limit": "LIMIT"}]
    if version == V16:
        payload = {"connectorId": 1, "csChargingProfiles": {
            "chargingProfileId": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": period}}}
    else:
        payload = {"evseId": 1, "chargingProfile": {
            "id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Relative",
            "chargingSchedule": [{"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": period}]}}
    text = json.dumps(payload)
    outcome = server().sends(name, "SetChargingProfile", json.loads(text.replace('"LIMIT"', "21.4")), timeoutMs=20_000)
    call = one.hear()
    same(call[2], "SetChargingProfile")
    one.say([3, call[1], {"status": "Accepted"}])
    same(outcome()["outcome"], "answered")
    if version == V16:
        wrong = server().send(name, "SetChargingProfile", json.loads(text.replace('"LIMIT"', "21.45")))
        assert wrong.get("violations"), wrong


@row("V08", processed=True)
def v08(version):
    line = station(version)
    if version == V16:
        cases = [("BootNotification", {**boot_of(V16), "iccid": None, "extra": {"deep": None}}),
                 ("BootNotification", {**boot_of(V16), "chargePointModel": "x" * 500, "imsi": ""}),
                 ("BootNotification", {"chargePointModel": "ACChargePoint", "chargePointVendor": ""}),
                 ("StatusNotification", {"connectorId": 0, "errorCode": "Error", "status": "Faulted"}),
                 ("StatusNotification", {"connectorId": 2, "errorCode": "NoError", "status": "Preparing",
                                         "timestamp": "2024-04-26T14:35:02+02"}),
                 ("StatusNotification", {"connectorId": 2, "errorCode": "NoError", "status": "Preparing",
                                         "timestamp": "2024-04-26 14:35:02", "info": "x" * 300})]
        missing = ("StatusNotification", {"connectorId": None, "errorCode": "NoError", "status": "Available"})
    else:
        status = {"timestamp": NOW, "connectorStatus": "Available", "evseId": 0, "connectorId": 0}
        cases = [("BootNotification", {**boot_of(version), "extra": 1}),
                 ("BootNotification", {**boot_of(version), "reason": "BecauseICan"}),
                 ("StatusNotification", {**status, "timestamp": "2024-04-26T14:35:02+0200"}),
                 ("StatusNotification", status), ("StatusNotification", {**status, "connectorStatus": "Sleeping"})]
        missing = ("StatusNotification", {**status, "connectorId": None})
    for action, payload in cases:
        answer = line.ask([2, "l", action, payload])
        same(answer[0], 3, (action, payload, answer))
    is_error(line.ask([2, "z", *missing]), "z", OCCURRENCE[version], version)


@row("V09")
def v09(version):
    line, name = named(version)
    for action, payload in (("Reset", {}), ("Reset", {"type": 7}), ("Reset", {"type": "Hard", "extra": 1}),
                            ("Reset", {"type": "Sideways"}), ("UnlockConnector", {"connectorId": None})):
        said = server().send(name, action, payload)
        assert said.get("violations"), (action, payload, said)
    line.silence()


@row("V10", processed=True)
def v10(version):
    line, name = named(version)
    if version == V16:
        odd = [("StartTransaction", {}), ("StartTransaction", {"connectorId": "x", "idTag": 5, "meterStart": None}),
               ("StartTransaction", {"connectorId": 1, "idTag": "evcc", "meterStart": 0, "reservationId": 0,
                                     "timestamp": "2023-10-19T15:28:07"}),
               ("StartTransaction", {"connectorId": 1, "idTag": "x" * 99, "meterStart": 1.5, "timestamp": "now"})]
        seen = set()
        for action, payload in odd:
            answer = line.ask([2, os.urandom(4).hex(), action, payload])
            same(answer[0], 3, (payload, answer))
            assert answer[2]["transactionId"] > 0 and answer[2]["idTagInfo"]["status"], answer
            seen.add(answer[2]["transactionId"])
        same(len(seen), len(odd), "transactions")
        answer = line.ask('[2,"d","StartTransaction",{"connectorId":1,"connectorId":2,"idTag":"D","meterStart":0,'
                          '"timestamp":"2023-11-06T10:00:00Z","custom":"x"}]')
        same(answer[0], 3, answer)
        for action, payload in (
            ("StopTransaction", {}), ("StopTransaction", {"transactionId": -1, "meterStop": "7"}),
            ("StopTransaction", {"transactionId": 9223372036854775808, "meterStop": 1, "timestamp": NOW}),
            ("MeterValues", {}), ("MeterValues", {"connectorId": 1, "meterValue": []}),
            ("MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": NOW, "sampledValue": [{"value": 0}]}]}),
            ("MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": NOW, "sampledValue": [{"value": ""}]}]}),
            ("MeterValues", {"connectorId": 1, "transactionId": 9223372036854775807, "meterValue": [
                {"timestamp": NOW, "sampledValue": [{"value": "15.6", "context": "CurrentMax", "unit": "Hz"}]}]}),
            ("MeterValues", {"connectorId": 2, "values": [{"timestamp": NOW, "value": ["100"]}]}),
        ):
            same(line.ask([2, os.urandom(4).hex(), action, payload])[0], 3, (action, payload))
    else:
        for payload in ({}, {"eventType": "Exploded"}, start_of(version, seqNo="0")[1],
                        start_of(version, timestamp="soon")[1], start_of(version, triggerReason=None)[1],
                        start_of(version, transactionInfo={})[1],
                        start_of(version, meterValue=[{"timestamp": NOW, "sampledValue": [{"value": "0"}]}])[1]):
            answer = line.ask([2, os.urandom(4).hex(), "TransactionEvent", payload])
            same(answer[0], 3, (payload, answer))
        same(line.ask([2, "mv", "MeterValues", {"evseId": "1"}])[0], 3)
    strict = station(version, *STRICT)
    same(strict.ask([2, "s", start_of(version)[0], {}])[:3], [4, "s", OCCURRENCE[version]])


@row("V11")
def v11(version):
    for code in ("FormationViolation", "FormatViolation", "OccurenceConstraintViolation", "OccurrenceConstraintViolation"):
        line, name = named(version)
        outcome = server().sends(name, *command_of(version), timeoutMs=20_000)
        line.say([4, line.hear()[1], code, "", {}])
        found = outcome()
        same((found["outcome"], found["code"]), ("refused", code))
        line.end()


# Calls and answers ---------------------------------------------------------------------------------------------------

@row("C01")
def c01(version):
    line, name = named(version)
    outcomes = [server().sends(name, *command_of(version), timeoutMs=20_000) for _ in range(3)]
    first = line.hear()
    line.silence()
    line.say([3, first[1], {"status": "Accepted"}])
    second = line.hear()
    same((second[0], second[2]), (2, "ClearCache"))
    line.silence()
    line.say([3, second[1], {"status": "Accepted"}])
    line.say([3, line.hear()[1], {"status": "Accepted"}])
    same([outcome()["outcome"] for outcome in outcomes], ["answered"] * 3)


@row("C01 lanes")
def c01_lanes(version):
    line, name = named(version)
    outcomes = [server().sends(name, "ClearCache", timeoutMs=20_000)]
    first = line.hear()
    outcomes.append(server().sends(name, "ClearCache", timeoutMs=20_000))
    time.sleep(0.5)
    outcomes.append(server().sends(name, "TriggerMessage", {"requestedMessage": "Heartbeat"}, lane="urgent", timeoutMs=20_000))
    time.sleep(0.5)
    line.say([3, first[1], {"status": "Accepted"}])
    second = line.hear()
    same(second[2], "TriggerMessage", "the urgent one goes first")
    line.say([3, second[1], {"status": "Accepted"}])
    line.say([3, line.hear()[1], {"status": "Accepted"}])
    same([outcome()["outcome"] for outcome in outcomes], ["answered"] * 3)


@row("C01 busy", (V16,))
def c01_busy(version):
    line, name = named(version, "--gateway-outgoing-calls-max", "2")
    on = server("--gateway-outgoing-calls-max", "2")
    outcomes = [on.sends(name, "ClearCache", timeoutMs=3_000) for _ in range(12)]
    line.hear()
    line.end()
    found = [outcome()["outcome"] for outcome in outcomes]
    assert "busy" in found and found.count("unknown") <= 1, found
    assert set(found) <= {"busy", "unknown", "notSent", "offline"}, found


@row("C02", (V16,))
def c02(version):
    words = ("--gateway-write-timeout", "2s")
    other = station(version, *words)
    calls = frame(1, json.dumps([2, "n" * 36, "Nonsense", {}]).encode())
    for what, text in (("calls", calls), ("pings", frame(9, b"x" * 125))):
        deaf = station(version, *words, receive_buffer=4096)
        deaf.socket.settimeout(1)
        end = time.monotonic() + PATIENCE
        ended, sent = False, 0
        while time.monotonic() < end and not ended:
            try:
                deaf.socket.sendall(text * 500)
                sent += len(text) * 500
                assert sent < 64 << 20, f"{what} are taken without end although their answers are not read"
            except socket.timeout:
                begin = time.monotonic()
                other.silence()
                assert time.monotonic() - begin < 5, "another station waits"
            except ConnectionError:
                ended = True
        assert ended, f"a station that sends {what} and does not read stays for ever"
        other.silence()
    assert server(*words).process.poll() is None


@row("C03")
def c03(version):
    line, name = named(version)
    outcome = server().sends(name, *command_of(version), timeoutMs=20_000)
    call = line.hear()
    for number in range(5):
        same(line.ask([2, f"h{number}", "Heartbeat", {}])[:2], [done(version), f"h{number}"])
    line.say([3, call[1], {"status": "Accepted"}])
    same(outcome()["outcome"], "answered")


@row("C04")
def c04(version):
    line, name = named(version)
    outcome = server().sends(name, *command_of(version), timeoutMs=20_000)
    call = line.hear()
    for text in ([3, "never", {}], [4, "never", "InternalError", "", {}], [3, "never", {}], [3, call[1].upper() + "x", {}]):
        line.say(text)
    line.silence()
    line.say([3, call[1], {"status": "Accepted"}])
    line.say([3, call[1], {"status": "Rejected"}])
    line.silence()
    same(outcome()["payload"]["status"], "Accepted")


@row("C05")
def c05(version):
    line = station(version)
    for text in ('[3,"x"]', '[3]', '[4]', '[4,"x"]', '[3,"x",5]', '[3,"x",{},{},{}]', '[4,null,null]', '[3,null,{}]',
                 '[4,"x",5,5,5]', '[3,"' + "y" * 50 + '",{}]', "[4,\"-1\",\"InternalError\",\"\",{}]"):
        line.say(text)
        line.silence()


@row("C06")
def c06(version):
    for text in ('[3,"%s"]', '[3,"%s",[]]', '[3,"%s",5]', '[4,"%s"]', '[3,"%s",{},{}]'):
        line, name = named(version)
        begin = time.monotonic()
        first = server().sends(name, "ClearCache", timeoutMs=60_000)
        id_ = line.hear()[1]
        second = server().sends(name, "ClearCache", timeoutMs=60_000)
        line.say(text % id_)
        call = line.hear()
        same(call[0], 2, text)
        line.say([3, call[1], {"status": "Accepted"}])
        same(second()["outcome"], "answered", text)
        found = first()
        assert found["outcome"] != "answered" and time.monotonic() - begin < 25, (text, found)
        line.end()


@row("C07")
def c07(version):
    line, name = named(version)
    first = server().sends(name, "ClearCache", timeoutMs=700)
    one = line.hear()
    second = server().sends(name, "ClearCache", timeoutMs=20_000)
    two = line.hear()
    assert one[1] != two[1]
    line.say([3, one[1], {"status": "Rejected"}])
    line.say([3, two[1], {"status": "Accepted"}])
    same(first()["outcome"], "unknown")
    same(second()["payload"]["status"], "Accepted")


@row("C08")
def c08(version):
    line, name = named(version)
    seen = set()
    for _ in range(5):
        outcome = server().sends(name, *command_of(version), timeoutMs=20_000)
        id_ = line.hear()[1]
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", id_), id_
        seen.add(id_)
        line.say([3, id_, {"status": "Accepted"}])
        outcome()
    same(len(seen), 5)


@row("C09", processed=True)
def c09(version):
    line, name = named(version)
    action, payload = start_of(version)
    call = json.dumps([2, "same", action, payload])
    first = line.ask(call)
    same(line.ask(call), first, "the same answer again")
    line.say(call)
    line.say(call)
    same([line.hear(), line.hear()], [first, first])
    other_action, other_payload = start_of(version)
    other_payload["timestamp"] = "2026-11-23T11:00:00Z"
    other = line.ask([2, "same", other_action, other_payload])
    same(other[0], 3, "another content is processed")
    if version == V16:
        assert other[2]["transactionId"] != first[2]["transactionId"]
    books = server().tool("transactions", "--station", name, "--json", "--api", f"127.0.0.1:{server().port('api')}")
    same(len(json.loads(books.stdout)["transactions"]), 2)


@row("C10")
def c10(version):
    line = station(version)
    batch = b""
    for number in range(300):
        kind = number % 4
        action, payload = (("Heartbeat", {}), start_of(version), ("Nonsense", {}), ("Authorize", {"idTag": "A"}
                           if version == V16 else {"idToken": {"idToken": "A", "type": "Central"}}))[kind]
        batch += frame(1, json.dumps([2, f"o{number}", action, payload]).encode())
    line.raw(batch)
    same([line.hear()[1] for _ in range(300)], [f"o{number}" for number in range(300)])


@row("C11")
def c11(version):
    name = fresh()
    for _ in range(10):
        old = station(version, identity=name)
        action, payload = start_of(version)
        for number in range(20):
            old.say([2, f"old{number}", action, payload])
        new = station(version, identity=name, boots=False)
        for number in range(20):
            answer = new.ask([2, f"new{number}", "Heartbeat", {}])
            same(answer[1], f"new{number}", "an answer of the line before")
        old.end()


# Life cycle ----------------------------------------------------------------------------------------------------------

@row("L01")
def l01(version):
    old, name = named(version)
    outcome = server().sends(name, "ClearCache", timeoutMs=60_000)
    old.hear()
    new = station(version, identity=name, boots=False)
    try:
        old.hear_raw()
        raise AssertionError("the old line goes on")
    except Gone as gone:
        same(gone.args[0], 1008)
        assert gone.args[1], "no reason"
    old.end()
    same(outcome()["outcome"], "unknown")
    new.silence()
    second = server().sends(name, "ClearCache", timeoutMs=20_000)
    new.say([3, new.hear()[1], {"status": "Accepted"}])
    same(second()["outcome"], "answered", "the late end of the old line removed the new one")


@row("L01 keep_old")
def l01_keep_old(version):
    words = ("--gateway-keep-old",)
    old, name = named(version, *words)
    line = Line(server(*words), f"/ocpp/{name}", f"ocpp{version}")
    assert line.status != 101 or line.closed() == 1008, line.status
    old.silence()


@row("L02")
def l02(version):
    words = ("--gateway-ping-interval", "300ms", "--gateway-silence-max", "2s")
    line = station(version, *words)
    while True:
        one, two = line.take(2)
        payload = line.take(two & 127)
        if one & 15 == 9:
            break
    line.frame(10, payload)
    begin = time.monotonic()
    while time.monotonic() - begin < 4:
        line.frame(9, b"alive")  # any frame is a sign of life
        time.sleep(0.2)
    line.say([2, "still", "Heartbeat", {}])
    same(line.hear()[1], "still")
    silent = station(version, *words)
    silent.frame = lambda *_, **__: None
    begin = time.monotonic()
    silent.closed()
    assert time.monotonic() - begin < 20, "a dead line stays"


@row("L04")
def l04(version):
    line, name = named(version)
    outcomes = [server().sends(name, "ClearCache", timeoutMs=60_000) for _ in range(3)]
    line.hear()
    line.silence()
    until(lambda: server().process.poll() is None)
    time.sleep(0.5)
    line.end()
    begin = time.monotonic()
    found = sorted(outcome()["outcome"] for outcome in outcomes)
    same(found, ["notSent", "notSent", "unknown"])
    assert time.monotonic() - begin < 10
    same(server().send(name, "ClearCache")["outcome"], "offline")


@row("L05")
def l05(version):
    on = Server("--gateway-drain-time", "1s")
    lines = []
    for number in range(10):
        line = Line(on, f"/ocpp/D{number}", f"ocpp{version}")
        line.ask([2, "boot", "BootNotification", boot_of(version)])
        lines.append(line)
    calls = [[2, f"d{number}", *start_of(version)] for number in range(10)]
    for line, call in zip(lines, calls):
        line.say(call)
    on.process.send_signal(signal.SIGTERM)
    for line, call in zip(lines, calls):
        texts = []
        try:
            while True:
                texts.append(line.hear())
        except Gone as gone:
            same(gone.args[0], 1001, "close code")
        assert [text[1] for text in texts] in ([call[1]], []), texts
    same(on.process.wait(PATIENCE), 0, "exit code")
    on.stop()


@row("L06")
def l06(version):
    line, name = named(version, boots=False)
    # It is there when the directory knows, which is a moment after the 101.
    until(lambda: server().shown(name).get("connected"), f"{name} is connected")
    outcome = server().sends(name, "ClearCache", timeoutMs=20_000)
    line.socket.settimeout(1)
    try:
        raise AssertionError(f"a call before the first of the station: {line.hear()}")
    except socket.timeout:
        pass
    line.socket.settimeout(PATIENCE)
    same(line.ask([2, "b", "BootNotification", boot_of(version)])[:2], [done(version), "b"])
    line.say([3, line.hear()[1], {"status": "Accepted"}])
    same(outcome()["outcome"], "answered")


@row("L06 pending", processed=True)
def l06_pending(version):
    words = ("--central-registration", "pending")
    line, name = named(version, *words)
    on = server(*words)
    start = ("RemoteStartTransaction", {"idTag": "A"}) if version == V16 else (
        "RequestStartTransaction", {"idToken": {"idToken": "A", "type": "Central"}, "remoteStartId": 1})
    same(on.send(name, *start, timeoutMs=5_000)["outcome"], "notSent")
    read = ("GetConfiguration", {}) if version == V16 else (
        "GetBaseReport", {"requestId": 1, "reportBase": "FullInventory"})
    outcome = on.sends(name, *read, timeoutMs=20_000)
    call = line.hear()
    line.say([3, call[1], {} if version == V16 else {"status": "Accepted"}])
    same(outcome()["outcome"], "answered")


@row("L06 rejected", processed=True)
def l06_rejected(version):
    words = ("--central-registration", "rejected")
    line, name = named(version, *words)
    same(server(*words).send(name, "ClearCache", timeoutMs=5_000)["outcome"], "notSent")


@row("L07", processed=True)
def l07(version):
    line, name = named(version)
    line.end()
    again = station(version, identity=name, boots=False)
    action, payload = start_of(version)
    same(again.ask([2, "1", action, payload])[0], 3)


@row("L08", TWO, processed=True)
def l08(version):
    line = station(version, boots=False)
    is_error(line.ask([2, "1", "Heartbeat", {}]), "1", "SecurityError", version)
    same(line.ask([2, "2", "BootNotification", boot_of(version)])[2]["status"], "Accepted")
    line.silence()


def main():
    failed = 0
    for name, versions, judge, processed in ROWS:
        for version in versions:
            if processed and done(version) != 3:
                continue
            label = f"{name}@{version}" if version else name
            if ONLY and not any(label.startswith(word) for word in ONLY):
                continue
            begin = time.monotonic()
            try:
                judge(version)
                print(f"ok     {label}  {time.monotonic() - begin:.1f} s", flush=True)
            except Exception as error:  # noqa: BLE001 - each row is judged on its own
                failed += 1
                place = traceback.extract_tb(error.__traceback__)
                lines = ", ".join(str(one.lineno) for one in place if one.filename == __file__)
                print(f"FAILED {label}: {type(error).__name__} {error} (lines {lines})", flush=True)
    for one in SERVERS.values():
        if one.process.poll() is not None:
            failed += 1
            print(f"FAILED the server ended with {one.process.returncode}", flush=True)
        if "panicked" in one.said():
            failed += 1
            print("FAILED a panic stands in the log", flush=True)
        one.stop()
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)


main()
