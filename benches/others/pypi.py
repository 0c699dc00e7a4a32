"""The server of the benchmark made of PyPI's `ocpp` and `websockets`, as their documentation shows it.

The library checks each request and each answer against the official schemas.
"""

import asyncio
import logging
from datetime import datetime, timezone

from ocpp.routing import on
from ocpp.v16 import ChargePoint, call_result
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

logging.disable(logging.CRITICAL)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Station(ChargePoint):
    @on("BootNotification")
    def boot(self, **_):
        return call_result.BootNotification(current_time=now(), interval=300, status="Accepted")

    @on("Heartbeat")
    def heartbeat(self, **_):
        return call_result.Heartbeat(current_time=now())

    @on("StartTransaction")
    def start_transaction(self, **_):
        return call_result.StartTransaction(transaction_id=170042, id_tag_info={"status": "Accepted"})

    @on("MeterValues")
    def meter_values(self, **_):
        return call_result.MeterValues()

    @on("StatusNotification")
    def status(self, **_):
        return call_result.StatusNotification()


async def connected(socket):
    try:
        await Station(socket.request.path.rsplit("/", 1)[1], socket).start()
    except ConnectionClosed:
        pass


async def main():
    async with serve(connected, "127.0.0.1", 0, subprotocols=["ocpp1.6"], compression=None) as server:
        print("listening 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
