"""nats-py against a running server: publish, subscribe, queue, request, headers, drain."""

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
    await client.drain()
    print("nats-py: ok")


asyncio.run(main(sys.argv[1]))
