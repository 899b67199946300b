"""Forks of a process that publishes: the child has a connection of its own, the parent notices nothing."""

import json
import sys
from collections import Counter
from pathlib import Path

from .conftest import FIRST

FORKS = Path(__file__).with_name("publishing_forks.py")


def test_forks_under_publishing_threads(rabbitmq, queue, start, connected_pids, lost_connections):
    program = start(
        *(sys.executable, "-X", "faulthandler", FORKS, queue),
        # Without coverage, which would write a file for each child.
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "COVERAGE_PROCESS_CONFIG": ""},
    )

    child, parent = int(program.said("child ", 90)), int(program.said("parent ", 90))
    pids = connected_pids()
    program.tell("go on")
    code = program.wait()

    messages = rabbitmq.drain(queue)
    senders = Counter(json.loads(message.body)["who"] for message in messages)
    assert child != parent
    assert pids == {child, parent}
    assert code == 0
    assert program.err == ""
    assert program.all_said("failed ") == []
    assert program.all_said("ended ") == ["0"] * 100
    assert Counter(program.all_said("confirmed ")) == Counter(
        message.properties.message_id for message in messages
    )
    assert senders["child"] == 300
    assert senders["parent"] > 2000
    assert max(float(seconds) for seconds in program.all_said("first ")) <= FIRST
    assert connected_pids() == set()
    assert lost_connections({child, parent}) == []


def test_multiprocessing_pools_publish(rabbitmq, queue, start_script):
    program = start_script(
        """
        import multiprocessing, os, sys
        import django
        from django.conf import settings

        django.setup()
        from faststream_django import publish

        def work(number):
            return publish({"number": number, "pid": os.getpid()}, sys.argv[1])

        if __name__ == "__main__":
            ids = [work(0)]
            for method in ("fork", "spawn"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    ids += pool.map(work, range(1, 11), chunksize=1)
                    pool.close()
                    pool.join()
                ids.append(work(11))
            print("ids", *ids)
        """,
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    code = program.wait()

    messages = rabbitmq.drain(queue)
    assert (code, program.err) == (0, "")
    assert set(program.said("ids ").split()) == {message.properties.message_id for message in messages}
    assert len(messages) == 23
    assert len({json.loads(message.body)["pid"] for message in messages}) >= 3
