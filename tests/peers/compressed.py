"""Stations over PyPI's `websockets` that offer compression in all the ways that it can.

Usage: compressed.py URL      (of the server, with /ocpp/ at its end). Prints `ok` for each way; any failure is a traceback.
"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

URL = sys.argv[1]
MEBIBYTE = 1 << 20
PROMISED = {"local_no_context_takeover": True, "remote_no_context_takeover": True}

# The ways, and what must be agreed.
WAYS = {
    "default": (None, PROMISED),
    "window of the client": (dict(client_max_window_bits=True), PROMISED),
    "small window of the client": (dict(client_max_window_bits=9), PROMISED),
    "small window of the server": (dict(server_max_window_bits=9), {**PROMISED, "remote_max_window_bits": 9}),
    "windows kept": (dict(server_no_context_takeover=False, client_no_context_takeover=False), PROMISED),
    "no window kept by the server": (dict(server_no_context_takeover=True), PROMISED),
    "no window kept by the client": (dict(client_no_context_takeover=True), PROMISED),
}


async def ask(socket, action, payload, number, cut=None):
    text = json.dumps([2, str(number), action, payload])
    # An iterable is sent in fragments.
    await socket.send([text[at:at + cut] for at in range(0, len(text), cut)] if cut else text)
    while True:
        answer = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if answer[0] == 2:
            asked, action, payload = answer[1:]
            answered = {"configurationKey": [], "unknownKey": payload.get("key", [])}
            await socket.send(json.dumps([3, asked, answered]))
            continue
        assert answer[:2] == [3, str(number)], answer
        return answer[2]


def large(length, filled):
    """A DataTransfer that has this many bytes as a frame of its own, with the id 9."""
    empty = json.dumps([2, "9", "DataTransfer", {"vendorId": "x", "data": ""}])
    return {"vendorId": "x", "data": filled(length - len(empty))}


async def one(name, options, agreed):
    station = "PY-" + name.replace(" ", "-")
    how = {} if options is None else dict(extensions=[ClientPerMessageDeflateFactory(**options)], compression=None)
    async with connect(URL + station, subprotocols=["ocpp1.6"], max_size=4 * MEBIBYTE, **how) as socket:
        (extension,) = socket.protocol.extensions
        found = {name: getattr(extension, name) for name in agreed}
        assert found == agreed, f"{name}: {found}"
        boot = {"chargePointVendor": "V", "chargePointModel": "M"}
        assert (await ask(socket, "BootNotification", boot, 1))["status"] == "Accepted"
        samples = [{"value": str(n), "measurand": "Voltage", "unit": "V"} for n in range(50)]
        meter = {"connectorId": 1, "meterValue": [{"timestamp": "2026-01-01T00:00:00Z", "sampledValue": samples}]}
        # The same again and again: whoever keeps a window refers to what was before.
        for number in range(2, 7):
            assert await ask(socket, "MeterValues", meter, number, cut=[None, 100, 1, None, 7][number - 2]) == {}
        noise = lambda length: os.urandom(length // 2 + 1).hex()[:length]
        for filled in (lambda length: "x" * length, noise):
            for cut in (None, 100_000):
                answer = await ask(socket, "DataTransfer", large(MEBIBYTE, filled), 9, cut)
                assert answer["status"] == "UnknownVendorId", answer
        # One byte more than a message may have.
        await socket.send(json.dumps([2, "9", "DataTransfer", large(MEBIBYTE + 1, noise)]))
        try:
            while True:
                await asyncio.wait_for(socket.recv(), 30)
        except ConnectionClosedError as closed:
            assert closed.rcvd.code == 1009, closed
    print("ok", name, flush=True)


async def main():
    for name, (options, agreed) in WAYS.items():
        await one(name, options, agreed)
    async with connect(URL + "PY-plain", subprotocols=["ocpp1.6"], compression=None) as socket:
        assert socket.protocol.extensions == []
        await ask(socket, "Heartbeat", {}, 1)
    print("ok plain", flush=True)
    # The server is started with the setting that refuses such ids.
    async with connect(URL + "NO-1", subprotocols=["ocpp1.6"]) as socket:
        assert socket.protocol.extensions == []
        await ask(socket, "Heartbeat", {}, 1)
    print("ok refused", flush=True)
    # Stays until it is told to go, and takes commands.
    async with connect(URL + "PY-stays", subprotocols=["ocpp1.6"]) as socket:
        await ask(socket, "BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, 1)
        print("ok stays", flush=True)
        async for text in socket:
            kind, number, action, payload = json.loads(text)
            assert (kind, action) == (2, "GetConfiguration"), text
            await socket.send(json.dumps([3, number, {"unknownKey": payload["key"]}]))


asyncio.run(main())
