"""What the parts of handling a message cost our worker, without a broker: the profile.

    .venvs/bench/bin/python -m benchmarks.worker_parts [--profile async|sync]

Frames of deliveries come from memory, and acks go nowhere. CPU of the process, the best of several rounds;
each line does what the one above does, and more.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pamqp.frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from benchmarks.django_site import configure
from benchmarks.workload import Workload, encode

BODY = encode(Workload(way="consume", size=300).message)
MESSAGES, ROUNDS = 5000, 7
CHANNEL = 1
_ACK = 21  # bytes of its frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=["async", "sync"], help="print cProfile's view of the whole")
    options = parser.parse_args()
    configure("amqp://guest@localhost/", WORKER={"CONCURRENCY": 8})
    if options.profile:
        asyncio.run(_profiled(noop if options.profile == "sync" else anoop))
    else:
        asyncio.run(_show())


def noop(message: dict[str, Any]) -> None:
    """Do nothing, in a thread."""


async def anoop(message: dict[str, Any]) -> None:
    """Do nothing, on the loop."""


async def _show() -> None:
    above = 0.0
    for name, make in {
        "frames in, acks out": _frames,
        "a task for each, and what is remembered": _tasks,
        "FastStream, an async handler, nothing injected": _handled(anoop, apply_types=False),
        "the same, injected": _handled(anoop),
        "a sync handler in a thread": _handled(noop),
    }.items():
        cost = min([await _cost(make) for _ in range(ROUNDS)])
        print(f"{name:<50}{cost:>8.1f} us{cost - above:>+8.1f} us")
        above = cost


async def _profiled(handler: Callable[..., Any]) -> None:
    feed = await _handled(handler)()
    feed.fill(MESSAGES)
    await feed.run()
    feed.fill(4 * MESSAGES)
    with cProfile.Profile() as profile:
        await feed.run()
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)


async def _cost(make: Callable[[], Awaitable[Feed]]) -> float:
    """Return the microseconds of CPU a message."""
    feed = await make()
    feed.fill(MESSAGES // 10)
    await feed.run()
    feed.fill(MESSAGES)
    started = time.process_time()
    await feed.run()
    return (time.process_time() - started) / MESSAGES * 1e6


class Feed:
    """A broker in memory, and the channel of a subscriber that it delivers to."""

    def __init__(self, planned: Any, on_delivery: Callable[[Any], None]) -> None:
        from faststream_django.backends.rabbit.consuming_channel import WiredConsumingChannel
        from faststream_django.backends.rabbit.wire import Wire, _Tap

        self.number = CHANNEL
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wire = Wire()
        wire._transport = self  # type: ignore[assignment]  # noqa: SLF001
        self._tap = _Tap(wire)
        self._prefetch = planned.prefetch_count
        (subscription,) = planned.subscriptions
        channel = WiredConsumingChannel(self, planned, on_delivery, wire=wire)  # type: ignore[arg-type]
        channel._subscriptions[subscription.tag] = subscription  # noqa: SLF001
        self._tag = subscription.tag
        self._made = self._unacked = 0
        self._done: asyncio.Future[None]

    def fill(self, messages: int) -> None:
        """Have so many messages wait."""
        self._frames = deque(self._delivery(self._made + number) for number in range(1, messages + 1))
        self._made += messages

    async def run(self) -> None:
        """Deliver what waits, and wait for the acks."""
        self._unacked = len(self._frames)
        self._done = asyncio.get_running_loop().create_future()
        self._deliver(self._prefetch)
        await self._done

    # The transport

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        acks = len(data) // _ACK
        self._unacked -= acks
        if not self._unacked:
            self._done.set_result(None)
        elif self._frames:
            asyncio.get_running_loop().call_soon(self._deliver, acks)

    def _deliver(self, most: int) -> None:
        count = min(most, len(self._frames))
        self._tap.feed_data(b"".join(self._frames.popleft() for _ in range(count)))

    def _delivery(self, tag: int) -> bytes:
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            message_id=str(uuid4()),
            correlation_id=str(uuid4()),
            app_id="faststream_django",
        )
        parts = (
            Basic.Deliver(self._tag, tag, False, "", "orders"),  # noqa: FBT003
            ContentHeader(body_size=len(BODY), properties=properties),
            ContentBody(BODY),
        )
        return b"".join(pamqp.frame.marshal(part, CHANNEL) for part in parts)


async def _frames() -> Feed:
    planned, _ = await _subscribed(anoop)
    return Feed(planned, lambda delivery: delivery.ack())


async def _tasks() -> Feed:
    from faststream_django.worker.handling import Handling

    planned, _ = await _subscribed(anoop)
    (subscription,) = planned.subscriptions

    async def ack(message: Any) -> None:
        await message.ack()

    subscription.consume = ack
    return Feed(planned, Handling(8, lambda _: False).take)


def _handled(handler: Callable[..., Any], **options: Any) -> Callable[[], Awaitable[Feed]]:
    async def make() -> Feed:
        from faststream_django.worker.broker import is_threaded
        from faststream_django.worker.handling import Handling

        planned, worker = await _subscribed(handler, **options)
        handling = Handling(worker.concurrency, lambda each: is_threaded(each.subscriber))
        return Feed(planned, handling.take)

    return make


async def _subscribed(handler: Callable[..., Any], **options: Any) -> tuple[Any, Any]:
    """Return what a subscriber of ours wants, as FastStream has noted it, and the settings of the worker."""
    from dataclasses import replace

    from faststream.rabbit import RabbitRouter

    from faststream_django.backends.rabbit.consuming_objects import SubscriberConnection
    from faststream_django.conf.entries import broker_settings
    from faststream_django.worker.broker import build_broker, prefetch_of

    settings = broker_settings("default")
    settings = replace(settings, options={**settings.options, **options})
    router = RabbitRouter()
    router.subscriber("orders")(handler)
    broker = build_broker(settings, [router])
    subscribers = SubscriberConnection(
        settings, lambda _: True, lambda subscriber: prefetch_of(subscriber, settings.worker)
    )
    await subscribers.serve(broker)
    (planned,) = (channel for channel in subscribers.channels if channel.subscriptions)
    return planned, settings.worker


if __name__ == "__main__":
    main()
