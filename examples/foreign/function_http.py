"""A plain HTTP function: a web server that answers calls of stations, and sends commands. Needs ocpp.

The gateway posts each call, `POST /`, its frame in the body and all else in headers; the body of the response is the
answer. Nothing stays open between, so that it could as well be a function of a cloud behind a gateway of its own.

    switchboard gateway --bus 'http://127.0.0.1:8090/?idempotent=true&health=/' --directory sqlite:directory.db
    python function_http.py 127.0.0.1:8090 --database books.db
    CP001 Reset {"type":"Soft"}
"""

import argparse
import json
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import central
from contract import COMMAND_SECONDS, Call, Memory, Worker, decoded, encoded, obey_lines

# One at a time uses the database, whose one writer it is.
turn = threading.Lock()


class Function(BaseHTTPRequestHandler):
    # Gateways keep their connections, and have one for each call that is in hand.
    protocol_version = "HTTP/1.1"
    timeout = 60
    # Small answers are not to wait for larger packets.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        """The sign of life that `health=` asks for."""
        self.respond(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.respond(401)
        headers = decoded({name: value for name, value in self.headers.items() if name.lower().startswith("ocpp-")})
        try:
            call = Call(headers, body)
        except (LookupError, TypeError, ValueError):
            return self.respond(400)
        # What stands behind the @ is where commands for its stations may be posted.
        self.server.gateway = headers["ocpp-gateway"].rpartition("@")[2] or self.server.gateway
        with turn:
            told = self.server.worker.perform(call)
        if told is None:
            # A later call of the station has been dealt with: nobody waits for this one.
            return self.respond(409)
        told, frame = told
        if told["ocpp-kind"] == "returned":
            # Nothing was done: the gateway posts it again, here or elsewhere.
            return self.respond(503)
        # Which call it answers is known; only what the gateway could not know is said.
        self.respond(200, {name: told[name] for name in ("ocpp-registration", "ocpp-worker") if name in told}, frame)

    def respond(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in encoded(headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, database, gateway, token):
        memory = Memory(database)
        memory.books.executescript(central.TABLES)
        self.worker, self.gateway, self.token = Worker(memory, central.answer), gateway, token
        super().__init__(address, Function)

    def command(self, station, action, payload):
        """Posts a command to a gateway, which knows where the station is. The response is its outcome."""
        headers = {"ocpp-station": station, "ocpp-remaining-ms": str(COMMAND_SECONDS * 1000)}
        headers = {**encoded({"ocpp-kind": "command", **headers}), "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if not self.gateway:
            raise ValueError("no gateway is known yet: give --gateway, or wait for the first call")
        body = json.dumps([2, "command", action, payload]).encode()
        request = Request(f"{self.gateway}/gateway/v1/commands", body, headers, method="POST")
        # It may wait for its turn as long as for its answer.
        with urlopen(request, timeout=2 * COMMAND_SECONDS + 5) as response:
            told, frame = {"outcome": response.headers["ocpp-outcome"]}, response.read()
        if told["outcome"] == "answered":
            told["payload"] = json.loads(frame)[2]
        elif told["outcome"] == "refused":
            _, _, told["code"], told["description"], _ = json.loads(frame)
        return told


def main(arguments):
    host, _, port = arguments.listen.rpartition(":")
    server = Server((host, int(port)), arguments.database, arguments.gateway, arguments.token)
    senders = ThreadPoolExecutor()

    def send(station, action, payload):
        return senders.submit(server.command, station, action, payload)

    obey_lines(send)
    # No new calls; those in hand are answered, since `serve_forever` ends between two requests.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    with turn:
        sys.exit(0)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="An HTTP function.")
    arguments.add_argument("listen", help="where to listen, as in 127.0.0.1:8090")
    arguments.add_argument("--database", default="books.db", help="a file of SQLite, shared by all functions of this host")
    arguments.add_argument("--gateway", help="where commands are posted, until a call says it")
    arguments.add_argument("--token", help="what requests carry: http://TOKEN@HOST in the gateway's --bus")
    main(arguments.parse_args())
