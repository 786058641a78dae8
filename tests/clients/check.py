"""nats-py against a running server: publish, subscribe, queue, request, headers, streams, key-value, objects, drain."""

import asyncio
import sys

import nats
from nats.errors import NoRespondersError


async def main(url: str) -> None:
    client = await nats.connect(url)
    seen: list[str] = []
    done = asyncio.Event()

    async def collect(message) -> None:
        seen.append(message.data.decode())
        if len(seen) == 100:
            done.set()

    await client.subscribe("orders.*", cb=collect)
    shares = [0, 0]
    shared = asyncio.Event()

    def worker(index: int):
        async def count(_) -> None:
            shares[index] += 1
            if sum(shares) == 100:
                shared.set()

        return count

    await client.subscribe("orders.>", queue="workers", cb=worker(0))
    await client.subscribe("orders.>", queue="workers", cb=worker(1))
    await client.flush()
    for number in range(100):
        await client.publish(f"orders.{number}", str(number).encode())
    await asyncio.wait_for(asyncio.gather(done.wait(), shared.wait()), 10)
    assert seen == [str(number) for number in range(100)], seen
    assert all(shares), shares

    async def answer(message) -> None:
        await client.publish(message.reply, message.data.upper(), headers={"Answer": "yes"})

    await client.subscribe("service", cb=answer)
    reply = await client.request("service", b"ping", timeout=5)
    assert reply.data == b"PING" and reply.headers["Answer"] == "yes", reply
    try:
        await client.request("nobody.listens", b"x", timeout=5)
        raise AssertionError("somebody answered")
    except NoRespondersError:
        pass
    await streams(client.jetstream())
    await client.drain()
    print("nats-py: ok")


async def streams(js) -> None:
    await js.add_stream(name="PY", subjects=["py.>"])
    for number in range(100):
        ack = await js.publish("py.orders", str(number).encode())
        assert ack.seq == number + 1, ack
    duplicate = [await js.publish("py.once", b"x", headers={"Nats-Msg-Id": "1"}) for _ in range(2)][1]
    assert duplicate.duplicate, duplicate
    pull = await js.pull_subscribe("py.orders", "worker")
    taken = [message for _ in range(10) for message in await pull.fetch(10, timeout=5)]
    for message in taken:
        await message.ack_sync()
    assert [message.data for message in taken] == [str(number).encode() for number in range(100)]
    info = await js.consumer_info("PY", "worker")
    assert (info.num_pending, info.num_ack_pending) == (0, 0), info
    ordered = await js.subscribe("py.orders", ordered_consumer=True)
    for number in range(100):
        assert (await ordered.next_msg(timeout=5)).data == str(number).encode()

    bucket = await js.create_key_value(bucket="py", history=3)
    revision = await bucket.put("key", b"1")
    assert await bucket.update("key", b"2", last=revision) == revision + 1
    assert (await bucket.get("key")).value == b"2"
    watcher = await bucket.watchall()
    assert (await watcher.updates(timeout=5)).value == b"2"
    await bucket.delete("key")

    objects = await js.create_object_store("py")
    content = bytes(range(256)) * 4096
    await objects.put("large", content)
    assert (await objects.get("large")).data == content
    await js.delete_stream("PY")


asyncio.run(main(sys.argv[1]))
