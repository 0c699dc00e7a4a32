"""A worker over MQTT 5: takes calls of stations, answers them, and sends commands. Needs paho-mqtt 2 and ocpp.

    python worker_mqtt.py mqtt://127.0.0.1:1883 --database books.db

Each line on standard input is a command, as in `CP1 Reset {"type":"Soft"}`; its outcome is a line on standard output.
"""

import argparse
import functools
import signal
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import central
from contract import BEAT_SECONDS, COMMAND_SECONDS, IN_HAND_MAX, Memory, Worker, decoded, encoded, obey_lines, token

NOBODY_LISTENS = 0x10


class Participant:
    def __init__(self, options, worker):
        self.worker = worker
        self.root = f"ocpp/v1/{options.namespace}"
        self.inbox = f"{self.root}/inbox/{token(worker.name)}"
        self.calls = f"$share/workers/{self.root}/call/+/+/+"
        # Which connection this is: what came on an earlier one cannot be acknowledged on the next.
        self.connection = 0
        self.commands = {}
        self.publishing = threading.Lock()
        # Acknowledged by hand: when the answer is out, and not when the call came in.
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=worker.name, protocol=mqtt.MQTTv5, manual_ack=True
        )
        self.client.on_connect = self.connected
        self.client.on_message = self.message
        self.client.on_publish = self.published
        self.client.reconnect_delay_set(1, 1)
        place = urlsplit(options.url)
        if place.username:
            self.client.username_pw_set(place.username, place.password)
        # What the broker gives us at once. And no session that outlives the connection: in it a broker would keep calls
        # for a worker that is gone.
        connect = Properties(PacketTypes.CONNECT)
        connect.ReceiveMaximum = IN_HAND_MAX
        self.client.connect_async(place.hostname, place.port or 1883, keepalive=10, clean_start=True, properties=connect)
        self.client.loop_start()

    def connected(self, client, _data, _flags, reason, _properties):
        self.connection += 1
        if not reason.is_failure:
            client.subscribe([(self.calls, 1), (self.inbox, 1)])

    def message(self, client, _data, message):
        headers = decoded(dict(getattr(message.properties, "UserProperty", [])))
        acknowledge = functools.partial(self.acknowledge, self.connection, message)
        if message.topic.startswith(f"{self.root}/call/"):
            told = self.worker.take(headers, message.payload)
            told.add_done_callback(lambda told: self.answer(message, told.result(), acknowledge))
        else:
            # A message with nothing in it asks whether this inbox has an owner.
            self.worker.hear(headers, message.payload)
            acknowledge()

    def answer(self, message, told, acknowledge):
        topic = getattr(message.properties, "ResponseTopic", None)
        if told is not None and topic:
            self.publish(topic, *told)
        acknowledge()

    def acknowledge(self, connection, message):
        if connection == self.connection:
            self.client.ack(message.mid, message.qos)

    def send(self, station, action, payload):
        headers, body, outcome = self.worker.command(station, action, payload)
        id = headers["ocpp-command-id"]
        if not self.client.is_connected():
            # The library would send it when the broker is back, when nobody expects it any more.
            self.worker.ended(id, "not-sent")
        else:
            with self.publishing:
                sent = self.publish(f"{self.root}/command/default/{token(station)}", headers, body)
                self.commands[sent.mid] = id
        return outcome

    def published(self, _client, _data, mid, reason, _properties):
        with self.publishing:
            id = self.commands.pop(mid, None)
        if id is not None and reason.value == NOBODY_LISTENS:
            self.worker.ended(id, "offline")

    def beat(self, is_last=False):
        if self.client.is_connected():
            self.publish(f"{self.root}/presence", *self.worker.presence(is_last))

    def publish(self, topic, headers, body):
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = list(encoded(headers).items())
        # Nothing matters for longer.
        properties.MessageExpiryInterval = COMMAND_SECONDS
        return self.client.publish(topic, body, qos=1, properties=properties)

    def stop(self):
        """Takes no more calls, answers those in hand, and says goodbye."""
        self.client.unsubscribe(self.calls)
        self.worker.pool.shutdown()
        self.beat(is_last=True)
        self.client.disconnect()
        self.client.loop_stop()


def main(options):
    memory = Memory(options.database)
    memory.books.executescript(central.TABLES)
    participant = Participant(options, Worker(memory, central.answer))
    obey_lines(participant.send)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(BEAT_SECONDS):
        participant.beat()
    participant.stop()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A worker over MQTT 5.")
    arguments.add_argument("url")
    arguments.add_argument("--namespace", default="default", help="that of the gateways")
    arguments.add_argument("--database", default="books.db", help="a file of SQLite, shared by all workers of this host")
    main(arguments.parse_args())
