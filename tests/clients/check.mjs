// @nats-io/transport-node (with @nats-io/nats-core) against a running server: publish, subscribe, queue, request,
// headers, streams, key-value, objects, drain.
import assert from "node:assert";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { connect, headers } from "@nats-io/transport-node";

const connection = await connect({ servers: process.argv[2] });
const seen = [];
const shares = [0, 0];
let finish;
const finished = new Promise((resolve) => (finish = resolve));
const check = () => seen.length === 100 && shares[0] + shares[1] === 100 && finish();
connection.subscribe("orders.*", { callback: (_, message) => check(seen.push(message.string())) });
for (const index of [0, 1]) {
  connection.subscribe("orders.>", { queue: "workers", callback: () => check((shares[index] += 1)) });
}
await connection.flush();
for (let number = 0; number < 100; number++) connection.publish(`orders.${number}`, String(number));
await finished;
assert.deepStrictEqual(seen, Array.from({ length: 100 }, (_, number) => String(number)));
assert(shares.every((share) => share > 0), `${shares}`);

connection.subscribe("service", {
  callback: (_, message) => {
    const answer = headers();
    answer.set("Answer", "yes");
    message.respond(message.string().toUpperCase(), { headers: answer });
  },
});
const reply = await connection.request("service", "ping", { timeout: 5000 });
assert.strictEqual(reply.string(), "PING");
assert.strictEqual(reply.headers.get("Answer"), "yes");
await assert.rejects(connection.request("nobody.listens", "x", { timeout: 5000 }), /no responders/i);
const manager = await jetstreamManager(connection);
const js = jetstream(connection);
await manager.streams.add({ name: "NODE", subjects: ["node.>"] });
for (let number = 0; number < 100; number++) {
  const ack = await js.publish("node.orders", String(number));
  assert.strictEqual(ack.seq, number + 1);
}
await manager.consumers.add("NODE", { durable_name: "worker", ack_policy: "explicit" });
const consumer = await js.consumers.get("NODE", "worker");
const taken = [];
for await (const message of await consumer.fetch({ max_messages: 100, expires: 5000 })) {
  taken.push(message.string());
  assert.ok(await message.ackAck());
}
assert.deepStrictEqual(taken, seen);
const bucket = await new Kvm(js).create("node", { history: 3 });
const revision = await bucket.put("key", "1");
await bucket.update("key", "2", revision);
assert.strictEqual((await bucket.get("key")).string(), "2");
const objects = await new Objm(js).create("node");
const content = new Uint8Array(1024 * 1024).map((_, index) => index % 251);
await objects.putBlob({ name: "large" }, content);
assert.deepStrictEqual(await objects.getBlob("large"), content);
await manager.streams.delete("NODE");

await connection.drain();
console.log("@nats-io/transport-node: ok");
