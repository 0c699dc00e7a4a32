"""A small central system of OCPP 1.6 made of PyPI's `ocpp`: what calls mean. It knows nothing of brokers.

A class with `@on` handlers, as for a server with sockets. Handlers change the books only by the connection that they are
given, within the transaction that remembers the answer. What they raise means "not now": nothing is changed, and the
call comes again.
"""

import asyncio
import json
import logging
from datetime import datetime, timezone

import ocpp.messages
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call_result

from contract import Refused

# The schemas are looked at where the handlers run.
ocpp.messages.ASYNC_VALIDATION = False
logging.getLogger("ocpp").setLevel(logging.WARNING)

TABLES = """CREATE TABLE IF NOT EXISTS transactions (
    id INTEGER PRIMARY KEY, tenant TEXT, station TEXT, connector INTEGER, tag TEXT, started TEXT, meter_start INTEGER,
    stopped TEXT, meter_stop INTEGER, UNIQUE (tenant, station, connector, started, tag)
);"""
ACCEPTED = {"status": "Accepted"}


class Station(ChargePoint):
    def __init__(self, call, books):
        super().__init__(call.station, connection=self)
        self.tenant, self.books, self.answer = call.tenant, books, None

    async def send(self, frame):
        self.answer = frame

    @on("BootNotification")
    def boot(self, **_):
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return call_result.BootNotification(current_time=now, interval=300, status="Accepted")

    @on("Heartbeat")
    def heartbeat(self):
        return call_result.Heartbeat(current_time=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))

    @on("Authorize")
    def authorize(self, **_):
        return call_result.Authorize(id_tag_info=ACCEPTED)

    @on("StatusNotification")
    def status(self, **_):
        return call_result.StatusNotification()

    @on("StartTransaction")
    def start(self, connector_id, id_tag, timestamp, meter_start, **_):
        # The key of a call does not know a station that got no answer and sends the same again, as a new call, perhaps
        # on a new connection. These five do.
        key = (self.tenant, self.id, connector_id, timestamp, id_tag)
        into = "INSERT OR IGNORE INTO transactions (tenant, station, connector, started, tag, meter_start)"
        self.books.execute(f"{into} VALUES (?, ?, ?, ?, ?, ?)", (*key, meter_start))
        where = "tenant = ? AND station = ? AND connector = ? AND started = ? AND tag = ?"
        [number] = self.books.execute(f"SELECT id FROM transactions WHERE {where}", key).fetchone()
        return call_result.StartTransaction(transaction_id=number, id_tag_info=ACCEPTED)

    @on("MeterValues")
    def meter(self, **_):
        return call_result.MeterValues()

    @on("StopTransaction")
    def stop(self, transaction_id, meter_stop, timestamp, **_):
        self.books.execute(
            "UPDATE transactions SET stopped = ?, meter_stop = ? WHERE id = ? AND station = ? AND stopped IS NULL",
            (timestamp, meter_stop, transaction_id, self.id),
        )
        return call_result.StopTransaction()


def answer(call, books):
    """The payload of the answer to a call."""
    if call.version != "1.6":
        raise Refused(json.dumps([4, call.id, "NotSupported", "OCPP 1.6 only", {}]))
    station = Station(call, books)
    asyncio.run(station.route_message(call.body))
    if station.answer is None:
        raise ValueError("the library cannot read it")
    kind, _, payload = json.loads(station.answer)[:3]
    if kind == 4 and payload == "InternalError":
        # A handler failed; the library has logged why.
        raise RuntimeError("a handler failed")
    if kind == 4:
        raise Refused(station.answer)
    return payload
