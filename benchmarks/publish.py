"""Publish confirmed, persistent messages to one private node, ours beside pika and FastStream.

    make bench

Every contender does the same work in the same run, in alternating rounds after a warm-up: a durable
queue, persistent messages, publisher confirms, the same JSON body. Prints the median of the rounds, the
lowest and the highest, and the ratio.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pika
from faststream.rabbit import Channel, RabbitBroker

from faststream_django.sync import SyncBroker
from tests.nodes import RabbitMQNode

QUEUE = "bench"
PAYLOAD = {"id": 1, "item": "tea", "quantity": 2, "note": "x" * 60}
BODY = json.dumps(PAYLOAD, separators=(",", ":")).encode()

Round = Callable[[], float]


def latency(publish: Callable[[], object], count: int) -> float:
    """Return the median time of one publish, in microseconds."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        publish()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def rate(publish_all: Callable[[], object], count: int) -> float:
    """Return messages a second."""
    started = time.perf_counter()
    publish_all()
    return count / (time.perf_counter() - started)


def compare(title: str, unit: str, rounds: int, **contenders: Round) -> None:
    results: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            figure = contender()
            if number:  # the first round warms up
                results[name].append(figure)
    ours = statistics.median(results["faststream_django"])
    print(f"\n{title} ({unit}; median of {rounds} rounds, lowest - highest)")
    for name, figures in results.items():
        median = statistics.median(figures)
        print(
            f"  {name:<24}{median:>10,.0f}   {min(figures):>8,.0f} - {max(figures):<8,.0f}"
            f" ours / this: {ours / median:.2f}"
        )


def pika_publish(url: str) -> Callable[[], None]:
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")

    def publish() -> None:
        body = json.dumps(PAYLOAD, separators=(",", ":")).encode()
        channel.basic_publish("", QUEUE, body, properties, mandatory=True)

    return publish


def faststream_gather(url: str, count: int) -> float:
    async def run() -> float:
        async with RabbitBroker(url, default_channel=Channel(on_return_raises=True), logger=None) as broker:
            started = time.perf_counter()
            await asyncio.gather(*(broker.publish(PAYLOAD, QUEUE, persist=True) for _ in range(count)))
            return count / (time.perf_counter() - started)

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--single", type=int, default=1000, help="publishes in a round of publish()")
    parser.add_argument("--many", type=int, default=5000, help="messages in a round of publish_many()")
    options = parser.parse_args()

    node = RabbitMQNode()
    node.start()
    try:
        node.declare_queue(QUEUE)
        with SyncBroker(RabbitBroker(node.url())) as broker:
            by_pika = pika_publish(node.url())

            def drained(figure: float) -> float:
                with node.channel() as channel:
                    channel.queue_purge(QUEUE)
                return figure

            compare(
                "publish(), one thread",
                "us",
                options.rounds,
                faststream_django=lambda: drained(
                    latency(lambda: broker.publish(PAYLOAD, QUEUE), options.single)
                ),
                pika_BlockingConnection=lambda: drained(latency(by_pika, options.single)),
            )
            compare(
                "publish_many(), dicts",
                "messages/s",
                options.rounds,
                faststream_django=lambda: drained(
                    rate(
                        lambda: broker.publish_many((PAYLOAD for _ in range(options.many)), QUEUE),
                        options.many,
                    )
                ),
                FastStream_gather=lambda: drained(faststream_gather(node.url(), options.many)),
            )
    finally:
        node.close()


if __name__ == "__main__":
    main()
