"""A charging station made of PyPI's `ocpp` and `websockets` that remembers what it is told: settings and a list of tags.

Driven line by line like charger.py: each line on standard input is a JSON object {"do": NAME, ...} and gets one line
{"done": NAME, ...} or {"failed": NAME, "error": ...}. Each call of the other side is told as {"event": "called", ...}.
The library checks all that travels against the official schemas.

Usage: keeper.py 1.6|2.0.1|2.1
"""

import asyncio
import importlib
import json
import logging
import sys

from ocpp.exceptions import OCPPError
from ocpp.routing import on
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

logging.getLogger("ocpp").setLevel(logging.CRITICAL)

VERSION = sys.argv[1]
IS_16 = VERSION == "1.6"
PACKAGE = importlib.import_module({"1.6": "ocpp.v16", "2.0.1": "ocpp.v201", "2.1": "ocpp.v21"}[VERSION])
call = importlib.import_module(PACKAGE.__name__ + ".call")
result = importlib.import_module(PACKAGE.__name__ + ".call_result")


def say(**what):
    print(json.dumps(what), flush=True)


class Memory:
    """What a station keeps over connections."""

    def __init__(self):
        interval = "HeartbeatInterval" if IS_16 else "OCPPCommCtrlr/HeartbeatInterval"
        stubborn = "Stubborn" if IS_16 else "Test/Stubborn"
        slow = "Slow" if IS_16 else "Test/Slow"
        self.values = {interval: "300", stubborn: "0", slow: "0"}
        if IS_16:
            self.values |= {"SendLocalListMaxLength": "50", "LocalAuthListMaxLength": "1000"}
        else:
            self.values |= {"LocalAuthListCtrlr/ItemsPerMessage": "50"}
        self.rejects = [stubborn]
        self.needs_reboot = [slow]
        self.after_reboot = {}
        self.version = 0
        self.tags = {}
        # The actions that it does and never answers.
        self.silent = []

    def set(self, name, value):
        if name not in self.values:
            return "NotSupported" if IS_16 else "UnknownVariable"
        if name in self.rejects:
            return "Rejected"
        if name in self.needs_reboot:
            self.after_reboot[name] = value
            return "RebootRequired"
        self.values[name] = value
        return "Accepted"

    def take(self, version, kind, tags):
        if kind == "Differential" and version <= self.version:
            return "VersionMismatch"
        if kind == "Full":
            self.tags = {}
        for tag, info in tags:
            if info is None:
                self.tags.pop(tag, None)
            else:
                self.tags[tag] = info["status"]
        self.version = version
        return "Accepted"

    async def answers(self, action, **more):
        say(event="called", action=action, **more)
        while action in self.silent:
            await asyncio.sleep(0.05)


def name_of(one):
    return one["component"]["name"] + "/" + one["variable"]["name"]


class Both(PACKAGE.ChargePoint):
    memory = None

    @on("GetLocalListVersion")
    async def list_version(self, **_):
        await self.memory.answers("GetLocalListVersion")
        member = "list_version" if IS_16 else "version_number"
        return result.GetLocalListVersion(**{member: self.memory.version})

    @on("SendLocalList")
    async def send_list(self, update_type, local_authorization_list=None, **version):
        [number] = version.values()
        token = (lambda one: one["id_tag"]) if IS_16 else (lambda one: one["id_token"]["id_token"])
        info = "id_tag_info" if IS_16 else "id_token_info"
        tags = [(token(one), one.get(info)) for one in local_authorization_list or []]
        status = self.memory.take(number, update_type, tags)
        await self.memory.answers("SendLocalList", kind=update_type, count=len(tags), status=status)
        return result.SendLocalList(status=status)

    @on("Reset")
    async def reset(self, **_):
        self.memory.values |= self.memory.after_reboot
        self.memory.after_reboot = {}
        await self.memory.answers("Reset")
        return result.Reset(status="Accepted")


class Station16(Both):
    @on("GetConfiguration")
    async def get(self, key=None, **_):
        await self.memory.answers("GetConfiguration")
        values = self.memory.values
        names = key if key else list(values)
        return result.GetConfiguration(
            configuration_key=[
                {"key": name, "readonly": name in self.memory.rejects, "value": values[name]}
                for name in names
                if name in values
            ],
            unknown_key=[name for name in names if name not in values],
        )

    @on("ChangeConfiguration")
    async def change(self, key, value):
        status = self.memory.set(key, value)
        await self.memory.answers("ChangeConfiguration", names=[key])
        return result.ChangeConfiguration(status=status)


class Station2x(Both):
    @on("GetVariables")
    async def get(self, get_variable_data, **_):
        await self.memory.answers("GetVariables")
        results = []
        for one in get_variable_data:
            known = self.memory.values.get(name_of(one))
            told = {"component": one["component"], "variable": one["variable"]}
            told["attribute_status"] = "UnknownVariable" if known is None else "Accepted"
            if known is not None:
                told["attribute_value"] = known
            results.append(told)
        return result.GetVariables(get_variable_result=results)

    @on("SetVariables")
    async def change(self, set_variable_data, **_):
        results = [
            {
                "attribute_status": self.memory.set(name_of(one), one["attribute_value"]),
                "component": one["component"],
                "variable": one["variable"],
            }
            for one in set_variable_data
        ]
        await self.memory.answers("SetVariables", names=[name_of(one) for one in set_variable_data])
        return result.SetVariables(set_variable_result=results)


class Driver:
    def __init__(self):
        self.memory = Memory()
        self.station = None
        self.socket = None
        self.reading = None
        self.transaction = "tx"
        self.sequence = 0

    async def connect(self, url):
        self.socket = await connect(url, subprotocols=["ocpp" + VERSION], proxy=None, open_timeout=30)
        self.station = (Station16 if IS_16 else Station2x)(url.rsplit("/", 1)[1], self.socket)
        self.station.memory = self.memory
        self.reading = asyncio.ensure_future(self.read())
        return {}

    async def read(self):
        try:
            await self.station.start()
        except ConnectionClosed:
            pass

    async def drop(self):
        self.socket.transport.abort()
        # It may be in the middle of a call that it never answers.
        self.reading.cancel()
        return {}

    async def remember(self, **what):
        """Changes the station's memory: what it is silent about, the version of its list, values."""
        for name, value in what.items():
            setattr(self.memory, name, value)
        return {}

    async def recall(self):
        memory = self.memory
        return {"values": memory.values, "version": memory.version, "tags": memory.tags}

    async def call(self, payload):
        return await self.station.call(payload, suppress=False)

    async def boot(self):
        if IS_16:
            boot = call.BootNotification(charge_point_model="Keeper", charge_point_vendor="PyPI")
        else:
            station = {"model": "Keeper", "vendor_name": "PyPI"}
            boot = call.BootNotification(charging_station=station, reason="PowerUp")
        return {"status": (await self.call(boot)).status}

    async def heartbeat(self):
        await self.call(call.Heartbeat())
        return {}

    @staticmethod
    def told(info):
        group = info.get("parent_id_tag") if IS_16 else (info.get("group_id_token") or {}).get("id_token")
        return {"status": info["status"], "group": group}

    async def authorize(self, tag):
        if IS_16:
            return self.told((await self.call(call.Authorize(id_tag=tag))).id_tag_info)
        token = {"id_token": tag, "type": "ISO14443"}
        return self.told((await self.call(call.Authorize(id_token=token))).id_token_info)

    async def event(self, kind, trigger, tag):
        event = call.TransactionEvent(
            event_type=kind,
            timestamp=f"2026-01-01T10:0{self.sequence}:00Z",
            trigger_reason=trigger,
            seq_no=self.sequence,
            transaction_info={"transaction_id": self.transaction},
            evse={"id": 1, "connector_id": 1},
            id_token={"id_token": tag, "type": "ISO14443"},
        )
        self.sequence += 1
        return self.told((await self.call(event)).id_token_info)

    async def begin(self, tag):
        if not IS_16:
            return await self.event("Started", "Authorized", tag)
        start = call.StartTransaction(
            connector_id=1, id_tag=tag, meter_start=0, timestamp="2026-01-01T10:00:00Z"
        )
        answer = await self.call(start)
        self.transaction = answer.transaction_id
        return self.told(answer.id_tag_info)

    async def end(self, tag):
        if not IS_16:
            return await self.event("Ended", "StopAuthorized", tag)
        stop = call.StopTransaction(
            transaction_id=self.transaction,
            id_tag=tag,
            meter_stop=1000,
            timestamp="2026-01-01T11:00:00Z",
            reason="Local",
        )
        return self.told((await self.call(stop)).id_tag_info)


REQUESTS = ["connect", "drop", "remember", "recall", "boot", "heartbeat", "authorize", "begin", "end"]


async def main():
    driver = Driver()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        request = json.loads(line)
        name = request.pop("do")
        assert name in REQUESTS, name
        try:
            say(done=name, **await getattr(driver, name)(**request))
        except OCPPError as error:
            say(failed=name, error=f"{type(error).__name__}: {error}", code=error.code)
        except (ConnectionClosed, OSError, TimeoutError, asyncio.TimeoutError) as error:
            say(failed=name, error=f"{type(error).__name__}: {error}", code="lost")


asyncio.run(main())
