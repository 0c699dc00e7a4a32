"""A worker over RabbitMQ: takes calls of stations, answers them, and sends commands. Needs pika and ocpp.

    python worker_rabbitmq.py amqp://guest:guest@127.0.0.1/%2f --database books.db

Each line on standard input is a command, as in `CP1 Reset {"type":"Soft"}`; its outcome is a line on standard output.
"""

import argparse
import functools
import logging
import signal
import time

import pika
from pika.exceptions import AMQPError

import central
from contract import BEAT_SECONDS, COMMAND_SECONDS, IN_HAND_MAX, Memory, Worker, obey_lines, token


class Session:
    """One connection to the broker, and everything that is made anew with it."""

    def __init__(self, options, worker):
        self.worker = worker
        self.root = f"ocpp.v1.{options.namespace}"
        self.connection = pika.BlockingConnection(pika.URLParameters(options.url))
        self.channel = self.connection.channel()
        self.is_stopping = False
        names = {"call.any": "fanout", "call": "direct", "presence": "fanout", "event": "topic"}
        for name, kind in names.items():
            # What nobody has bound by its partition goes to the queue of all workers.
            more = {"alternate-exchange": f"{self.root}.call.any"} if name == "call" else None
            self.channel.exchange_declare(f"{self.root}.{name}", kind, arguments=more)
        # Not durable, and gone with its last consumer: then calls are returned, and gateways know at once.
        workers = f"{self.root}.call.workers"
        self.channel.queue_declare(workers, auto_delete=True)
        self.channel.queue_bind(workers, f"{self.root}.call.any")
        inbox = f"{self.root}.inbox.{token(worker.name)}"
        self.channel.queue_declare(inbox, exclusive=True, auto_delete=True)
        # Without it the broker would give us all there is, and others nothing.
        self.channel.basic_qos(prefetch_count=IN_HAND_MAX)
        self.channel.add_on_return_callback(self.returned)
        self.channel.basic_consume(inbox, self.hear, auto_ack=True)
        # Never auto_ack: the broker gives to others what a dead worker has not acknowledged.
        self.channel.basic_consume(workers, self.take, auto_ack=False, consumer_tag="calls")
        self.beat()

    def take(self, _channel, delivery, properties, body):
        told = self.worker.take(properties.headers, body)
        # Answers are made by a thread of their own, and go out from this one.
        answer = functools.partial(self.answer, delivery.delivery_tag, properties.reply_to)
        told.add_done_callback(lambda told: self.soon(functools.partial(answer, told.result())))

    def answer(self, tag, queue, told):
        if told is not None and queue:
            headers, body = told
            self.publish("", queue, headers, body)
        # After the answer, or a crash between the two would lose both.
        self.channel.basic_ack(tag)

    def hear(self, _channel, _delivery, properties, body):
        self.worker.hear(properties.headers, body)

    def returned(self, _channel, _method, properties, _body):
        """No such queue: there is no gateway."""
        self.worker.ended(properties.headers.get("ocpp-command-id"), "offline")

    def send(self, station, action, payload):
        headers, body, outcome = self.worker.command(station, action, payload)
        self.soon(lambda: self.publish("", f"{self.root}.command", headers, body, mandatory=True))
        return outcome

    def beat(self, is_last=False):
        headers, body = self.worker.presence(is_last)
        self.publish(f"{self.root}.presence", "", headers, body)
        if not is_last:
            self.connection.call_later(BEAT_SECONDS, self.beat)

    def publish(self, exchange, key, headers, body, mandatory=False):
        # Nothing matters for longer.
        properties = pika.BasicProperties(headers=headers, expiration=str(COMMAND_SECONDS * 1000))
        self.channel.basic_publish(exchange, key, body, properties, mandatory)

    def soon(self, what):
        try:
            self.connection.add_callback_threadsafe(what)
        except AMQPError as error:
            # The broker gives the call to the next one.
            logging.warning("lost with its connection: %s", error)

    def stop(self):
        """Takes no more calls, answers those in hand, and says goodbye."""
        self.is_stopping = True
        self.channel.basic_cancel("calls")
        self.worker.pool.submit(lambda: self.soon(self.end))

    def end(self):
        self.beat(is_last=True)
        self.connection.close()


def main(options):
    memory = Memory(options.database)
    memory.books.executescript(central.TABLES)
    worker = Worker(memory, central.answer)
    session = None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: session.soon(session.stop) if session else exit())
    obey_lines(lambda *command: session.send(*command))
    while session is None or not session.is_stopping:
        try:
            session = Session(options, worker)
            session.channel.start_consuming()
        except (AMQPError, OSError) as error:
            if session is None or not session.is_stopping:
                logging.warning("the broker is away: %r", error)
                time.sleep(0.5)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A worker over RabbitMQ.")
    arguments.add_argument("url")
    arguments.add_argument("--namespace", default="default", help="that of the gateways")
    arguments.add_argument("--database", default="books.db", help="a file of SQLite, shared by all workers of this host")
    main(arguments.parse_args())
