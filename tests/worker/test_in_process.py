import logging
import threading

import pytest

from faststream_django import publish
from faststream_django.exceptions import BrokerRefused, MessageUnroutable
from faststream_django.loop import loop_thread
from tests.worker.apps import ROUTER, names


def test_subscriber_handles_what_this_process_publishes(make_app, memory):
    load = make_app(
        f"""{ROUTER}
@router.subscriber("orders")
async def handle(order: dict):
    seen.append(order)
    arrived.release()
"""
    )

    publish({"id": 1}, "orders")

    assert load().arrived.acquire(timeout=5)
    assert load().seen == [{"id": 1}]


def test_answer_of_a_subscriber_reaches_the_next_one(make_app, memory):
    load = make_app(
        f"""{ROUTER}
@router.subscriber("orders")
@router.publisher("bills")
def bill(order: dict):
    return {{"bill": order["id"]}}

@router.subscriber("bills")
async def handle(bill: dict):
    seen.append(bill)
    arrived.release()
"""
    )

    publish({"id": 1}, "orders")

    assert load().arrived.acquire(timeout=5)
    assert load().seen == [{"bill": 1}]


def test_handler_may_publish_with_our_verbs(make_app, memory):
    load = make_app(
        f"""{ROUTER}
from faststream_django import apublish, publish

@router.subscriber("one")
def one(body: str):
    publish(body + "2", "two")

@router.subscriber("two")
async def two(body: str):
    await apublish(body + "3", "three")

@router.subscriber("three")
async def three(body: str):
    seen.append(body)
    arrived.release()
"""
    )

    publish("1", "one")

    assert load().arrived.acquire(timeout=5)
    assert load().seen == ["123"]


def test_error_of_a_handler_is_logged_and_the_next_message_is_handled(make_app, memory, caplog, monkeypatch):
    logged = threading.Event()
    worker_logger = logging.getLogger("faststream_django.worker")
    monkeypatch.setattr(worker_logger, "filters", [lambda record: logged.set() or True])
    load = make_app(
        f"""{ROUTER}
@router.subscriber("orders")
async def handle(order: dict):
    if order["id"] == 1:
        raise RuntimeError("out of stock")
    arrived.release()
"""
    )

    publish({"id": 1}, "orders")
    assert logged.wait(5)
    publish({"id": 2}, "orders")

    assert load().arrived.acquire(timeout=5)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == "faststream_django.worker"
    assert "out of stock" in caplog.text


def test_nothing_is_written_to_stdout(make_app, memory, capsys):
    load = make_app(
        f"""{ROUTER}
@router.subscriber("orders")
async def handle(order: dict):
    arrived.release()
    raise RuntimeError
"""
    )

    publish({}, "orders")

    assert load().arrived.acquire(timeout=5)
    assert capsys.readouterr().out == ""


def test_subscriber_has_at_most_ten_messages_in_hand(make_app, memory):
    load = make_app(
        f"""{ROUTER}
go = threading.Event()

@router.subscriber("orders")
def handle(order: dict):
    arrived.release()
    go.wait(5)
"""
    )

    for number in range(10 + 5):
        publish({"id": number}, "orders")

    for _ in range(10):
        assert load().arrived.acquire(timeout=5)
    waiting = memory.count("orders")
    load().go.set()

    assert waiting == 5


def test_publish_does_not_wait_for_the_handler(make_app, memory):
    load = make_app(
        f"""{ROUTER}
go = threading.Event()

@router.subscriber("orders")
def handle(order: dict):
    go.wait(5)
    arrived.release()
"""
    )

    publish({}, "orders")
    handled = load().arrived.acquire(blocking=False)
    load().go.set()

    assert not handled
    assert load().arrived.acquire(timeout=5)


def test_broken_module_is_told_to_the_publisher(make_app, memory, caplog):
    make_app("import no_such_module")

    with pytest.raises(BrokerRefused, match="ModuleNotFoundError: No module named 'no_such_module'"):
        publish({}, "orders")
    assert "Traceback" in caplog.text


def test_project_without_subscribers_publishes(memory, settings):
    settings.FASTSTREAM = {"default": {**settings.FASTSTREAM["default"], "QUEUES": {"orders": {}}}}

    publish({}, "orders")

    assert memory.count("orders") == 1


def test_subscribers_follow_the_default_alias_to_another_server(make_app, memory, settings):
    load = make_app(
        f"""{ROUTER}
@router.subscriber("orders")
async def handle(order: dict):
    arrived.release()
"""
    )
    publish({}, "orders")
    assert load().arrived.acquire(timeout=5)

    settings.FASTSTREAM = {"default": {"URL": f"memory://subscribers-{next(names)}"}}
    publish({}, "orders")

    assert load().arrived.acquire(timeout=5)


def test_subscribers_consume_from_the_broker_of_their_alias(make_app, memory, settings):
    load = make_app(
        f"""{ROUTER}
from faststream_django.worker import broker_router

audit = broker_router("audit")

@router.subscriber("orders")
async def handle(body: str):
    seen.append(("default", body))
    arrived.release()

@audit.subscriber("orders")
async def note(body: str):
    seen.append(("audit", body))
    arrived.release()
"""
    )
    settings.FASTSTREAM = {**settings.FASTSTREAM, "audit": {"URL": f"memory://subscribers-{next(names)}"}}

    publish("1", "orders", broker="audit")
    publish("2", "orders")

    assert load().arrived.acquire(timeout=5)
    assert load().arrived.acquire(timeout=5)
    assert sorted(load().seen) == [("audit", "1"), ("default", "2")]


def test_broker_without_a_router_of_its_alias_has_no_subscribers(make_app, memory, settings):
    make_app(f'{ROUTER}\n@router.subscriber("orders")\nasync def handle(body): ...')
    settings.FASTSTREAM = {
        **settings.FASTSTREAM,
        "audit": {"URL": f"memory://subscribers-{next(names)}"},
    }

    with pytest.raises(MessageUnroutable):
        publish({}, "orders", broker="audit")


def test_subscribers_go_on_after_the_loop_was_replaced(make_app, memory):
    """What a handler of the old loop held is handled again."""
    load = make_app(
        f"""{ROUTER}
import asyncio

@router.subscriber("orders")
async def handle(order: dict):
    seen.append(order["id"])
    arrived.release()
    if len(seen) == 1:
        await asyncio.Event().wait()
"""
    )
    publish({"id": 1}, "orders")
    assert load().arrived.acquire(timeout=5)
    loop_thread.stop()

    publish({"id": 2}, "orders")

    assert load().arrived.acquire(timeout=5)
    assert load().arrived.acquire(timeout=5)
    assert sorted(load().seen) == [1, 1, 2]


@pytest.fixture
def shop(tmp_path):
    """Write the package shop, whose subscriber notes what it gets and then does some work."""

    def write(work="pass"):
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "__init__.py").touch()
        (tmp_path / "shop" / "subscribers.py").write_text(
            f"""{ROUTER}
@router.subscriber("orders")
async def handle(body: str):
    seen.append(body)
    arrived.release()
    {work}
"""
        )

    return write


def test_handler_that_runs_when_the_process_ends_comes_to_its_end(run_script, shop):
    shop("import asyncio; await asyncio.sleep(0.3); print('handled', flush=True)")

    result = run_script(
        """
        import sys
        import django
        from django.conf import settings

        sys.path.insert(0, "")
        settings.configure(
            INSTALLED_APPS=["shop"], FASTSTREAM={"default": {"URL": "memory://"}}
        )
        django.setup()
        from faststream_django import publish
        from faststream_django.worker.in_process import consume_in_process

        consume_in_process()
        publish("order", "orders")
        from shop.subscribers import arrived
        assert arrived.acquire(timeout=5)
        """
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "handled\n", "")


def test_handler_that_runs_when_the_process_ends_publishes_what_it_returns(run_script, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "subscribers.py").write_text(
        f"""{ROUTER}
import asyncio

@router.subscriber("orders")
@router.publisher("bills")
async def handle(body: str):
    arrived.release()
    await asyncio.sleep(0.3)
    return body
"""
    )

    result = run_script(
        """
        import sys
        import django
        from django.conf import settings

        sys.path.insert(0, "")
        settings.configure(
            INSTALLED_APPS=["shop"],
            FASTSTREAM={"default": {"URL": "memory://", "QUEUES": {"bills": {}}}},
        )
        django.setup()
        from faststream_django import publish
        from faststream_django.signals import message_published
        from faststream_django.worker.in_process import consume_in_process

        async def tell(sender, message, **kwargs):
            print(message.destination, flush=True)

        message_published.connect(tell)
        consume_in_process()
        publish("order", "orders")
        from shop.subscribers import arrived
        assert arrived.acquire(timeout=5)
        """,
        timeout=8,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["queue 'orders'", "queue 'bills'"]


def test_message_that_cannot_be_handed_over_does_not_hold_up_the_end(run_script, shop):
    """It is lost with the process, as everything in the embedded broker; what was told is not told again."""
    shop("raise OSError")

    result = run_script(
        """
        import logging, sys, threading
        import django
        from django.conf import settings

        sys.path.insert(0, "")
        full = {"arguments": {"x-max-length": 0, "x-overflow": "reject-publish"}}
        settings.configure(
            INSTALLED_APPS=["shop"],
            FASTSTREAM={
                "default": {
                    "URL": "memory://",
                    "SHUTDOWN_TIMEOUT": 1.0,
                    "QUEUES": {"orders.dlq": full},
                    "WORKER": {"ATTEMPTS": 1},
                }
            },
        )
        django.setup()
        from faststream_django import publish
        from faststream_django.worker import dead_letters, settling
        from faststream_django.worker.in_process import consume_in_process

        dead_letters.PAUSES, settling.GIVE_BACK_PAUSE = (), 60.0
        told = threading.Event()
        note = lambda record: "goes back" in record.msg and told.set() or True
        logging.getLogger("faststream_django.worker").addFilter(note)
        consume_in_process()
        publish("order", "orders")
        assert told.wait(5)
        """
    )

    assert result.returncode == 0
    assert result.stderr.count("OSError at shop.subscribers") == 1
    assert "goes back to its queue in 60 s" in result.stderr
    assert "Cancelled" not in result.stderr


def test_subscribers_run_in_a_forked_child_too(run_script, shop):
    shop()

    result = run_script(
        """
        import os, sys
        import django
        from django.conf import settings

        sys.path.insert(0, "")
        settings.configure(
            INSTALLED_APPS=["shop"], FASTSTREAM={"default": {"URL": "memory://"}}
        )
        django.setup()
        from faststream_django import publish
        from faststream_django.worker.in_process import consume_in_process

        def is_handled(body):
            publish(body, "orders")
            from shop.subscribers import arrived, seen
            return arrived.acquire(timeout=5) and body in seen

        consume_in_process()
        assert is_handled("parent")
        child = os.fork()
        if child == 0:
            os._exit(0 if is_handled("child") else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert is_handled("parent again")
        """
    )

    assert (result.returncode, result.stderr) == (0, "")
