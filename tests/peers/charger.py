"""A charging station made of PyPI's `ocpp` and `websockets`, driven line by line.

Each line on standard input is a JSON object {"do": NAME, ...}; each gets one line {"done": NAME, ...} on standard
output, or {"failed": NAME, "error": ...}. What happens by itself is told as {"event": NAME, ...}. The library checks
all that it sends and receives against the official schemas; what it finds wrong makes a request fail.

Usage: charger.py 1.6|2.0.1|2.1
"""

import asyncio
import base64
import json
import logging
import sys
import uuid
from datetime import datetime, timezone

import ocpp.v16
import ocpp.v201
import ocpp.v21
from ocpp.exceptions import NotSupportedError, OCPPError
from ocpp.messages import Call, CallError, validate_payload
from ocpp.routing import on
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from ocpp.v21 import call as call21
from ocpp.v21 import call_result as result21
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


# What it refuses it also logs, with a traceback; the tests look at what it answers.
logging.getLogger("ocpp").setLevel(logging.CRITICAL)


def say(**what):
    # The library reads some numbers as decimals.
    print(json.dumps(what, default=float), flush=True)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Station16(ocpp.v16.ChargePoint):
    """What the library calls a charge point, with the commands that the tests send."""

    driver = None

    @on("RemoteStartTransaction")
    def remote_start(self, id_tag, **_):
        say(event="called", action="RemoteStartTransaction", tag=id_tag)
        return result16.RemoteStartTransaction(status="Accepted")

    @on("RemoteStopTransaction")
    def remote_stop(self, transaction_id):
        say(event="called", action="RemoteStopTransaction", transaction=transaction_id)
        mine = transaction_id == self.driver.transaction
        return result16.RemoteStopTransaction(status="Accepted" if mine else "Rejected")

    @on("GetConfiguration")
    def get_configuration(self, **_):
        return result16.GetConfiguration(
            configuration_key=[{"key": "HeartbeatInterval", "readonly": False, "value": "300"}]
        )

    @on("Reset")
    async def reset(self, **_):
        say(event="called", action="Reset")
        await self.driver.hang()
        return result16.Reset(status="Accepted")


class Commands2x:
    """The same for 2.x."""

    driver = None
    results = None

    @on("RequestStartTransaction")
    def request_start(self, id_token, remote_start_id, **_):
        say(event="called", action="RequestStartTransaction", tag=id_token["id_token"], id=remote_start_id)
        return self.results.RequestStartTransaction(status="Accepted")

    @on("RequestStopTransaction")
    def request_stop(self, transaction_id, **_):
        say(event="called", action="RequestStopTransaction", transaction=transaction_id)
        mine = transaction_id == self.driver.transaction
        return self.results.RequestStopTransaction(status="Accepted" if mine else "Rejected")

    @on("GetVariables")
    def get_variables(self, get_variable_data, **_):
        return self.results.GetVariables(
            get_variable_result=[
                {
                    "attribute_status": "Accepted",
                    "attribute_value": "300",
                    "component": wanted["component"],
                    "variable": wanted["variable"],
                }
                for wanted in get_variable_data
            ]
        )

    @on("Reset")
    async def reset(self, **_):
        say(event="called", action="Reset")
        await self.driver.hang()
        return self.results.Reset(status="Accepted")


class Station201(Commands2x, ocpp.v201.ChargePoint):
    results = result201


class Station21(Commands2x, ocpp.v21.ChargePoint):
    results = result21

    async def _handle_call(self, msg):
        # The library says nothing at all to a call of 2.1 that it has no handler for.
        if msg.action in self.route_map:
            return await super()._handle_call(msg)
        await self._send(msg.create_call_error(NotSupportedError()).to_json())


def obeys(station_class, results, defaults):
    """Gives a station class a handler for each action: it tells that it was called, and answers as it was told to."""

    def handler_of(action):
        def handler(self, **payload):
            say(event="called", action=action, payload=payload)
            return getattr(results, action)(**self.driver.answers.get(action, defaults[action]))

        # The library finds handlers by the names of their functions.
        handler.__name__ = f"on_{action}"
        return on(action)(handler)

    for action in defaults:
        setattr(station_class, f"on_{action}", handler_of(action))


PERIOD = {"start_period": 0, "limit": 16.0}
obeys(
    Station16,
    result16,
    {
        "UpdateFirmware": {},
        "GetDiagnostics": {"file_name": "log.zip"},
        "ReserveNow": {"status": "Accepted"},
        "CancelReservation": {"status": "Accepted"},
        "SetChargingProfile": {"status": "Accepted"},
        "ClearChargingProfile": {"status": "Accepted"},
        "GetCompositeSchedule": {
            "status": "Accepted",
            "connector_id": 1,
            "schedule_start": "2026-11-22T10:00:00Z",
            "charging_schedule": {"charging_rate_unit": "A", "charging_schedule_period": [PERIOD]},
        },
        "TriggerMessage": {"status": "Accepted"},
    },
)
DEFAULTS_2X = {
    "UpdateFirmware": {"status": "Accepted"},
    "GetLog": {"status": "Accepted", "filename": "log.zip"},
    "ReserveNow": {"status": "Accepted"},
    "CancelReservation": {"status": "Accepted"},
    "SetChargingProfile": {"status": "Accepted"},
    "ClearChargingProfile": {"status": "Accepted"},
    "GetCompositeSchedule": {
        "status": "Accepted",
        "schedule": {
            "evse_id": 1,
            "duration": 3600,
            "schedule_start": "2026-11-22T10:00:00Z",
            "charging_rate_unit": "A",
            "charging_schedule_period": [PERIOD],
        },
    },
    "TriggerMessage": {"status": "Accepted"},
    "GetBaseReport": {"status": "Accepted"},
}
obeys(Station201, result201, DEFAULTS_2X)
obeys(Station21, result21, DEFAULTS_2X)


class Driver16:
    """The tests' requests in the terms of 1.6."""

    station_class = Station16
    calls = call16

    def __init__(self):
        self.answers = {}
        self.station = None
        self.socket = None
        self.reading = None
        self.transaction = None
        self.hangs = False

    async def connect(self, url, protocols, password=None, user=None):
        headers = {}
        if password is not None:
            credentials = f"{user or url.rsplit('/', 1)[1]}:{password}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode()
        try:
            self.socket = await connect(
                url, subprotocols=protocols, additional_headers=headers, proxy=None, open_timeout=30
            )
        except InvalidStatus as refused:
            return {"status": refused.response.status_code}
        self.station = self.station_class(url.rsplit("/", 1)[1], self.socket)
        self.station.driver = self
        self.reading = asyncio.ensure_future(self.read(self.station, self.socket))
        return {"status": 101, "protocol": self.socket.subprotocol}

    @staticmethod
    async def read(station, socket):
        try:
            await station.start()
        except ConnectionClosed:
            say(event="closed", code=socket.close_code, reason=socket.close_reason)

    async def hang(self):
        """Makes the station deaf for good, once it was told to hang."""
        while self.hangs:
            await asyncio.sleep(3600)

    async def misbehave(self):
        self.hangs = True
        return {}

    async def drop(self):
        """The line is cut: no close frame, no goodbye."""
        self.socket.transport.abort()
        await self.reading
        return {}

    async def call(self, payload):
        return await self.station.call(payload, suppress=False)

    async def act(self, action, payload):
        """Any message, as it stands on the wire; both ways judged by the library's schemas."""
        station = self.station
        call = Call(unique_id=str(uuid.uuid4()), action=action, payload=payload)
        await validate_payload(call, station._ocpp_version)
        async with station._call_lock:
            await station._send(call.to_json())
            answer = await station._get_specific_response(call.unique_id, station._response_timeout)
        if isinstance(answer, CallError):
            raise answer.to_exception()
        answer.action = action
        await validate_payload(answer, station._ocpp_version)
        return {"payload": answer.payload}

    async def say(self, action, payload):
        """Sends any message, in the library's own names."""
        await self.call(getattr(self.calls, action)(**payload))
        return {}

    async def answer(self, action, answer):
        """From now on the station answers so."""
        self.answers[action] = answer
        return {}

    async def boot(self, firmware=None):
        answer = await self.call(
            call16.BootNotification(
                charge_point_model="Peer", charge_point_vendor="PyPI", firmware_version=firmware
            )
        )
        return {"status": answer.status, "interval": answer.interval}

    async def heartbeat(self):
        answer = await self.call(call16.Heartbeat())
        return {"time": answer.current_time}

    async def authorize(self, tag):
        answer = await self.call(call16.Authorize(id_tag=tag))
        return {"status": answer.id_tag_info["status"]}

    async def report(self, status):
        await self.call(call16.StatusNotification(connector_id=1, error_code="NoError", status=status, timestamp=now()))
        return {}

    async def start(self, tag, meter, timestamp):
        answer = await self.call(
            call16.StartTransaction(connector_id=1, id_tag=tag, meter_start=meter, timestamp=timestamp)
        )
        self.transaction = answer.transaction_id
        return {"transaction": answer.transaction_id, "status": answer.id_tag_info["status"]}

    async def meter(self, value, timestamp):
        sample = {"value": str(value), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
        await self.call(
            call16.MeterValues(
                connector_id=1,
                transaction_id=self.transaction,
                meter_value=[{"timestamp": timestamp, "sampled_value": [sample]}],
            )
        )
        return {}

    async def stop(self, meter, timestamp):
        await self.call(
            call16.StopTransaction(
                transaction_id=self.transaction, meter_stop=meter, timestamp=timestamp, reason="Local"
            )
        )
        return {}


class Driver201(Driver16):
    """The tests' requests in the terms of 2.x."""

    station_class = Station201
    calls = call201

    def __init__(self):
        super().__init__()
        self.sequence = 0
        self.started = None

    async def boot(self, firmware=None):
        station = {"model": "Peer", "vendor_name": "PyPI"}
        if firmware is not None:
            station["firmware_version"] = firmware
        answer = await self.call(self.calls.BootNotification(charging_station=station, reason="PowerUp"))
        return {"status": answer.status, "interval": answer.interval}

    async def heartbeat(self):
        answer = await self.call(self.calls.Heartbeat())
        return {"time": answer.current_time}

    async def authorize(self, tag):
        answer = await self.call(self.calls.Authorize(id_token={"id_token": tag, "type": "ISO14443"}))
        return {"status": answer.id_token_info["status"]}

    async def report(self, status):
        status = {"Available": "Available", "Charging": "Occupied"}[status]
        await self.call(
            self.calls.StatusNotification(timestamp=now(), connector_status=status, evse_id=1, connector_id=1)
        )
        return {}

    async def event(self, kind, trigger, value, timestamp, **more):
        return await self.call(
            self.calls.TransactionEvent(
                event_type=kind,
                timestamp=timestamp,
                trigger_reason=trigger,
                seq_no=self.sequence,
                transaction_info={"transaction_id": self.transaction},
                meter_value=[
                    {
                        "timestamp": timestamp,
                        "sampled_value": [{"value": value, "measurand": "Energy.Active.Import.Register"}],
                    }
                ],
                **more,
            )
        )

    async def start(self, tag, meter, timestamp):
        # The same start again is the same event again.
        if self.started != timestamp:
            self.started, self.transaction, self.sequence = timestamp, str(uuid.uuid4()), 0
        answer = await self.event(
            "Started",
            "Authorized",
            meter,
            timestamp,
            evse={"id": 1, "connector_id": 1},
            id_token={"id_token": tag, "type": "ISO14443"},
        )
        return {"transaction": self.transaction, "status": answer.id_token_info["status"]}

    async def meter(self, value, timestamp):
        self.sequence += 1
        await self.event("Updated", "MeterValuePeriodic", value, timestamp)
        return {}

    async def stop(self, meter, timestamp):
        self.sequence += 1
        await self.event("Ended", "StopAuthorized", meter, timestamp)
        return {}


class Driver21(Driver201):
    station_class = Station21
    calls = call21


REQUESTS = ["act", "connect", "misbehave", "drop", "say", "answer", "boot", "heartbeat", "authorize", "report", "start", "meter", "stop"]


async def main():
    driver = {"1.6": Driver16, "2.0.1": Driver201, "2.1": Driver21}[sys.argv[1]]()
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
