"""A worker over NATS: takes calls of stations, answers them, and sends commands. Needs nats-py and ocpp.

    python worker_nats.py nats://127.0.0.1:4222 --database books.db

Each line on standard input is a command, as in `CP1 Reset {"type":"Soft"}`; its outcome is a line on standard output.
"""

import argparse
import asyncio
import logging
import signal

import nats

import central
from contract import BEAT_SECONDS, Memory, Worker, decoded, encoded, obey_lines, token


async def main(options):
    memory = Memory(options.database)
    memory.books.executescript(central.TABLES)
    worker = Worker(memory, central.answer)
    root = f"ocpp.v1.{options.namespace}"
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    async def complain(error):
        logging.warning("the server: %s", error or type(error).__name__)

    # Nothing is kept for later while the server is away: who waited for it has asked again by then.
    bus = await nats.connect(
        options.url, max_reconnect_attempts=-1, reconnect_time_wait=0.5, pending_size=0, error_cb=complain
    )

    async def take(message):
        told = await asyncio.wrap_future(worker.take(decoded(message.headers or {}), message.data))
        if told is not None and message.reply:
            headers, body = told
            try:
                # The reply subject of a request is part of the inbox of its gateway.
                await bus.publish(message.reply, body, headers=encoded(headers))
            except nats.errors.Error as error:
                # The gateway hands the call over again, and the answer is in the books.
                logging.warning("an answer was not carried: %s", error)

    async def hear(message):
        headers = message.headers or {}
        if headers.get("Status") == "503":
            # The server's own word: there is no gateway. The subject that it comes to ends with the command's id.
            worker.ended(message.subject.rsplit(".", 1)[1], "offline")
        else:
            worker.hear(decoded(headers), message.data)

    tasks = set()

    async def begin(message):
        # Taken at once, so that it is named in the next sign of life.
        task = asyncio.create_task(take(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await bus.subscribe(f"{root}.inbox.{worker.name}.>", cb=hear)
    await bus.subscribe(f"{root}.inbox.{worker.name}", cb=hear)
    # One group: each call goes to one worker.
    calls = await bus.subscribe(f"{root}.call.>", queue="workers", cb=begin)

    def send(station, action, payload):
        headers, body, outcome = worker.command(station, action, payload)
        subject = f"{root}.command.default.{token(station)}"
        reply = f"{root}.inbox.{worker.name}.command.{headers['ocpp-command-id']}"
        publishing = bus.publish(subject, body, reply=reply, headers=encoded(headers))
        asyncio.run_coroutine_threadsafe(publishing, loop).result()
        return outcome

    async def beat(is_last=False):
        headers, body = worker.presence(is_last)
        await bus.publish(f"{root}.presence", body, headers=encoded(headers))

    loop = asyncio.get_running_loop()
    obey_lines(send)
    while not stopped.is_set():
        try:
            await beat()
        except nats.errors.Error as error:
            logging.warning("a sign of life was not carried: %s", error)
        try:
            await asyncio.wait_for(stopped.wait(), BEAT_SECONDS)
        except asyncio.TimeoutError:
            pass
    try:
        await calls.unsubscribe()
        await asyncio.gather(*tasks)
        await beat(is_last=True)
    except nats.errors.Error as error:
        # The gateways find out by the silence.
        logging.warning("the last word was not carried: %s", error)
    await bus.close()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A worker over NATS.")
    arguments.add_argument("url")
    arguments.add_argument("--namespace", default="default", help="that of the gateways")
    arguments.add_argument("--database", default="books.db", help="a file of SQLite, shared by all workers of this host")
    asyncio.run(main(arguments.parse_args()))
