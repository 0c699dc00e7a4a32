"""A function in the style of those behind AWS IoT Core's rules: a message of a station comes as an event, and the
function publishes its answer itself. Nothing here knows of Switchboard.

The event is {"station": NAME, "message": [2, id, action, payload]}. `publish(topic, text)` stands for the data plane.
"""

import json
import threading
from datetime import datetime, timezone

# What a database would keep.
counts = {"boots": 0, "calls": 0}
transactions = {}
lock = threading.Lock()


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def boot_notification(station, payload):
    counts["boots"] += 1
    return {"currentTime": now(), "interval": 300, "status": "Accepted"}


def start_transaction(station, payload):
    number = len(transactions) + 1
    transactions[number] = {"station": station, "started": payload["meterStart"], "stopped": None}
    return {"transactionId": number, "idTagInfo": {"status": "Accepted"}}


def stop_transaction(station, payload):
    transactions[payload["transactionId"]]["stopped"] = payload["meterStop"]
    return {}


ANSWERS = {
    "BootNotification": boot_notification,
    "Heartbeat": lambda station, payload: {"currentTime": now()},
    "Authorize": lambda station, payload: {"idTagInfo": {"status": "Accepted"}},
    "StatusNotification": lambda station, payload: {},
    "MeterValues": lambda station, payload: {},
    "DataTransfer": lambda station, payload: {"status": "Accepted", "data": str(counts["calls"])},
    "StartTransaction": start_transaction,
    "StopTransaction": stop_transaction,
}


def handler(event, publish):
    station = event["station"]
    kind, message_id, action, payload = event["message"]
    with lock:
        counts["calls"] += 1
        answer = ANSWERS.get(action)
        if answer is None:
            reply = [4, message_id, "NotImplemented", "", {}]
        else:
            reply = [3, message_id, answer(station, payload)]
    publish(f"{station}/out", json.dumps(reply))
