"""What users may rely on: the names, their docstrings, and a cheap import."""

import importlib
import inspect
import pkgutil
import pydoc
import re
from pathlib import Path

import pytest
from asgiref.sync import iscoroutinefunction

import faststream_django
from faststream_django import exceptions, signals, sync
from faststream_django.publishing import verbs as publishing

NAMES = {
    "Message",
    "apublish",
    "apublish_many",
    "apublish_many_on_commit",
    "apublish_on_commit",
    "arequest",
    "brokers",
    "publish",
    "publish_many",
    "publish_many_on_commit",
    "publish_on_commit",
    "request",
}
ERRORS = {
    "BrokerBlocked",
    "BrokerDoesNotExist",
    "BrokerRefused",
    "BrokerUnavailable",
    "BulkPublishError",
    "ConnectionLost",
    "DeclarationError",
    "DeclarationRefused",
    "DeclarationTimeout",
    "InboxNotReady",
    "InvalidBroker",
    "InvalidDeclaration",
    "InvalidMessage",
    "InvalidSubscriber",
    "MessageHasNoId",
    "MessageRejected",
    "MessageUnroutable",
    "OutboxNotReady",
    "PublishError",
    "PublishTimeout",
    "RequestFailed",
    "RequestTimeout",
    "TooManyInFlight",
}
VERBS = [
    f"{prefix}{name}"
    for prefix in ("", "a")
    for name in ("publish", "publish_many", "publish_on_commit", "publish_many_on_commit")
]
OPTIONS = [
    "routing_key",
    "broker",
    "headers",
    "correlation_id",
    "message_id",
    "reply_to",
    "content_type",
    "content_encoding",
    "expiration",
    "priority",
    "timestamp",
    "message_type",
    "persist",
    "mandatory",
    "app_id",
    "timeout",
]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(faststream_django.__path__, "faststream_django.")
    if ".migrations." not in module.name
)


PUBLIC = (faststream_django, exceptions, signals, sync)


def public_members():
    for module in PUBLIC:
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isroutine(member):
                yield pytest.param(member, id=name)


def public_methods():
    for module in PUBLIC:
        for name in module.__all__:
            member = getattr(module, name)
            cls = member if inspect.isclass(member) else type(member)
            if cls.__module__.startswith("faststream_django"):
                for method, function in inspect.getmembers(cls, inspect.isroutine):
                    if not method.startswith("_") and method in vars(cls):
                        yield pytest.param(function, id=f"{name}.{method}")


def test_package_has_the_documented_names():
    assert set(faststream_django.__all__) == NAMES
    assert set(exceptions.__all__) == ERRORS
    assert set(signals.__all__) == {
        "message_published",
        "message_failed",
        "message_deferred",
        "outbox_message_dead",
    }
    assert set(sync.__all__) == {"SyncBroker"}


def test_package_has_a_version():
    assert faststream_django.__version__.count(".") == 2


@pytest.mark.parametrize("name", MODULES)
def test_names_of_a_module_exist(name):
    module = importlib.import_module(name)
    names = list(getattr(module, "__all__", ()))

    assert len(names) == len(set(names))
    assert all(hasattr(module, each) for each in names)


@pytest.mark.parametrize("name", [*MODULES, "faststream_django"])
def test_module_has_a_docstring(name):
    module = importlib.import_module(name)

    assert module.__doc__ or not getattr(module, "__all__", ())


@pytest.mark.parametrize("member", list(public_members()))
def test_public_member_has_a_docstring(member):
    assert member.__doc__
    assert not member.__doc__.startswith(f"{member.__name__}("), "a dataclass wrote it"


@pytest.mark.parametrize("method", list(public_methods()))
def test_public_method_has_a_docstring(method):
    assert method.__doc__


@pytest.mark.parametrize("verb", ["publish", "publish_many", "publish_on_commit", "request"])
def test_async_twin_takes_the_same_arguments(verb):
    function, twin = getattr(faststream_django, verb), getattr(faststream_django, f"a{verb}")

    assert list(inspect.signature(function).parameters) == list(inspect.signature(twin).parameters)
    assert iscoroutinefunction(twin)
    assert twin.__doc__.startswith(f"See {verb}()")


def test_options_are_those_of_the_reference():
    assert list(publishing.PublishOptions.__annotations__) == OPTIONS


@pytest.mark.parametrize("verb", VERBS)
def test_signature_of_a_verb_spells_the_options_out(verb):
    signature = inspect.signature(getattr(faststream_django, verb))
    parameters = list(signature.parameters.values())

    assert [each.name for each in parameters if each.name in OPTIONS] == OPTIONS
    assert not any(each.kind is each.VAR_KEYWORD for each in parameters)
    assert "timeout: 'float | timedelta | None' = None" in str(signature)
    assert signature.parameters["broker"].default == "default"
    assert signature.parameters["routing_key"].default == ""


def test_request_has_the_options_of_publish_that_a_message_with_a_reply_can_have():
    parameters = inspect.signature(faststream_django.request).parameters
    ours = {"correlation_id", "reply_to", "mandatory"}

    assert [name for name in parameters if name in OPTIONS] == [each for each in OPTIONS if each not in ours]
    assert str(parameters["timeout"]) == "timeout: 'float | timedelta | None' = None"


def test_help_names_every_option_and_its_unit():
    text = pydoc.plain(pydoc.render_doc(faststream_django.publish))

    for option in OPTIONS:
        assert re.search(rf"^ *(\w+, )*{option}(, \w+)*: ", text, re.MULTILINE), option
    assert "timeout: seconds or timedelta" in text
    assert "expiration: seconds, timedelta or aware datetime" in text


def test_documented_defaults_are_those_of_the_signature():
    page = (Path(__file__).parent.parent / "docs/reference/api.md").read_text()
    documented = re.search(r"^`publish\((.*)\) -> str`$", page, re.MULTILINE)[1]

    for name in OPTIONS:
        default = inspect.signature(faststream_django.publish).parameters[name].default
        assert f"{name}={default!r}".replace("'", '"') in documented


def test_attributes_of_a_message_are_in_the_reference():
    page = (Path(__file__).parent.parent / "docs/reference/api.md").read_text()
    table = page.partition("## Message\n")[2].partition("\n## ")[0]
    rows = "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))

    assert set(re.findall(r"`(\w+)`", rows)) == {
        *faststream_django.Message.__dataclass_fields__,
        "destination",
    }


def test_message_takes_the_options_of_the_verbs():
    """broker and timeout are about the sending; the rest is about the message."""
    taken = inspect.signature(faststream_django.Message.encode).parameters

    assert set(OPTIONS) - {"timeout"} <= taken.keys()


def test_import_of_the_package_imports_nothing_else(run_script):
    done = run_script("""
        import sys
        before = set(sys.modules)
        import faststream_django
        faststream_django.__version__
        print(sorted(name for name in set(sys.modules) - before if "faststream" in name or name == "asyncio"))
        print("publish" in dir(faststream_django), hasattr(faststream_django, "unknown"))
        from faststream_django import brokers, publish
        print(brokers, publish.__name__)
    """)

    package, names, verbs = done.stdout.splitlines()
    assert package == "['faststream_django']", done.stderr
    assert names == "True False"
    assert verbs.startswith("<faststream_django.registry.Brokers object")
    assert verbs.endswith("publish")


def test_import_is_cheap(run_script):
    done = run_script("""
        import sys, threading
        import faststream_django
        from faststream_django import exceptions, signals, sync
        heavy = {"faststream", "aio_pika", "aiormq", "pamqp", "pydantic", "pydantic_core", "fast_depends"}
        print(sorted(heavy & sys.modules.keys()), threading.active_count())
        from django.conf import settings
        print(settings.configured)
    """)

    assert done.stdout.splitlines() == ["[] 1", "False"], done.stderr


def test_setup_of_django_imports_no_driver(run_script):
    done = run_script("""
        import sys, threading, django
        django.setup()
        heavy = {"faststream", "aio_pika", "aiormq", "pamqp", "pydantic", "pydantic_core", "fast_depends"}
        print(sorted(heavy & sys.modules.keys()), threading.active_count())
    """)

    assert done.stdout.splitlines() == ["[] 1"], done.stderr


def test_encoding_text_and_bytes_imports_no_driver(run_script):
    """What a web process does before its first publish stays cheap too."""
    done = run_script("""
        import sys
        from faststream_django import Message
        Message.encode("text", "orders")
        print(sorted({"faststream", "aio_pika", "aiormq"} & sys.modules.keys()))
    """)

    assert done.stdout.splitlines() == ["[]"], done.stderr
