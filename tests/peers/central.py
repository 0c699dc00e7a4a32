"""A central system made of PyPI's `ocpp` and `websockets`, driven line by line as charger.py is.

It listens on a free port and tells it as {"event": "listening", "port": …}. Each call of a station is told as
{"event": "called", "station": …, "action": …, "payload": …}, in the order in which they came. The library checks all
that it receives and sends against the official schemas; what it finds wrong is told as {"event": "invalid", …}.

Usage: central.py 1.6|2.0.1|2.1
"""

import asyncio
import json
import logging
import sys
from datetime import datetime, timezone

import ocpp.v16
import ocpp.v201
import ocpp.v21
from ocpp.exceptions import InternalError, OCPPError
from ocpp.messages import MessageType, unpack, validate_payload
from ocpp.routing import on
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

logging.getLogger("ocpp").setLevel(logging.CRITICAL)
VERSION = sys.argv[1]
LIBRARY = {"1.6": ocpp.v16, "2.0.1": ocpp.v201, "2.1": ocpp.v21}[VERSION]
RESULT = LIBRARY.call_result
CALL = LIBRARY.call


def say(**what):
    print(json.dumps(what), flush=True)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Wishes:
    """What the test wants of the answers."""

    boot = ["Accepted"]
    interval = 300
    refuse = 0
    numbers = {}


class Station(LIBRARY.ChargePoint):
    """A station as the library sees it."""

    async def route_message(self, raw):
        # What the library drops with a line in its log must not go by unnoticed.
        try:
            message = unpack(raw)
            if message.message_type_id == MessageType.Call:
                await validate_payload(message, VERSION)
                say(event="called", station=self.id, action=message.action, payload=message.payload)
        except OCPPError as error:
            say(event="invalid", error=repr(error), raw=raw)
        await super().route_message(raw)

    @on("BootNotification")
    def boot(self, **_):
        status = Wishes.boot.pop(0) if len(Wishes.boot) > 1 else Wishes.boot[0]
        return RESULT.BootNotification(current_time=now(), interval=Wishes.interval, status=status)

    @on("Heartbeat")
    def heartbeat(self, **_):
        return RESULT.Heartbeat(current_time=now())

    @on("StatusNotification")
    def status(self, **_):
        return RESULT.StatusNotification()

    @on("Authorize")
    def authorize(self, **_):
        if VERSION == "1.6":
            return RESULT.Authorize(id_tag_info={"status": "Accepted"})
        return RESULT.Authorize(id_token_info={"status": "Accepted"})

    @on("MeterValues")
    def meter_values(self, **_):
        self.maybe_refuse()
        return RESULT.MeterValues()

    if VERSION == "1.6":

        @on("StartTransaction")
        def start_transaction(self, connector_id, id_tag, meter_start, timestamp, **_):
            self.maybe_refuse()
            # By its natural key: a repeat gets the number of the first.
            key = (self.id, connector_id, id_tag, meter_start, timestamp)
            number = Wishes.numbers.setdefault(key, 1000 + len(Wishes.numbers))
            return RESULT.StartTransaction(transaction_id=number, id_tag_info={"status": "Accepted"})

        @on("StopTransaction")
        def stop_transaction(self, **_):
            self.maybe_refuse()
            return RESULT.StopTransaction()

    else:

        @on("TransactionEvent")
        def transaction_event(self, **_):
            self.maybe_refuse()
            return RESULT.TransactionEvent()

    def maybe_refuse(self):
        if Wishes.refuse > 0:
            Wishes.refuse -= 1
            raise InternalError("as the test wished")


stations = {}


async def connected(socket):
    name = socket.request.path.rsplit("/", 1)[1]
    station = stations[name] = Station(name, socket)
    say(event="connected", station=name, protocol=socket.subprotocol)
    try:
        await station.start()
    except ConnectionClosed:
        say(event="closed", station=name, code=socket.close_code)


async def wish(**wishes):
    for name, value in wishes.items():
        setattr(Wishes, name, value)
    return {}


async def drop(station):
    stations[station]._connection.transport.abort()
    return {}


async def call(station, action, payload):
    answer = await stations[station].call(getattr(CALL, action)(**payload), suppress=False)
    return {"answer": answer.__dict__}


async def raw(station, text):
    await stations[station]._connection.send(text)
    return {}


async def main():
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with serve(connected, "127.0.0.1", 0, subprotocols=["ocpp" + VERSION]) as server:
        say(event="listening", port=server.sockets[0].getsockname()[1])
        requests = {"wish": wish, "drop": drop, "call": call, "raw": raw}
        while line := await lines.readline():
            request = json.loads(line)
            name = request.pop("do")
            try:
                say(done=name, **await requests[name](**request))
            except Exception as error:  # whatever it is, the test wants to know
                say(failed=name, error=repr(error), code=getattr(error, "code", type(error).__name__))


asyncio.run(main())
