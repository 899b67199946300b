"""The guard of a test run: nothing leaves the process and no subscriber runs, unless a test asks for it."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.test import override_settings

from faststream_django import apublish, apublish_many, brokers, publish, publish_many
from faststream_django.connection import Connection
from faststream_django.exceptions import BrokerDoesNotExist, InvalidBroker, InvalidMessage
from faststream_django.messages import Message
from faststream_django.signals import message_published
from faststream_django.testing import real_brokers

ROOT = Path(__file__).parent.parent

SITE = {
    "manage.py": """
        import multiprocessing
        import sys

        from django.core.management import execute_from_command_line

        if __name__ == "__main__":
            multiprocessing.set_start_method(sys.argv.pop(1))
            execute_from_command_line(sys.argv)
        """,
    "site_settings.py": """
        import json, os

        SECRET_KEY = "only for tests"
        USE_TZ = True
        INSTALLED_APPS = ["faststream_django", "faststream_django.outbox", "shop"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
        FASTSTREAM = {"default": json.loads(os.environ["BROKER"])}
        """,
    "shop/__init__.py": "",
    "shop/trace.py": """
        import os
        from pathlib import Path

        QUEUE = os.environ["QUEUE"]

        def trace(word):
            with Path(os.environ["TRACE"]).open("a") as file:
                file.write(f"{word}\\n")
        """,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
        from django.db import migrations

        from faststream_django import publish, publish_on_commit
        from shop.trace import QUEUE, trace

        def announce(apps, schema_editor):
            publish("migration", QUEUE)
            publish_on_commit("migration", QUEUE)
            trace("migrated")

        class Migration(migrations.Migration):
            dependencies = [("faststream_outbox", "0001_initial")]
            operations = [migrations.RunPython(announce)]
        """,
    "shop/subscribers.py": """
        import time

        from faststream.rabbit import RabbitRouter

        from shop.trace import QUEUE, trace

        router = RabbitRouter()

        @router.subscriber(QUEUE)
        def handle(body):
            time.sleep(0.2)  # longer than the test that publishes
            trace(f"handled {body}")
        """,
}

GUARDED = """
    from django.core.wsgi import get_wsgi_application
    from django.test import TestCase, TransactionTestCase

    from faststream_django import brokers, publish, publish_many, publish_on_commit
    from faststream_django.loop import loop_thread
    from faststream_django.outbox.models import OutboxMessage
    from faststream_django.testing import capture_messages
    from shop.trace import QUEUE, trace

    get_wsgi_application()

    class Publishes:
        def test_uncaptured(self):
            brokers.start()
            publish("test", QUEUE)
            publish_many(["test"], QUEUE)
            with self.captureOnCommitCallbacks(execute=True):
                publish_on_commit("test", QUEUE)
                publish_on_commit("test", QUEUE, ordering_key="a")
            self.assertFalse(OutboxMessage.objects.exists())
            self.assertFalse(loop_thread.is_started)
            trace("tested")

        def test_captured(self):
            with capture_messages() as messages:
                publish("test", QUEUE)
            self.assertEqual(len(messages), 1)
            self.assertFalse(loop_thread.is_started)
            trace("tested")

    class OneTests(Publishes, TestCase): ...
    class TwoTests(Publishes, TestCase): ...
    class ThreeTests(Publishes, TransactionTestCase):
        captureOnCommitCallbacks = TestCase.captureOnCommitCallbacks
    """


@pytest.fixture
def site(tmp_path):
    """A small site; return a function that runs its tests and returns what they traced."""
    for name, source in SITE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
    trace = tmp_path / "trace"

    def run(tests, *command, broker, queue):
        (tmp_path / "shop/tests.py").write_text(textwrap.dedent(tests))
        done = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}:{tmp_path}",
                "DJANGO_SETTINGS_MODULE": "site_settings",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "BROKER": json.dumps(broker),
                "QUEUE": queue,
                "TRACE": str(trace),
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return trace.read_text().split("\n")[:-1] if trace.exists() else []

    return run


PYTEST = (
    *(
        "-m",
        "pytest",
        "-q",
        "--strict-markers",
        "-pfaststream_django.pytest_plugin",
        "-ppytest_django.plugin",
    ),
    "shop/tests.py",
)
RUNNERS = [
    pytest.param(PYTEST, id="pytest-django"),
    pytest.param((*PYTEST, "-pno:faststream_django.pytest_plugin"), id="pytest-django-without-plugin"),
    pytest.param(("manage.py", "fork", "test"), id="manage-test"),
    pytest.param((*PYTEST, "-pxdist.plugin", "-n2"), id="pytest-django-xdist"),
    pytest.param(("manage.py", "fork", "test", "--parallel=2"), id="manage-test-fork"),
    pytest.param(("manage.py", "spawn", "test", "--parallel=2"), id="manage-test-spawn"),
]


@pytest.mark.parametrize("command", RUNNERS)
@pytest.mark.parametrize("on_commit", ["memory", "outbox"])
def test_nothing_reaches_rabbitmq_from_a_test_run(site, rabbitmq, command, on_commit):
    queue = rabbitmq.declare_queue()

    trace = site(GUARDED, *command, broker={"URL": rabbitmq.url(), "ON_COMMIT": on_commit}, queue=queue)

    assert "migrated" in trace
    assert trace.count("tested") == 6
    assert rabbitmq.count(queue) == 0
    rabbitmq.delete_queue(queue)


@pytest.mark.parametrize("command", RUNNERS)
def test_no_subscriber_of_the_embedded_broker_runs_in_a_test_run(site, command):
    trace = site(GUARDED, *command, broker={"URL": "memory://"}, queue="orders")

    assert set(trace) == {"migrated", "tested"}


def test_an_app_that_publishes_when_it_is_ready_is_guarded_under_pytest(site, rabbitmq, tmp_path):
    queue = rabbitmq.declare_queue()
    (tmp_path / "shop/apps.py").write_text(
        textwrap.dedent(
            """
            from django.apps import AppConfig

            class ShopConfig(AppConfig):
                name = "shop"

                def ready(self):
                    from faststream_django import publish
                    from shop.trace import QUEUE, trace

                    publish("ready", QUEUE)
                    trace("ready")
            """
        )
    )

    trace = site(GUARDED, *PYTEST, broker={"URL": rabbitmq.url()}, queue=queue)

    assert "ready" in trace
    assert rabbitmq.count(queue) == 0
    rabbitmq.delete_queue(queue)


def test_a_test_run_publishes_for_real_where_it_is_asked_to(site, rabbitmq):
    queue = rabbitmq.declare_queue()

    site(
        """
        import pytest
        from django.conf import settings
        from django.test import SimpleTestCase, override_settings

        from faststream_django import publish
        from faststream_django.testing import capture_messages, real_brokers
        from shop.trace import QUEUE

        publish("collection", QUEUE)
        CONNECTS = {"default": {**settings.FASTSTREAM["default"], "TEST": {"CONNECT": True}}}

        @pytest.fixture
        def published():
            publish("fixture", QUEUE)

        @pytest.mark.real_broker
        def test_marked(published):
            publish("marked", QUEUE)

        @pytest.mark.real_broker("default")
        class TestMarked(SimpleTestCase):
            def test_marked(self):
                publish("marked class", QUEUE)

        @pytest.mark.real_broker
        def test_captured(captured_messages):
            publish("captured", QUEUE)
            assert len(captured_messages) == 1

        class TestBlocks(SimpleTestCase):
            def test_block(self):
                with real_brokers():
                    publish("block", QUEUE)
                publish("after the block", QUEUE)

            @real_brokers("default")
            def test_decorated(self):
                publish("decorated", QUEUE)

            @override_settings(FASTSTREAM=CONNECTS)
            def test_setting(self):
                publish("setting", QUEUE)

        @real_brokers()
        class TestDecorated(SimpleTestCase):
            def test_decorated(self):
                publish("decorated class", QUEUE)

        def test_unmarked():
            publish("unmarked", QUEUE)
        """,
        *PYTEST,
        broker={"URL": rabbitmq.url()},
        queue=queue,
    )

    assert sorted(message.body.decode() for message in rabbitmq.drain(queue)) == sorted(
        ["fixture", "marked", "marked class", "block", "decorated", "setting", "decorated class"]
    )
    rabbitmq.delete_queue(queue)


def test_handlers_of_the_embedded_broker_end_with_the_test_that_asked_for_them(site):
    trace = site(
        """
        import pytest

        from faststream_django import publish
        from faststream_django.loop import loop_thread
        from shop.trace import QUEUE, trace

        @pytest.fixture
        def ends():
            yield
            trace("fixture ends")

        @pytest.mark.real_broker
        def test_real(ends):
            publish(1, QUEUE)

        def test_later():
            publish(2, QUEUE)
            assert not loop_thread.is_started
            trace("later")
        """,
        *(*PYTEST, "-pno:randomly"),
        broker={"URL": "memory://"},
        queue="orders",
    )

    assert trace == ["handled 1", "fixture ends", "later"]


# In this process, where the guard is open but for these tests


@pytest.fixture
def guarded(monkeypatch, settings, counting_port):
    monkeypatch.setattr(brokers, "_unguarded", [])
    settings.FASTSTREAM = {"default": {"URL": counting_port.url}, "other": {"URL": "memory://guard"}}
    yield settings
    brokers.stop()


@pytest.mark.usefixtures("guarded")
def test_messages_are_checked_and_announced_as_confirmed():
    announced = []

    def receive(message, broker, **kwargs):
        announced.append((message.decode(), broker))

    message_published.connect(receive)
    try:
        assert publish("a", "orders")
        assert publish_many(["b", "c"], "orders") == 2
        assert asyncio.run(apublish("d", "orders"))
        assert asyncio.run(apublish_many(["e"], "orders")) == 1
    finally:
        message_published.disconnect(receive)

    assert announced == [(body, "default") for body in "abcde"]
    assert brokers["default"].is_connected
    with pytest.raises(InvalidMessage):
        publish(object(), "orders")
    with pytest.raises(BrokerDoesNotExist):
        publish("x", "orders", broker="othr")


@pytest.mark.usefixtures("guarded")
def test_messages_are_forgotten():
    message = Message.encode("x", "orders")
    references = sys.getrefcount(message)

    publish(message)

    assert sys.getrefcount(message) == references


def test_only_the_brokers_that_are_named_connect(guarded):
    def is_real(alias):
        return isinstance(brokers[alias], Connection)

    with real_brokers("other"):
        assert (is_real("default"), is_real("other")) == (False, True)
        with real_brokers():
            assert is_real("default")
        assert not is_real("default")
    assert not is_real("other")
    guarded.FASTSTREAM = {"default": {"URL": "memory://guard", "TEST": {"CONNECT": True}}}
    assert is_real("default")


@pytest.mark.usefixtures("guarded")
def test_a_broker_that_does_not_exist_cannot_be_real():
    with pytest.raises(BrokerDoesNotExist, match="othr"), real_brokers("othr"):
        pass


@pytest.mark.usefixtures("guarded")
def test_a_plain_with_is_refused_in_async_code():
    async def main():
        with real_brokers():
            pass

    with pytest.raises(SynchronousOnlyOperation, match="async with real_brokers"):
        asyncio.run(main())


@pytest.mark.usefixtures("guarded")
def test_async_tests_publish_for_real():
    @real_brokers("other")
    async def test():
        assert isinstance(brokers["other"], Connection)

    asyncio.run(test())
    assert not isinstance(brokers["other"], Connection)


@pytest.mark.usefixtures("guarded")
def test_the_queues_of_the_embedded_broker_are_empty_after_a_test():
    with (
        real_brokers("other"),
        override_settings(FASTSTREAM={"other": {"URL": "memory://guard", "QUEUES": ["orders"]}}),
    ):
        publish("x", "orders", broker="other")

    from faststream_django.backends.memory.server import MemoryServer

    assert MemoryServer.get("memory://guard").count("orders") == 0


@pytest.mark.parametrize("test", [True, {"CONNECT": 1}, {"URL": "memory://"}])
def test_a_wrong_setting_is_refused(settings, test):
    settings.FASTSTREAM = {"default": {"URL": "memory://", "TEST": test}}

    with pytest.raises(InvalidBroker, match=r"FASTSTREAM\['default'\]\['TEST'\]"):
        publish("x", "orders")


@pytest.mark.usefixtures("guarded")
def test_a_class_that_is_no_test_case_is_refused():
    class TestOrder: ...

    with pytest.raises(TypeError, match="TestOrder is no TestCase"):
        real_brokers()(TestOrder)
