// A worker over NATS in plain JavaScript: takes calls of stations, answers them, and sends commands. Needs npm's `nats`.
//
//     node worker_nats.js nats://127.0.0.1:4222 --database books.jsonl
//
// Each line on standard input is a command, as in `CP1 Reset {"type":"Soft"}`; its outcome is a line on standard output.
// The contract with the gateways is docs/contract.md.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const { parseArgs } = require("node:util");
const { randomUUID } = require("node:crypto");
const { connect, headers: newHeaders } = require("nats");

const BEAT_MS = 500;
const IN_HAND_MAX = 64;
const COMMAND_MS = 30_000;

// Headers of NATS carry printable ASCII: everything else in a value is percent-encoded.
function encoded(headers) {
  const message = newHeaders();
  for (const [name, value] of Object.entries(headers)) {
    message.set(name, value.replace(/[^\x21-\x24\x26-\x7e]/gu, encodeURIComponent));
  }
  return message;
}

function decoded(headers) {
  const plain = {};
  for (const [name, values] of headers ?? []) {
    plain[name.toLowerCase()] = decodeURIComponent(values[0]);
  }
  return plain;
}

// A name as part of a subject. encodeURIComponent spares six characters, of which the dot separates the parts.
function token(name) {
  const hex = (character) => "%" + character.charCodeAt(0).toString(16).toUpperCase();
  return encodeURIComponent(name).replace(/[.!*'()]/g, hex);
}

// Exactly-once: what calls have done and what was answered is one line of a file, so that either both are there after a
// crash or neither. With a database it is one transaction. The file belongs to one process.
class Memory {
  answers = new Map(); // station → Map of "generation seq" → frame
  highest = new Map(); // station → [generation, seq]
  transactions = [];

  constructor(path) {
    const text = fs.existsSync(path) ? fs.readFileSync(path, "utf8") : "";
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    for (const line of whole.split("\n").filter(Boolean)) {
      this.apply(JSON.parse(line));
    }
    this.file = fs.openSync(path, "a");
    // A line that a crash cut off never happened.
    fs.ftruncateSync(this.file, Buffer.byteLength(whole));
  }

  apply({ station, generation, seq, answer, effect }) {
    if (!this.answers.has(station)) {
      this.answers.set(station, new Map());
    }
    this.answers.get(station).set(`${generation} ${seq}`, answer);
    if (isLater([generation, seq], this.highest.get(station))) {
      this.highest.set(station, [generation, seq]);
    }
    if (effect?.started) {
      this.transactions.push(effect.started);
    } else if (effect?.stopped) {
      Object.assign(this.transactions[effect.stopped.id - 1] ?? {}, effect.stopped);
    }
  }

  // What `decide` says the first time, and the same again each time after. Null is silence: a later call of the station
  // has been dealt with, so that nobody waits for this one.
  once(call, decide) {
    const { station, generation, seq } = call;
    const known = this.answers.get(station)?.get(`${generation} ${seq}`);
    if (known !== undefined) {
      return known;
    }
    if (!call.isJournalled && isLater(this.highest.get(station), [generation, seq])) {
      return null;
    }
    const { payload, effect } = decide();
    const done = { station, generation, seq, answer: JSON.stringify([3, call.id, payload]), effect };
    fs.writeSync(this.file, JSON.stringify(done) + "\n");
    fs.fsyncSync(this.file);
    this.apply(done);
    return done.answer;
  }
}

function isLater(one, other) {
  return one !== undefined && (other === undefined || one[0] > other[0] || (one[0] === other[0] && one[1] > other[1]));
}

// What calls of OCPP 1.6 mean: the payload of the answer, and the effect.
const ACCEPTED = { status: "Accepted" };
const HANDLERS = {
  BootNotification: () => ({ payload: { currentTime: new Date().toISOString(), interval: 300, ...ACCEPTED } }),
  Heartbeat: () => ({ payload: { currentTime: new Date().toISOString() } }),
  Authorize: () => ({ payload: { idTagInfo: ACCEPTED } }),
  StatusNotification: () => ({ payload: {} }),
  MeterValues: () => ({ payload: {} }),
  StartTransaction(memory, { station }, { connectorId, idTag, timestamp, meterStart }) {
    // The key of a call does not know a station that got no answer and sends the same again, as a new call.
    const key = JSON.stringify([station, connectorId, timestamp, idTag]);
    const found = memory.transactions.find((one) => one.key === key);
    const id = found?.id ?? memory.transactions.length + 1;
    return {
      payload: { transactionId: id, idTagInfo: ACCEPTED },
      effect: found ? undefined : { started: { id, key, meterStart } },
    };
  },
  StopTransaction: (_memory, _call, { transactionId, meterStop, timestamp }) => ({
    payload: {},
    effect: { stopped: { id: transactionId, meterStop, timestamp } },
  }),
};

// The answer to a call: its frame, or null for silence.
function answer(memory, headers, body) {
  const [, id, action, payload] = JSON.parse(body);
  const call = {
    id,
    station: `${headers["ocpp-tenant"] ?? "default"}/${headers["ocpp-station"]}`,
    // Milliseconds and counters: below 2^53.
    generation: Number(headers["ocpp-generation"]),
    seq: Number(headers["ocpp-seq"]),
    isJournalled: "ocpp-journal" in headers,
  };
  if (headers["ocpp-kind"] === "send") {
    return ""; // has no answer, and is acknowledged by an empty one
  }
  if (headers["ocpp-version"] !== "1.6" || !Object.hasOwn(HANDLERS, action)) {
    return JSON.stringify([4, id, "NotImplemented", "", {}]);
  }
  return memory.once(call, () => HANDLERS[action](memory, call, payload));
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      namespace: { type: "string", default: "default" },
      database: { type: "string", default: "books.jsonl" },
    },
  });
  const memory = new Memory(values.database);
  const name = `node-${randomUUID()}`;
  const root = `ocpp.v1.${values.namespace}`;
  const bus = await connect({ servers: positionals[0], maxReconnectAttempts: -1, reconnectTimeWait: 500 });
  const inHand = new Map();
  const waiting = new Map();
  const own = { "ocpp-envelope": "1", "ocpp-worker": name };

  function take(message) {
    const headers = decoded(message.headers);
    const key = ["tenant", "station", "generation", "seq"].map((part) => headers[`ocpp-${part}`]).join("\t");
    inHand.set(key, true);
    let told = { ...headers, ...own, "ocpp-kind": "answer" };
    let frame = null;
    try {
      if (inHand.size > IN_HAND_MAX) {
        throw new Error("too much in hand");
      }
      frame = answer(memory, headers, message.string());
      if (headers["ocpp-action"] === "BootNotification" && frame?.startsWith("[3")) {
        // Gateways understand no payloads: what may be sent to the station depends on this word.
        told["ocpp-registration"] = JSON.parse(frame)[2].status.toLowerCase();
      }
    } catch (error) {
      // Nothing was done: hand it over again, to whom you like, in a moment.
      console.error(error);
      told = { ...headers, "ocpp-kind": "returned", "ocpp-outcome": "busy" };
      frame = "";
    }
    inHand.delete(key);
    if (frame !== null) {
      // An answer carries the headers of its call, which name it. The reply subject is part of the gateway's inbox.
      bus.publish(message.reply, frame, { headers: encoded(told) });
    }
  }

  function end(id, told) {
    waiting.get(id)?.(told);
    waiting.delete(id);
  }

  function hear(message) {
    if (message.headers?.code === 503) {
      // The server's own word: there is no gateway.
      end(message.subject.split(".").at(-1), { outcome: "offline" });
      return;
    }
    const headers = decoded(message.headers);
    const body = message.string();
    if (["outcome", "returned"].includes(headers["ocpp-kind"])) {
      const outcome = headers["ocpp-outcome"];
      const frame = body ? JSON.parse(body) : [];
      const more = { answered: { payload: frame[2] }, refused: { code: frame[2], description: frame[3] } };
      end(headers["ocpp-command-id"], { outcome, ...more[outcome] });
    }
  }

  function command(station, action, payload) {
    const id = randomUUID();
    const headers = {
      "ocpp-envelope": "1",
      "ocpp-kind": "command",
      "ocpp-tenant": "default",
      "ocpp-station": station,
      "ocpp-action": action,
      "ocpp-command-id": id,
      "ocpp-reply-to": name,
      "ocpp-remaining-ms": String(COMMAND_MS),
    };
    const outcome = new Promise((resolve) => waiting.set(id, resolve));
    // Its gateway may have died with it: then nobody knows whether the station acted on it.
    setTimeout(() => end(id, { outcome: "unknown" }), 2 * COMMAND_MS + 5000).unref();
    bus.publish(`${root}.command.default.${token(station)}`, JSON.stringify([2, id, action, payload]), {
      headers: encoded(headers),
      reply: `${root}.inbox.${name}.command.${id}`,
    });
    return outcome;
  }

  function beat(body) {
    bus.publish(`${root}.presence`, body, { headers: encoded({ ...own, "ocpp-kind": "presence" }) });
  }

  function listen(subject, use, options) {
    const callback = (error, message) => {
      try {
        if (error) {
          throw error;
        }
        use(message);
      } catch (fault) {
        // Whoever may publish there can send anything; it is dropped.
        console.error(fault);
      }
    };
    return bus.subscribe(subject, { ...options, callback });
  }
  listen(`${root}.inbox.${name}`, hear);
  listen(`${root}.inbox.${name}.>`, hear);
  // One group: each call goes to one worker.
  const calls = listen(`${root}.call.>`, take, { queue: "workers" });
  const sayHere = () => beat([...inHand.keys()].map((key) => key + "\n").join(""));
  sayHere();
  const beating = setInterval(sayHere, BEAT_MS);
  process.once("SIGTERM", async () => {
    await calls.drain();
    clearInterval(beating);
    beat("end\n");
    await bus.drain();
    process.exit();
  });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [, station, action, payload] = line.match(/^(\S+)\s+(\S+)\s+(\{.*\})$/) ?? [];
    if (payload === undefined) {
      console.error('a command is STATION ACTION {"member": "value"}');
      continue;
    }
    console.log(JSON.stringify({ station, action, ...(await command(station, action, JSON.parse(payload))) }));
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
