// The server of the benchmark made of npm's `ocpp-rpc`, as its documentation shows it. Its strict mode checks each
// request and each answer against the official schemas.
"use strict";

const { RPCServer, createRPCError } = require("ocpp-rpc");

const now = () => new Date().toISOString();
const answers = {
  BootNotification: () => ({ currentTime: now(), interval: 300, status: "Accepted" }),
  Heartbeat: () => ({ currentTime: now() }),
  StartTransaction: () => ({ transactionId: 170042, idTagInfo: { status: "Accepted" } }),
  MeterValues: () => ({}),
  StatusNotification: () => ({}),
};

const server = new RPCServer({ protocols: ["ocpp1.6"], strictMode: true });
server.auth((accept) => accept({}));
server.on("client", (client) => {
  client.handle(({ method, params }) => {
    if (!answers[method]) throw createRPCError("NotImplemented");
    return answers[method](params);
  });
});
server.listen(0, "127.0.0.1").then((http) => {
  process.stdout.write(`listening 127.0.0.1:${http.address().port}\n`);
});
