"""What faststream_worker refuses, with exit code 2 and before anything is consumed."""

import io
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import CommandError, call_command

from tests.worker.apps import ROUTER

pytestmark = pytest.mark.usefixtures("site")

HANDLER = (
    ROUTER
    + """
@router.subscriber("orders")
def handle(body): ...

@router.subscriber("mails")
def send(body): ...
"""
)


@pytest.fixture
def site(settings, make_app, unreachable_port):
    """Have an app with subscribers, and a broker that nobody reaches."""
    settings.FASTSTREAM = {
        "default": {"URL": f"amqp://127.0.0.1:{unreachable_port}/"},
        "mail": {"URL": f"amqp://127.0.0.1:{unreachable_port}/"},
        "embedded": {"URL": "memory://"},
    }
    make_app(HANDLER)
    return settings


def refused(*arguments):
    with pytest.raises(CommandError) as raised:
        call_command("faststream_worker", *arguments, stdout=io.StringIO(), stderr=io.StringIO())
    assert raised.value.returncode == 2
    return str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--broker", "defualt"], "FASTSTREAM has no broker 'defualt' (did you mean 'default'?)"),
        (["--broker", "mail"], "nothing to consume from broker 'mail'"),
        (["--broker", "embedded"], "no worker is needed"),
        (
            ["--queues", "order"],
            "--queues: no subscriber consumes the queue 'order' (did you mean 'orders'?)",
        ),
        (["--exclude-queues", "x"], "--exclude-queues: no subscriber consumes the queue 'x'"),
        (["--exclude-queues", "orders,mails"], "--exclude-queues leaves nothing to consume"),
        (["--queues", "orders", "--exclude-queues", "orders"], "both name 'orders'"),
        (["--concurrency", "0"], "--concurrency must be a whole number from 1 to 1,000, not 0"),
        (["--prefetch", "70000"], "--prefetch must be a whole number from 1 to 65,535, not 70000"),
        (["--processes", "0"], "--processes must be a whole number from 1"),
        (["--max-messages", "0"], "--max-messages must be"),
        (["--max-memory", "-1"], "--max-memory must be"),
        (["--shutdown-timeout", "0"], "--shutdown-timeout must be above 0 seconds and at most a year, not 0"),
        (["--shutdown-timeout", "nan"], "--shutdown-timeout must be above 0 seconds"),
        (["--liveness", "/nowhere/alive"], "--liveness: "),
        (["--processes", "2", "--liveness", "/nowhere/alive"], "--liveness: "),
    ],
)
def test_wrong_usage_is_refused(arguments, text):
    assert text in refused(*arguments)


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("arguments", [[], ["--processes", "2"]])
def test_relay_without_anything_to_relay_is_refused(arguments):
    assert "--relay: Nothing is stored for any broker" in refused("--relay", *arguments)


def test_relay_needs_the_outbox(site):
    site.INSTALLED_APPS = [each for each in site.INSTALLED_APPS if not each.endswith(".outbox")]

    assert "'faststream_django.outbox' in INSTALLED_APPS" in refused("--relay")


def test_wrong_setting_is_refused(site):
    site.FASTSTREAM = {"default": {"URL": "http://rabbit/"}}

    assert "FASTSTREAM['default']['URL']" in refused()


def test_embedded_broker_needs_no_worker(site):
    site.FASTSTREAM = {"default": {"URL": "memory://"}}

    assert "no worker is needed" in refused()


def test_site_without_subscribers_has_nothing_to_consume(site):
    site.INSTALLED_APPS = [each for each in site.INSTALLED_APPS if not each.startswith("app_")]

    assert "nothing to consume: no subscribers.py" in refused()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax"),
        ("from faststream_django import nothing", "ImportError: cannot import name 'nothing'"),
    ],
)
def test_module_that_cannot_be_imported_is_told_with_its_place(make_app, source, text):
    make_app(source)

    told = refused()

    assert told.startswith("The subscribers cannot be imported:")
    assert 'subscribers.py", line 1' in told
    assert text in told
    assert "importlib" not in told


def test_subscribers_that_describe_one_queue_differently_are_refused(make_app):
    make_app(
        ROUTER
        + """
from faststream.rabbit import RabbitQueue

@router.subscriber(RabbitQueue("orders", arguments={"x-max-length": 1}))
def other(body): ...
"""
    )

    assert "describes queue 'orders'" in refused()


def test_broker_that_is_named_twice_counts_once(site):
    assert "leaves nothing to consume" in refused(
        "--broker",
        "default",
        "--broker",
        "default",
        "--exclude-queues",
        "orders",
        "--exclude-queues",
        "mails",
    )


@pytest.mark.parametrize("is_main", [True, False])
def test_program_that_calls_the_command_goes_on_afterwards(site, rabbitmq, make_app, queue, is_main):
    """In the main thread, where it hears signals, and in another one."""
    rabbitmq.declare_queue(queue)
    rabbitmq.publish(b"{}", queue, content_type="application/json")
    site.FASTSTREAM = {"default": {"URL": rabbitmq.url(), "SHUTDOWN_TIMEOUT": 0.1}}
    load = make_app(f"{ROUTER}\n@router.subscriber({queue!r})\ndef handle(body: dict): seen.append(body)")
    before = signal.getsignal(signal.SIGTERM)
    output = io.StringIO()

    def call():
        call_command("faststream_worker", "--queues", queue, "--max-messages", "1", stdout=output)

    if is_main:
        call()
    else:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(call).result()

    assert load().seen == [{}]
    assert output.getvalue() == f"Consuming from broker 'default': {queue}\nStopped.\n"
    assert signal.getsignal(signal.SIGTERM) is before
    assert rabbitmq.count(queue) == 0
