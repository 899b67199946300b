"""Requests of whole processes: over a fork, and when they end."""

import time

import pytest

from tests.responders import Responder

from .conftest import ENDS


@pytest.fixture
def respond(rabbitmq, queue):
    """Answer what comes in the queue: with a function of the body, or when the test says so."""
    responders = []

    def respond(answer=None):
        responders.append(Responder(rabbitmq.url(), queue, answer))
        return responders[-1]

    yield respond
    for responder in responders:
        responder.close()


def test_parent_and_child_ask_at_the_same_time(rabbitmq, queue, respond, start_script):
    respond(lambda body: body)
    program = start_script(
        """
        import os, sys
        from concurrent.futures import ThreadPoolExecutor
        import django

        django.setup()
        from faststream_django import request

        def ask(who):
            bodies = [[who, number] for number in range(100)]
            with ThreadPoolExecutor(8) as threads:
                answers = threads.map(lambda body: request(body, sys.argv[1], timeout=30), bodies)
            return list(answers) == bodies

        assert request({"first": 1}, sys.argv[1], timeout=30) == {"first": 1}
        child = os.fork()
        answers = ask(child)
        if child == 0:
            os._exit(0 if answers else 1)
        _, status = os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status), "parent", answers)
        """,
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    code = program.wait()

    assert (code, program.err) == (0, "")
    assert program.all_said("child ") == ["0 parent True"]


def test_process_ends_although_a_reply_never_comes(rabbitmq, queue, respond, start_script):
    responder = respond()
    program = start_script(
        """
        import sys, threading
        import django

        django.setup()
        from faststream_django import request
        from faststream_django.exceptions import ConnectionLost

        def ask():
            try:
                request("x", sys.argv[1], timeout=60)
            except ConnectionLost as error:
                print("told", error.maybe_sent, flush=True)

        threading.Thread(target=ask, daemon=True).start()
        sys.stdin.readline()
        """,
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "TEST_FASTSTREAM": '{"SHUTDOWN_TIMEOUT": 0.5}'},
    )

    responder.take()
    program.tell("end")
    began = time.monotonic()
    code = program.wait()

    assert (code, program.err) == (0, "")
    assert time.monotonic() - began < ENDS
