"""The cloud's side of bare mode as processes of their own, for the kill matrix: functions in the style of those behind AWS
IoT Core's rules, and an emulator of the rule that invokes them. Neither knows of Switchboard.

    cloud.py function LISTEN BROKER STORE      takes invocations at LISTEN, keeps its effects in the SQLite file STORE, and
                                               publishes its answers to BROKER itself
    cloud.py rule LISTEN BROKER FUNCTION ...   invokes functions for what comes on `+/in`, without waiting for them and once
                                               each, and sends commands for whoever posts them to LISTEN

Each effect is one row per message, found again by what the station says of it (its clock and its transaction), as a
station says it again under another id after it lost its connection. Which messages came is kept beside that.
"""

import asyncio
import json
import signal
import socket
import sqlite3
import sys
from datetime import datetime, timezone

import paho.mqtt.client as mqtt

# What a sender of commands waits for a word: longer than a station may think, and a gateway wait for it.
PATIENCE = 40

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS station(id INTEGER PRIMARY KEY, identity TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS charge(
    id INTEGER PRIMARY KEY, station INTEGER, start_at TEXT, start_wh TEXT, stop_wh TEXT, ended INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS reading(station INTEGER, charge INTEGER, at TEXT, energy_wh TEXT);
CREATE TABLE IF NOT EXISTS heard(station INTEGER, id TEXT, action TEXT);
"""


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """What functions have done. Processes share the file; none of them owns it."""

    def __init__(self, path):
        self.sql = sqlite3.connect(path, timeout=60, isolation_level=None)
        self.sql.executescript(SCHEMA)
        # A process that dies loses nothing by this, and nobody pulls the plug.
        self.sql.execute("PRAGMA synchronous = NORMAL")

    def one(self, query, *values):
        row = self.sql.execute(query, values).fetchone()
        return row and row[0]

    def answer(self, identity, message_id, action, payload):
        """The effect of a message and its answer."""
        self.sql.execute("BEGIN IMMEDIATE")
        try:
            self.sql.execute("INSERT OR IGNORE INTO station(identity) VALUES (?)", (identity,))
            station = self.one("SELECT id FROM station WHERE identity = ?", identity)
            self.sql.execute("INSERT INTO heard VALUES (?, ?, ?)", (station, message_id, action))
            answer = getattr(self, action)(station, payload)
            self.sql.execute("COMMIT")
            return answer
        except BaseException:
            self.sql.execute("ROLLBACK")
            raise

    def BootNotification(self, station, payload):
        return {"currentTime": now(), "interval": 300, "status": "Accepted"}

    def Heartbeat(self, station, payload):
        return {"currentTime": now()}

    def StatusNotification(self, station, payload):
        return {}

    def StartTransaction(self, station, payload):
        at = payload["timestamp"]
        number = self.one("SELECT id FROM charge WHERE station = ? AND start_at = ?", station, at)
        if number is None:
            row = (station, at, str(payload["meterStart"]))
            number = self.sql.execute("INSERT INTO charge(station, start_at, start_wh) VALUES (?, ?, ?)", row).lastrowid
        return {"transactionId": number, "idTagInfo": {"status": "Accepted"}}

    def MeterValues(self, station, payload):
        charge = payload["transactionId"]
        for value in payload["meterValue"]:
            key = (station, charge, value["timestamp"])
            if self.one("SELECT 1 FROM reading WHERE station = ? AND charge = ? AND at = ?", *key) is None:
                energy = value["sampledValue"][0]["value"]
                self.sql.execute("INSERT INTO reading VALUES (?, ?, ?, ?)", (*key, energy))
        return {}

    def StopTransaction(self, station, payload):
        row = (str(payload["meterStop"]), payload["transactionId"])
        self.sql.execute("UPDATE charge SET stop_wh = ?, ended = 1 WHERE id = ?", row)
        return {}


def connected(name, broker):
    """A client that connects again by itself."""
    host, port = broker.rsplit(":", 1)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311)
    client.max_inflight_messages_set(1000)
    # Without it each message waits for the acknowledgement of the one before.
    client.on_socket_open = lambda _client, _data, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.reconnect_delay_set(min_delay=1, max_delay=2)
    client.connect_async(host, int(port), keepalive=30)
    return client


async def serve(listen, handle):
    """Small requests over HTTP, one a connection. `handle` is given method, path and body, and gives status and body."""

    async def on_connection(reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            status, body = await handle(method, path, body)
            head = f"HTTP/1.1 {status} Word\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    host, port = listen.rsplit(":", 1)
    return await asyncio.start_server(on_connection, host, int(port), backlog=1000)


async def function(listen, broker, store):
    store = Store(store)
    client = connected(f"function-{listen}", broker)
    client.loop_start()
    published, tasks = [], set()

    async def invoke(event):
        kind, message_id, action, payload = event["message"]
        await asyncio.sleep(0.05)
        answer = [3, message_id, store.answer(event["station"], message_id, action, payload)]
        if sum(message_id.encode()) % 4 == 0:
            # So that there always are effects whose answers are not given yet when something dies.
            await asyncio.sleep(0.5)
        published.append(client.publish(f"{event['station']}/out", json.dumps(answer), qos=1))
        while published and published[0].is_published():
            published.pop(0)

    async def handle(method, path, body):
        if path == "/readyz":
            return (200 if client.is_connected() else 503), b""
        # Whoever invokes it does not wait for it.
        task = asyncio.get_running_loop().create_task(invoke(json.loads(body)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return 202, b""

    server = await serve(listen, handle)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    # What it was invoked for is answered first.
    server.close()
    await asyncio.sleep(0.1)
    if tasks:
        await asyncio.wait(tasks)
    for each in published:
        each.wait_for_publish(10)


async def rule(listen, broker, functions):
    loop = asyncio.get_running_loop()
    client = connected(f"rule-{listen}", broker)
    waiting, turn, tasks, listening = {}, 0, set(), asyncio.Event()

    async def invoke(event):
        """Once, by any function that takes it. If none does it is lost, and so it is if that one dies."""
        nonlocal turn
        turn += 1
        body = json.dumps(event).encode()
        for offset in range(len(functions)):
            host, port = functions[(turn + offset) % len(functions)].rsplit(":", 1)
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                continue
            try:
                writer.write(f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                if b"202" in await reader.read():
                    return
                # It was never begun: another one takes it.
            except OSError:
                pass
            finally:
                writer.close()

    def came(station, frame):
        if frame[0] == 2:
            task = loop.create_task(invoke({"station": station, "message": frame}))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        elif frame[1] in waiting and not waiting[frame[1]].done():
            waiting[frame[1]].set_result(frame)

    def on_message(_client, _data, message):
        station = message.topic.rsplit("/", 1)[0]
        loop.call_soon_threadsafe(came, station, json.loads(message.payload))

    client.on_connect = lambda *_: client.subscribe("+/in", qos=1)
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(listening.set)
    client.on_disconnect = lambda *_: loop.call_soon_threadsafe(listening.clear)
    client.on_message = on_message
    client.loop_start()

    async def handle(method, path, body):
        if path == "/readyz":
            return (200 if listening.is_set() else 503), b""
        station, order = path.split("/")[3], json.loads(body)
        word = waiting[order["key"]] = loop.create_future()
        call = [2, order["key"], order["action"], order["payload"]]
        client.publish(f"{station}/out", json.dumps(call), qos=1)
        try:
            outcome = told(await asyncio.wait_for(word, PATIENCE))
        except asyncio.TimeoutError:
            outcome = {"outcome": "silence"}
        return 200, json.dumps(outcome).encode()

    server = await serve(listen, handle)
    await server.serve_forever()


def told(frame):
    """A station's word on a command, or the gateway's on why there is none."""
    if frame[0] == 3:
        return {"outcome": "answered", "payload": frame[2]}
    word = frame[4].get("outcome")
    return {"outcome": "notSent" if word == "not-sent" else word} if word else {"outcome": "refused", "frame": frame}


role, *words = sys.argv[1:]
asyncio.run(function(*words) if role == "function" else rule(words[0], words[1], words[2:]))
