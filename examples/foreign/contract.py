"""docs/contract.md in Python: what a process that is not ours says to Switchboard's gateways, whatever the broker.

worker_nats.py, worker_rabbitmq.py and worker_mqtt.py bring messages in and out; central.py decides what is answered.
Here is what they share. Standard library only.
"""

import json
import logging
import sqlite3
import sys
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from urllib.parse import quote, unquote

# How often a worker says that it is there: gateways take one for dead that was silent for a little more than twice as long.
BEAT_SECONDS = 0.5
# Calls in hand at once. What comes above goes back to its gateway, which hands it over again.
IN_HAND_MAX = 64
# How long a station has for its answer to a command, once it is written.
COMMAND_SECONDS = 30

# NATS and MQTT carry printable ASCII only: everything else in a header's value is percent-encoded. AMQP needs none of it.
PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


def encoded(headers):
    return {name: quote(value, safe=PRINTABLE) for name, value in headers.items()}


def decoded(headers):
    return {name.lower(): unquote(value) for name, value in headers.items()}


def token(name):
    """A name as part of a subject, topic or routing key. `quote` spares the dot, which separates these in NATS and AMQP."""
    return quote(name, safe="").replace(".", "%2E")


class Call:
    """A call of a station: [2, id, action, payload], and what its headers say of it."""

    def __init__(self, headers, body):
        self.headers = headers
        self.body = body.decode()
        self.id = json.loads(self.body)[1]
        self.is_send = headers["ocpp-kind"] == "send"
        self.tenant = headers.get("ocpp-tenant", "default")
        self.station = headers["ocpp-station"]
        self.version = headers["ocpp-version"]
        # Worked off from the gateway's journal, perhaps long after later calls of the station.
        self.is_journalled = "ocpp-journal" in headers
        # The same for each hand-over of a call, and never given to another.
        self.key = (self.tenant, self.station, int(headers["ocpp-generation"]), int(headers["ocpp-seq"]))


class Memory:
    """Exactly-once: which calls have had their effect and what was answered, beside the effects, in one transaction."""

    def __init__(self, path):
        # One thread at a time uses it; transactions are begun by hand.
        self.books = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
        self.books.executescript(
            """PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS calls (
                tenant TEXT, station TEXT, generation INTEGER, seq INTEGER, answer TEXT NOT NULL,
                at INTEGER DEFAULT (strftime('%s', 'now')), PRIMARY KEY (tenant, station, generation, seq)
            ) WITHOUT ROWID;
            DELETE FROM calls WHERE at < strftime('%s', 'now') - 7 * 86400;"""
        )

    def once(self, call, effect):
        """The payload of the answer to a call: what `effect(books)` says the first time, and the same again each time after.

        None is silence: a later call of the station has been dealt with, so that nobody waits any more. If `effect`
        raises, nothing has happened, and the call may come again.
        """
        books = self.books
        # The lock comes first: another process may be at the same call.
        books.execute("BEGIN IMMEDIATE")
        try:
            answer = self.answered(call)
            if answer is None and not self.is_stale(call):
                answer = effect(books)
                row = (*call.key, answer)
                books.execute("INSERT INTO calls (tenant, station, generation, seq, answer) VALUES (?, ?, ?, ?, ?)", row)
            books.execute("COMMIT")
            return answer
        except BaseException:
            if books.in_transaction:
                books.execute("ROLLBACK")
            raise

    def answered(self, call):
        where = "tenant = ? AND station = ? AND generation = ? AND seq = ?"
        row = self.books.execute(f"SELECT answer FROM calls WHERE {where}", call.key).fetchone()
        return row and row[0]

    def is_stale(self, call):
        where = "tenant = ? AND station = ? AND (generation, seq) > (?, ?)"
        later = self.books.execute(f"SELECT 1 FROM calls WHERE {where}", call.key).fetchone()
        return later is not None and not call.is_journalled


class Refused(Exception):
    """Says CALLERROR: the answer to a call that has no effect."""

    def __init__(self, frame):
        super().__init__(frame)
        self.frame = frame


class Worker:
    """Calls in hand, signs of life, commands and their outcomes. All of it may be used from any thread."""

    def __init__(self, memory, answer):
        """`answer(call, books)` gives the payload of the answer; it raises Refused, or anything for "not now"."""
        self.name = f"python-{uuid.uuid4()}"
        self.memory = memory
        self.answer = answer
        self.in_hand = {}
        self.waiting = {}
        # Handlers run here, so that signs of life go out while one is slow. One thread, as SQLite has one writer.
        self.pool = ThreadPoolExecutor(max_workers=1)

    def take(self, headers, body):
        """Takes a call. The result of the future is what to publish to its `ocpp-reply-to`: headers and body, or None."""
        told = Future()
        try:
            call = Call(headers, body)
        except (LookupError, TypeError, ValueError):
            # Whoever may publish there can send anything; it is dropped.
            logging.exception("what came is no call")
            told.set_result(None)
            return told
        if len(self.in_hand) >= IN_HAND_MAX:
            told.set_result(self.returned(call))
            return told
        # Named in each sign of life from now on. It may be in hand twice, if its gateway was in doubt.
        hand = object()
        self.in_hand[hand] = call
        told = self.pool.submit(self.perform, call)
        told.add_done_callback(lambda _: self.in_hand.pop(hand))
        return told

    def perform(self, call):
        try:
            if call.is_send:
                # Has no answer; an empty one acknowledges it. It may come twice, and nothing is stale.
                self.answer(call, self.memory.books)
                return self.answered(call, "")
            payload = self.memory.once(call, lambda books: json.dumps(self.answer(call, books)))
            frame = None if payload is None else f"[3,{json.dumps(call.id)},{payload}]"
        except Refused as refused:
            frame = "" if call.is_send else refused.frame
        except Exception:
            logging.exception("a call of %s cannot be handled now", call.station)
            return self.returned(call)
        return None if frame is None else self.answered(call, frame)

    def answered(self, call, frame):
        """An answer carries the headers of its call, which name it; only the kind is another."""
        headers = {**call.headers, "ocpp-kind": "answer", "ocpp-worker": self.name}
        if call.headers.get("ocpp-action") == "BootNotification" and frame.startswith("[3"):
            # Gateways understand no payloads: what may be sent to the station depends on this word.
            headers["ocpp-registration"] = json.loads(frame)[2]["status"].lower()
        return headers, frame.encode()

    def returned(self, call):
        """Nothing was done: hand it over again, to whom you like, in a moment."""
        return {**call.headers, "ocpp-kind": "returned", "ocpp-outcome": "busy"}, b""

    def presence(self, is_last=False):
        """The sign of life: who is here, and with which calls in hand."""
        lines = ["end\n"] if is_last else ["\t".join(map(str, call.key)) + "\n" for call in list(self.in_hand.values())]
        headers = {"ocpp-envelope": "1", "ocpp-kind": "presence", "ocpp-worker": self.name}
        return headers, "".join(lines).encode()

    def command(self, station, action, payload, tenant="default"):
        """A command to a station, wherever it is: headers, body, and the outcome to come."""
        id, outcome = str(uuid.uuid4()), Future()
        headers = {
            "ocpp-envelope": "1",
            "ocpp-kind": "command",
            "ocpp-tenant": tenant,
            "ocpp-station": station,
            "ocpp-action": action,
            "ocpp-command-id": id,
            "ocpp-reply-to": self.name,
            "ocpp-remaining-ms": str(COMMAND_SECONDS * 1000),
        }
        self.waiting[id] = outcome
        outcome.add_done_callback(lambda _: self.waiting.pop(id))
        # The gateway puts an id of its own in the place of this one.
        return headers, json.dumps([2, id, action, payload]).encode(), outcome

    def hear(self, headers, body):
        """Takes what came to the inbox."""
        try:
            if headers.get("ocpp-kind") in ("outcome", "returned"):
                self.ended(headers["ocpp-command-id"], headers["ocpp-outcome"], body)
        except (AttributeError, LookupError, ValueError):
            logging.exception("what came is no outcome")

    def ended(self, id, outcome, body=b""):
        waiting = self.waiting.get(id)
        if waiting and not waiting.done():
            frame = json.loads(body) if body else None
            told = {"outcome": outcome}
            if outcome == "answered":
                told["payload"] = frame[2]
            elif outcome == "refused":
                told |= {"code": frame[2], "description": frame[3]}
            waiting.set_result(told)


def obey_lines(send):
    """Each line on standard input is a command, `STATION ACTION {…}`; its true outcome is a line on standard output."""

    def read():
        for line in sys.stdin:
            try:
                station, action, payload = line.split(maxsplit=2)
                payload = json.loads(payload)
            except ValueError:
                logging.error('a command is STATION ACTION {"member": "value"}')
                continue
            try:
                outcome = send(station, action, payload)
                # Twice: it may wait for its turn as long as for its answer.
                told = outcome.result(2 * COMMAND_SECONDS + 5)
            except TooLate:
                # Its gateway may have died with it: then nobody knows whether the station acted on it.
                outcome.cancel()
                told = {"outcome": "unknown"}
            except Exception:
                logging.exception("a command went nowhere")
                told = {"outcome": "not-sent"}
            print(json.dumps({"station": station, "action": action, **told}), flush=True)

    threading.Thread(target=read, daemon=True).start()
