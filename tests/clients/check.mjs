// @nats-io/transport-node (with @nats-io/nats-core) against a running server: publish, subscribe, queue, request,
// headers, drain.
import assert from "node:assert";
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
await connection.drain();
console.log("@nats-io/transport-node: ok");
