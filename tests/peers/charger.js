// A charging station made of npm's `ocpp-rpc`, driven line by line as charger.py is. Its strict mode checks all that it
// sends and receives against the official schemas.
//
// Usage: NODE_PATH=…/node_modules node charger.js 1.6
"use strict";

const readline = require("readline");
const { RPCClient, createRPCError } = require("ocpp-rpc");

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const now = () => new Date().toISOString();

let client = null;
let transaction = null;
let hangs = false;

const requests = {
  async connect({ url, protocols, password, user }) {
    const [, endpoint, identity] = url.match(/^(.*)\/([^/]*)$/);
    const known = protocols.every((protocol) => protocol === "ocpp1.6");
    client = new RPCClient({
      endpoint,
      identity: decodeURIComponent(identity),
      protocols,
      // Strict mode refuses to start with protocols that it has no schemas for.
      strictMode: known,
      reconnect: false,
      callTimeoutMs: 30000,
      ...(password === undefined ? {} : user === undefined ? { password } : {
        headers: { authorization: "Basic " + Buffer.from(`${user}:${password}`).toString("base64") },
      }),
    });
    client.on("close", ({ code, reason }) => say({ event: "closed", code, reason: String(reason) }));
    client.on("strictValidationFailure", ({ error }) => say({ event: "invalid", error: String(error) }));
    client.on("badMessage", ({ error }) => say({ event: "invalid", error: String(error) }));
    client.handle("RemoteStartTransaction", ({ params }) => {
      say({ event: "called", action: "RemoteStartTransaction", tag: params.idTag });
      return { status: "Accepted" };
    });
    client.handle("RemoteStopTransaction", ({ params }) => {
      say({ event: "called", action: "RemoteStopTransaction", transaction: params.transactionId });
      return { status: params.transactionId === transaction ? "Accepted" : "Rejected" };
    });
    client.handle("GetConfiguration", () => ({
      configurationKey: [{ key: "HeartbeatInterval", readonly: false, value: "300" }],
    }));
    client.handle("Reset", () => {
      say({ event: "called", action: "Reset" });
      return hangs ? new Promise(() => {}) : { status: "Accepted" };
    });
    client.handle(() => {
      throw createRPCError("NotImplemented");
    });
    try {
      await client.connect();
    } catch (error) {
      if (error.code === undefined || !(error.code >= 300)) throw error;
      return { status: error.code };
    }
    return { status: 101, protocol: client.protocol };
  },
  async misbehave() {
    hangs = true;
    return {};
  },
  // The line is cut: no close frame, no goodbye.
  async drop() {
    const closed = new Promise((resolve) => client.once("close", resolve));
    client._ws.terminate();
    await closed;
    return {};
  },
  async boot() {
    const answer = await client.call("BootNotification", { chargePointModel: "Peer", chargePointVendor: "npm" });
    return { status: answer.status, interval: answer.interval };
  },
  async heartbeat() {
    return { time: (await client.call("Heartbeat", {})).currentTime };
  },
  async authorize({ tag }) {
    return { status: (await client.call("Authorize", { idTag: tag })).idTagInfo.status };
  },
  async report({ status }) {
    await client.call("StatusNotification", { connectorId: 1, errorCode: "NoError", status, timestamp: now() });
    return {};
  },
  async start({ tag, meter, timestamp }) {
    const answer = await client.call("StartTransaction", {
      connectorId: 1,
      idTag: tag,
      meterStart: meter,
      timestamp,
    });
    transaction = answer.transactionId;
    return { transaction, status: answer.idTagInfo.status };
  },
  async meter({ value, timestamp }) {
    const sampledValue = [{ value: String(value), measurand: "Energy.Active.Import.Register", unit: "Wh" }];
    await client.call("MeterValues", {
      connectorId: 1,
      transactionId: transaction,
      meterValue: [{ timestamp, sampledValue }],
    });
    return {};
  },
  async stop({ meter, timestamp }) {
    await client.call("StopTransaction", {
      transactionId: transaction,
      meterStop: meter,
      timestamp,
      reason: "Local",
    });
    return {};
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

// One after another, as the lines come.
let last = Promise.resolve();
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  last = last.then(() => handle(line));
}).on("close", () => process.exit(0));
