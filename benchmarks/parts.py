"""What the parts of a publish of ours cost, and whether more messages in flight would help: the profile.

    .venvs/bench/bin/python -m benchmarks.parts

Best of many for what runs alone, median for what waits for the node.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.django_site import configure
from benchmarks.sample import durations
from benchmarks.workload import Workload
from tests.nodes import RabbitMQNode

QUEUE = "bench.parts"
MESSAGE = Workload(way="threads").message
CHUNKS = ((4, 128), (4, 256), (8, 256), (16, 256))


def main() -> None:
    node = RabbitMQNode()
    try:
        node.start()
        node.declare_queue(QUEUE)
        # More in flight than the default allows, for the last part.
        configure(node.url(), MAX_IN_FLIGHT=8192)
        _show_parts()
        _show_commits()
        _show_in_flight(lambda: _purge(node))
    finally:
        from faststream_django import brokers

        brokers.stop()
        node.close()


def _show_parts() -> None:
    from faststream_django import Message, publish
    from faststream_django.backends.rabbit.frames import publish_frames
    from faststream_django.loop import loop_thread
    from faststream_django.publishing.outgoing import encode

    async def nothing() -> None: ...

    publish(MESSAGE, QUEUE)
    message = Message.encode(MESSAGE, QUEUE)
    parts: dict[str, Callable[[], object]] = {
        "to the loop thread and back": lambda: loop_thread.run(nothing, timeout=5),
        "check and encode": lambda: encode(MESSAGE, QUEUE, None, {}),
        "frames": lambda: publish_frames(message, 1, 131_072),
    }
    for name, part in parts.items():
        print(f"{name:<40}{min(durations(part, 5000)) * 1e6:>8.1f} us")
    taken = statistics.median(durations(lambda: publish(MESSAGE, QUEUE), 2000))
    print(f"{'publish()':<40}{taken * 1e6:>8.1f} us")


def _show_commits() -> None:
    from django.db import transaction

    from faststream_django import publish_on_commit

    calls, commits = [], []
    for _ in range(50):
        with transaction.atomic():
            calls += durations(lambda: [publish_on_commit(MESSAGE, QUEUE) for _ in range(100)], 1)
            started = time.perf_counter()
        commits.append(time.perf_counter() - started)
    print(f"{'100 publish_on_commit(): the calls':<40}{statistics.median(calls) * 1e3:>8.2f} ms")
    print(f"{'100 publish_on_commit(): the commit':<40}{statistics.median(commits) * 1e3:>8.2f} ms")


def _show_in_flight(purge: Callable[[], None]) -> None:
    from faststream_django import publish_many
    from faststream_django.connection import bulk, connection

    rates: dict[tuple[int, int], list[float]] = {chunks: [] for chunks in CHUNKS}
    for _ in range(5):
        for chunks, found in rates.items():
            connection.CHUNKS_UNDER_WAY, bulk.CHUNK_MESSAGES = chunks
            (taken,) = durations(lambda: publish_many((MESSAGE for _ in range(20_000)), QUEUE), 1)
            found.append(20_000 / taken)
            purge()
    for (under_way, size), found in rates.items():
        what = f"publish_many(), {under_way * size:,} in flight"
        print(f"{what:<40}{statistics.median(found):>8,.0f}/s ({min(found):,.0f} - {max(found):,.0f})")


def _purge(node: RabbitMQNode) -> None:
    with node.channel() as channel:
        channel.queue_purge(QUEUE)


if __name__ == "__main__":
    main()
