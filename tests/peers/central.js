// A central system made of npm's `ocpp-rpc`, driven line by line as central.py is. Its strict mode checks all that it
// sends and receives against the official schemas.
//
// Usage: NODE_PATH=…/node_modules node central.js 1.6|2.0.1
"use strict";

const readline = require("readline");
const { RPCServer, createRPCError } = require("ocpp-rpc");

const version = process.argv[2];
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const now = () => new Date().toISOString();
const wishes = { boot: ["Accepted"], interval: 300, refuse: 0 };
const numbers = new Map();
const stations = new Map();

const maybeRefuse = () => {
  if (wishes.refuse > 0) {
    wishes.refuse -= 1;
    throw createRPCError("InternalError", "as the test wished");
  }
};

const answers = {
  BootNotification: () => ({
    currentTime: now(),
    interval: wishes.interval,
    status: wishes.boot.length > 1 ? wishes.boot.shift() : wishes.boot[0],
  }),
  Heartbeat: () => ({ currentTime: now() }),
  StatusNotification: () => ({}),
  Authorize: () =>
    version === "1.6" ? { idTagInfo: { status: "Accepted" } } : { idTokenInfo: { status: "Accepted" } },
  MeterValues: () => {
    maybeRefuse();
    return {};
  },
  StartTransaction: ({ connectorId, idTag, meterStart, timestamp }) => {
    maybeRefuse();
    const key = JSON.stringify([connectorId, idTag, meterStart, timestamp]);
    if (!numbers.has(key)) numbers.set(key, 1000 + numbers.size);
    return { transactionId: numbers.get(key), idTagInfo: { status: "Accepted" } };
  },
  StopTransaction: () => {
    maybeRefuse();
    return {};
  },
  TransactionEvent: () => {
    maybeRefuse();
    return {};
  },
};

const server = new RPCServer({ protocols: ["ocpp" + version], strictMode: true });
server.auth((accept) => accept({}));
server.on("client", (client) => {
  const station = client.identity;
  stations.set(station, client);
  say({ event: "connected", station, protocol: client.protocol });
  client.on("strictValidationFailure", ({ error }) => say({ event: "invalid", error: String(error) }));
  client.on("badMessage", ({ error }) => say({ event: "invalid", error: String(error) }));
  client.on("close", ({ code }) => say({ event: "closed", station, code }));
  client.handle(({ method, params }) => {
    say({ event: "called", station, action: method, payload: params });
    if (!answers[method]) throw createRPCError("NotImplemented");
    return answers[method](params);
  });
});

const requests = {
  async wish(wanted) {
    Object.assign(wishes, wanted);
    return {};
  },
  async drop({ station }) {
    // Without a word, as a line that breaks.
    stations.get(station)._ws.terminate();
    return {};
  },
  async call({ station, action, payload }) {
    return { answer: await stations.get(station).call(action, payload) };
  },
};

const handle = async (line) => {
  const { do: name, ...rest } = JSON.parse(line);
  try {
    say({ done: name, ...(await requests[name](rest)) });
  } catch (error) {
    say({ failed: name, error: String(error), code: error.rpcErrorCode || "lost" });
  }
};

server.listen(0, "127.0.0.1").then((http) => say({ event: "listening", port: http.address().port }));
let last = Promise.resolve();
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  last = last.then(() => handle(line));
}).on("close", () => process.exit(0));
