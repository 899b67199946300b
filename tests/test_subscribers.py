import importlib
import itertools
import logging
import sys
import textwrap
import threading
import time

import pytest

from faststream_django import brokers, publish
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.conf import broker_settings
from faststream_django.exceptions import BrokerRefused, MessageUnroutable
from faststream_django.loop import loop_thread
from faststream_django.worker.broker import PREFETCH, build_broker
from faststream_django.worker.discovery import autodiscover
from faststream_django.worker.in_process import consume_in_process

names = itertools.count()

ROUTER = """
import threading
from faststream.rabbit import RabbitRouter

router = RabbitRouter()
seen = []
arrived = threading.Semaphore(0)
"""


@pytest.fixture
def make_app(tmp_path, monkeypatch, settings):
    """Install an app with this subscribers.py; return a function that imports the module."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source):
        name = f"app_{next(names)}"
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").touch()
        if source is not None:
            (package / "subscribers.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, name]
        return lambda: importlib.import_module(f"{name}.subscribers")

    yield make
    for name in [name for name in sys.modules if name.startswith("app_")]:
        del sys.modules[name]


@pytest.fixture
def memory(settings, monkeypatch):
    """An embedded broker of its own, whose subscribers run in this process."""
    monkeypatch.setattr(MemoryServer, "on_connect", None)
    url = f"memory://subscribers-{next(names)}"
    settings.FASTSTREAM = {"default": {"URL": url}}
    consume_in_process()
    yield MemoryServer.get(url)
    brokers.stop()


def queues(routers):
    return [subscriber.queue.name for router in routers for subscriber in router.subscribers]


# Discovery


def test_routers_are_found_in_the_order_of_the_apps(make_app):
    for queue in ("first", "second"):
        make_app(f'{ROUTER}\n@router.subscriber("{queue}")\nasync def handle(body): ...')

    assert queues(autodiscover()) == ["first", "second"]


def test_router_with_two_names_is_found_once(make_app):
    make_app(f'{ROUTER}\nalso = router\n@router.subscriber("q")\nasync def handle(body): ...')

    assert queues(autodiscover()) == ["q"]


def test_router_that_another_app_imports_is_found_once(make_app):
    load = make_app(f'{ROUTER}\n@router.subscriber("q")\nasync def handle(body): ...')
    make_app(f"from {load().__name__} import router")

    assert queues(autodiscover()) == ["q"]


def test_router_in_a_router_comes_with_it(make_app):
    make_app(
        f'{ROUTER}\ninner = RabbitRouter(prefix="inner-")\nrouter.include_router(inner)\n'
        '@inner.subscriber("q")\nasync def handle(body): ...'
    )

    [router] = autodiscover()

    assert [subscriber.routing() for subscriber in router.subscribers] == ["inner-q"]


def test_apps_without_subscribers_are_passed_over(make_app):
    make_app(None)

    assert autodiscover() == []


def test_error_in_a_module_is_raised(make_app):
    make_app("import no_such_module")

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        autodiscover()


# The broker that consumes


def test_broker_has_the_options_of_the_settings(settings):
    def middleware(message, context): ...

    settings.FASTSTREAM = {
        "default": {
            "URL": "amqp://guest:guest@localhost/",
            "OPTIONS": {"middlewares": [middleware]},
            "SHUTDOWN_TIMEOUT": 7.0,
            "HEARTBEAT": 9,
        }
    }

    broker = build_broker(broker_settings("default"), [])

    assert list(broker.middlewares) == [middleware]
    assert broker.config.graceful_timeout == 7.0
    assert "heartbeat=9" in broker._connection_kwargs["url"]


def test_router_can_be_built_into_another_broker(make_app):
    make_app(f'{ROUTER}\n@router.subscriber("q")\nasync def handle(body): ...')
    routers = autodiscover()
    first = build_broker(broker_settings("default"), routers)

    second = build_broker(broker_settings("default"), autodiscover())

    assert first.subscribers == []
    assert queues([second]) == ["q"]


# The embedded broker


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

    for number in range(PREFETCH + 5):
        publish({"id": number}, "orders")

    for _ in range(PREFETCH):
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


def test_subscribers_consume_from_one_server_only(make_app, memory, settings):
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


# Django's connections


@pytest.mark.parametrize(("kind", "look"), [("def", "look()"), ("async def", "await sync_to_async(look)()")])
def test_connections_are_cleaned_in_the_thread_of_the_handler(make_app, memory, monkeypatch, kind, look):
    cleaned = []
    monkeypatch.setattr(
        "faststream_django.worker.database.close_old_connections",
        lambda: cleaned.append(threading.get_ident()),
    )
    load = make_app(
        f"""{ROUTER}
from asgiref.sync import sync_to_async

def look():
    seen.append(threading.get_ident())

@router.subscriber("orders")
@router.publisher("done")
{kind} handle(order: dict):
    {look}

@router.subscriber("done")
async def done(body):
    arrived.release()
"""
    )

    publish({}, "orders")

    assert load().arrived.acquire(timeout=5)
    [thread] = load().seen
    assert set(cleaned) == {thread}
    assert thread != threading.get_ident()


VALIDATING = """
from pydantic import BaseModel, field_validator
from faststream.rabbit import RabbitQueue, RabbitRouter
from faststream.middlewares import AckPolicy

router = RabbitRouter()

class Order(BaseModel):
    card: int
    name: str = "x"

    @field_validator("name")
    @classmethod
    def check(cls, value):
        if value != "x":
            raise ValueError(f"bad {value}")
        return value

@router.subscriber("annotated", ack_policy=AckPolicy.REJECT_ON_ERROR)
def annotated(order: Order): ...

@router.subscriber("by-hand", ack_policy=AckPolicy.REJECT_ON_ERROR)
def by_hand(body: dict):
    Order.model_validate(body)

@router.subscriber("chained", ack_policy=AckPolicy.REJECT_ON_ERROR)
def chained(body: dict):
    try:
        Order.model_validate(body)
    except ValueError as error:
        raise RuntimeError("cannot place it") from error

@router.subscriber("during", ack_policy=AckPolicy.REJECT_ON_ERROR)
def during(body: dict):
    try:
        Order.model_validate(body)
    except ValueError:
        raise RuntimeError("cannot place it")
"""


@pytest.mark.parametrize("queue", ["annotated", "by-hand", "chained", "during"])
@pytest.mark.parametrize(
    "options", [{}, {"logger": "logging.root"}], ids=["our logger", "logger of the site"]
)
def test_body_that_does_not_fit_is_not_in_the_log(make_app, memory, settings, caplog, queue, options):
    """pydantic's errors quote what they were given; docs/reference/errors.md says that no body is logged."""
    make_app(VALIDATING)
    settings.FASTSTREAM = {"default": {**settings.FASTSTREAM["default"], "OPTIONS": options}}
    caplog.set_level(logging.DEBUG)

    publish({"card": "4929-secret", "name": "secret-name"}, queue)
    wait_for(lambda: any(each.levelname == "ERROR" for each in caplog.records))

    assert "secret" not in caplog.text
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.exc_info
    assert "2 of the values do not fit" in caplog.text
    assert "card: Input should be a valid integer" in caplog.text
    assert "name: value_error" in caplog.text


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
