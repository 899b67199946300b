"""What a worker had in hand when it was killed is handled by the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until
from tests.worker.consumers import publish_many

ROOT = Path(__file__).parents[2]

WORKER = """
import asyncio, os, sys, time
import django
from django.conf import settings

settings.configure(SECRET_KEY="only for tests")
django.setup()
from faststream.rabbit import RabbitRouter
from faststream_django.conf.entries import broker_settings_from
from faststream_django.worker.consumer import Consumer
from faststream_django.worker.threads import HandlerThreads

url, queue, kind = sys.argv[1:]
router = RabbitRouter()
handled = os.open("handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@router.subscriber(queue)
def handle(body: str):
    time.sleep(0.002)
    os.write(handled, f"{body}\\n".encode())

async def main():
    given = broker_settings_from("default", {"URL": url, "QUEUES": {queue: {"type": kind}}})
    consumer = Consumer(given, [router], HandlerThreads(10))
    await consumer.start()
    print("consuming", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def wait_for_lines(path, count):
    wait_until(lambda: len(set(path.read_text().splitlines())) >= count, timeout=60)


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_killed_workers_lose_nothing(rabbitmq, queue, tmp_path, kind):
    (tmp_path / "worker.py").write_text(WORKER)
    handled = tmp_path / "handled"
    handled.touch()
    rabbitmq.declare_queue(queue, arguments={"x-queue-type": kind})
    bodies = [str(number) for number in range(1500)]
    publish_many(rabbitmq, queue, bodies)

    for kill in range(5):
        worker = subprocess.Popen(
            [sys.executable, "-W", "error", "worker.py", rabbitmq.url(), queue, kind],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert worker.stdout.readline() == "consuming\n"
            before = len(handled.read_text().splitlines())
            wait_for_lines(handled, len(bodies) if kill == 4 else before + 200)
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            worker.stdout.close()

    lines = handled.read_text().splitlines()
    assert set(lines) == set(bodies)
    assert len(lines) <= len(bodies) + 4 * 10  # as many as run at once are handled again after a kill
