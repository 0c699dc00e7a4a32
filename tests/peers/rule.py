"""A small emulator of an IoT rule on a broker of MQTT 3.1.1: each message on `+/in` invokes a function, at the same time
as others, as a cloud does. The function is function.py.

Driven line by line like charger.py. Requests: {"do": "hold"}: what functions publish is kept back from now on, and each
time told as the event "held"; {"do": "release", "number": N}: publishes the N-th that was kept; {"do": "flow"}: nothing
is kept any more; {"do": "command", "station", "action", "payload", "id"}: publishes a CALL to a station, and tells the
station's word; {"do": "counts"}: how often the function was invoked, and what it stored; {"do": "ids"}: the message ids
that came.

Usage: rule.py HOST:PORT
"""

import json
import queue
import sys
import threading
import uuid

import paho.mqtt.client as mqtt

import function

host, port = sys.argv[1].rsplit(":", 1)
printing = threading.Lock()
held = []
is_holding = False
ids = []
answers = queue.Queue()
subscribed = threading.Event()


def say(**what):
    with printing:
        print(json.dumps(what), flush=True)


def client(name):
    made = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311)
    return made


data_plane = client(f"function-{uuid.uuid4().hex[:8]}")


def publish(topic, text):
    if is_holding:
        held.append((topic, text))
        say(event="held", number=len(held) - 1)
    else:
        data_plane.publish(topic, text, qos=1)


def on_message(_client, _data, message):
    station = message.topic.rsplit("/", 1)[0]
    frame = json.loads(message.payload)
    ids.append(frame[1])
    if frame[0] == 2:
        event = {"station": station, "message": frame}
        threading.Thread(target=function.handler, args=(event, publish), daemon=True).start()
    else:
        answers.put(frame)


def on_connect(rule, _data, _flags, _reason, _properties):
    rule.subscribe("+/in", qos=1)


def on_subscribe(*_):
    subscribed.set()


def command(station, action, payload, id=None):
    message_id = id or str(uuid.uuid4())
    data_plane.publish(f"{station}/out", json.dumps([2, message_id, action, payload]), qos=1)
    frame = answers.get(timeout=60)
    assert frame[1] == message_id, frame
    return {"answer": frame}


def command_twice(station, action, payload):
    """The broker may bring a message twice."""
    text = json.dumps([2, "twice", action, payload])
    data_plane.publish(f"{station}/out", text, qos=1)
    data_plane.publish(f"{station}/out", text, qos=1)
    return {"answer": answers.get(timeout=60)}


def hold():
    global is_holding
    is_holding = True
    return {}


def flow():
    global is_holding
    is_holding = False
    return {}


def release(number):
    topic, text = held[number]
    data_plane.publish(topic, text, qos=1).wait_for_publish(60)
    return {}


def counts():
    return {"counts": function.counts, "transactions": list(function.transactions.values())}


REQUESTS = {
    "command": command,
    "command_twice": command_twice,
    "hold": hold,
    "flow": flow,
    "release": release,
    "counts": counts,
    "ids": lambda: {"ids": ids},
}

rule = client(f"rule-{uuid.uuid4().hex[:8]}")
rule.on_connect = on_connect
rule.on_subscribe = on_subscribe
rule.on_message = on_message
for each in (data_plane, rule):
    each.connect(host, int(port))
    each.loop_start()
assert subscribed.wait(60)
say(event="ready")
for line in sys.stdin:
    request = json.loads(line)
    name = request.pop("do")
    say(done=name, **REQUESTS[name](**request))
