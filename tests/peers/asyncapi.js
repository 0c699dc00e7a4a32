// Judges docs/asyncapi.yaml by the official schema of AsyncAPI 3.0, and what travels on a bus over NATS by the document.
//
// Prints {"faults": […], "addresses": {…}, "headers": […]} of the document. With a URL and a namespace it listens instead, says
// {"event": "ready"}, and tells on each line of input what it saw: {"done": "seen", "kinds": {…}, "faults": […]}.
//
// Usage: asyncapi.js FILE [NATS-URL NAMESPACE]
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const Ajv = require("ajv").default;
const yaml = require("js-yaml");
const schema = require("@asyncapi/specs/schemas/3.0.0.json");
const { connect } = require("nats");

const [file, url, namespace] = process.argv.slice(2);
const document = yaml.load(fs.readFileSync(file, "utf8"));
const say = (what) => console.log(JSON.stringify(what));

function unresolved(value, path, faults) {
  if (Array.isArray(value)) {
    value.forEach((one, index) => unresolved(one, `${path}/${index}`, faults));
  } else if (value && typeof value === "object") {
    if (typeof value.$ref === "string") {
      const parts = value.$ref.replace(/^#\//, "").split("/");
      if (parts.reduce((found, part) => found?.[part], document) === undefined) {
        faults.push(`${path}: ${value.$ref} leads nowhere`);
      }
    }
    Object.entries(value).forEach(([name, one]) => unresolved(one, `${path}/${name}`, faults));
  }
  return faults;
}

function judgeDocument() {
  // Ajv has this one of its own.
  delete schema.definitions["http://json-schema.org/draft-07/schema"];
  const judge = new Ajv({ strict: false, allErrors: true, validateFormats: false, unicodeRegExp: false }).compile(schema);
  const faults = judge(document) ? [] : judge.errors.map((error) => `${error.instancePath} ${error.message}`);
  return unresolved(document, "", faults);
}

const { channels, components } = document;
const addresses = {};
for (const [name, { address }] of Object.entries(channels)) {
  (addresses[name.split("-")[0]] ??= {})[name.split("-")[1]] = address;
}
const headers = new Set(["ocpp-kind"]);
for (const message of Object.values(components.messages)) {
  Object.keys(message.headers.properties).forEach((name) => headers.add(name));
}
if (!url) {
  say({ faults: judgeDocument(), addresses, headers: [...headers].sort() });
}

// Each message's own schemas, with all that they refer to.
const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema({ $id: "doc", components }, "doc");
const whole = (part) => JSON.parse(JSON.stringify(part).replaceAll('"#/components', '"doc#/components'));
const kinds = {};
for (const [name, message] of Object.entries(components.messages)) {
  kinds[message.headers.properties["ocpp-kind"].const] = {
    name,
    headers: ajv.compile({ ...whole(message.headers), additionalProperties: false }),
    payload: ajv.compile(whole(message.payload)),
  };
}

function judgeMessage(message, faults) {
  const plain = {};
  for (const [name, values] of message.headers ?? []) {
    plain[name] = decodeURIComponent(values[0]);
    if (values.length > 1) {
      faults.push(`${name} occurs twice`);
    }
  }
  const kind = kinds[plain["ocpp-kind"]];
  if (kind === undefined) {
    // Who asks for the owner of an inbox sends nothing, and the server's own word has a status.
    return message.headers?.code || message.subject.endsWith(".owner") || !message.headers ? null : "unknown";
  }
  const body = message.string();
  const payload = kind.name === "presence" || body === "" ? body : JSON.parse(body);
  const where = `${kind.name} on ${message.subject}`;
  for (const [what, judge] of [[plain, kind.headers], [payload, kind.payload]]) {
    if (!judge(what)) {
      faults.push(`${where}: ${JSON.stringify(what)}: ${ajv.errorsText(judge.errors)}`);
    }
  }
  const fits = Object.entries(addresses.nats).some(([channel, address]) => {
    const pattern = address.replace("{namespace}", namespace).replaceAll(".", "\\.").replace(/\{\w+\}/g, "[\\w~%-]+");
    // What answers a request goes to a subject below the inbox.
    const below = channel === "inbox" ? "(\\..+)?" : "";
    return new RegExp(`^${pattern}${below}$`).test(message.subject) && channels[`nats-${channel}`].messages[kind.name];
  });
  if (!fits) {
    faults.push(`${where}: no channel of the document is this`);
  }
  return plain["ocpp-kind"];
}

async function listen() {
  const bus = await connect({ servers: url });
  const seen = {};
  const faults = [];
  bus.subscribe(`ocpp.v1.${namespace}.>`, {
    callback: (error, message) => {
      const kind = error ? "error" : judgeMessage(message, faults);
      if (kind !== null) {
        seen[kind] = (seen[kind] ?? 0) + 1;
      }
    },
  });
  await bus.flush();
  say({ event: "ready" });
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await bus.flush();
    say({ done: "seen", kinds: seen, faults: faults.slice(0, 20) });
  }
}

if (url) {
  listen();
}
