// Stations over npm's `ws` that offer compression in all the ways that it can.
//
// Usage: compressed.js URL      (of the server, with /ocpp/ at its end). Prints `ok` for each way.

const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const WebSocket = require('ws');

const url = process.argv[2];
const ways = {
  default: true,
  'all of it': { threshold: 0 },
  'small window of the client': { threshold: 0, clientMaxWindowBits: 9 },
  'small window of the server': { threshold: 0, serverMaxWindowBits: 9 },
  'no window kept by the server': { threshold: 0, serverNoContextTakeover: true },
  'no window kept by the client': { threshold: 0, clientNoContextTakeover: true },
};

function ask(socket, number, action, payload) {
  return new Promise((resolve, reject) => {
    socket.once('message', (data) => {
      const answer = JSON.parse(data.toString());
      try {
        assert.deepStrictEqual(answer.slice(0, 2), [3, String(number)]);
        resolve(answer[2]);
      } catch (error) {
        reject(error);
      }
    });
    socket.once('close', (code, reason) => reject(new Error(`closed with ${code} ${reason}`)));
    socket.send(JSON.stringify([2, String(number), action, payload]));
  });
}

async function one(name, perMessageDeflate) {
  const socket = new WebSocket(url + 'JS-' + name.replaceAll(' ', '-'), ['ocpp1.6'], { perMessageDeflate });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  assert.match(socket.extensions, /permessage-deflate/, name);
  const boot = await ask(socket, 1, 'BootNotification', { chargePointVendor: 'V', chargePointModel: 'M' });
  assert.strictEqual(boot.status, 'Accepted');
  const sampledValue = Array.from({ length: 50 }, (_, n) => ({ value: String(n), measurand: 'Voltage', unit: 'V' }));
  const meterValue = [{ timestamp: '2026-01-01T00:00:00Z', sampledValue }];
  for (const number of [2, 3, 4]) {
    assert.deepStrictEqual(await ask(socket, number, 'MeterValues', { connectorId: 1, meterValue }), {});
  }
  for (const data of ['x'.repeat(1_000_000), randomBytes(500_000).toString('hex')]) {
    const answer = await ask(socket, 5, 'DataTransfer', { vendorId: 'x', data });
    assert.strictEqual(answer.status, 'UnknownVendorId');
  }
  socket.removeAllListeners('close');
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.close(1000);
  assert.strictEqual(await closed, 1000);
  console.log('ok', name);
}

(async () => {
  for (const [name, options] of Object.entries(ways)) await one(name, options);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
