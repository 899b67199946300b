"""What can be idempotent, and in which words it is asked for."""

import functools

import pytest
from faststream.rabbit import RabbitRouter

from faststream_django.inbox import idempotent
from faststream_django.inbox.idempotence import Inbox
from faststream_django.worker.options import handler_options
from faststream_django.worker.transactions import Transaction, transaction


def handler(message): ...


async def coroutine(message): ...


class Handler:
    def __call__(self, message): ...


class AsyncHandler:
    async def __call__(self, message): ...


def inbox_of(handler):
    (scope,) = handler_options(handler).scopes
    return scope


def fresh(**attributes):
    """Return a handler like any other."""

    def handle(message): ...

    for name, value in attributes.items():
        setattr(handle, name, value)
    return handle


@pytest.mark.parametrize("decorate", [idempotent, idempotent()], ids=["bare", "called"])
def test_decorator_returns_the_handler(decorate):
    handler = fresh()

    assert decorate(handler) is handler
    assert inbox_of(handler) == Inbox("default", None, None, f"{__name__}.fresh.<locals>.handle")


def test_arguments_are_kept():
    handler = idempotent(using="other", key="order", consumer="billing")(fresh())

    assert inbox_of(handler) == Inbox("other", "order", "billing", f"{__name__}.fresh.<locals>.handle")


def test_place_above_or_below_the_subscriber_is_the_same():
    router = RabbitRouter()

    above = idempotent(router.subscriber("a")(fresh()))
    below = router.subscriber("b")(idempotent(fresh()))

    assert inbox_of(above) == inbox_of(below)


def test_name_of_the_handler_survives_another_decorator():
    def doing_more(function):
        @functools.wraps(function)
        def call(message):
            return function(message)

        return call

    assert inbox_of(idempotent(doing_more(fresh()))).handler.endswith("fresh.<locals>.handle")


def test_transaction_of_the_same_database_is_that_of_the_inbox():
    above, below = transaction(idempotent(fresh())), idempotent(transaction(fresh()))

    assert isinstance(inbox_of(above), Inbox)
    assert isinstance(inbox_of(below), Inbox)


def test_inbox_is_around_a_transaction_of_another_database():
    other = transaction(using="other")

    for handler in (other(idempotent(fresh())), idempotent(other(fresh()))):
        inbox, inner = handler_options(handler).scopes
        assert isinstance(inbox, Inbox)
        assert inner == Transaction("other")


@pytest.mark.parametrize(
    "handler",
    [coroutine, AsyncHandler(), functools.partial(coroutine), RabbitRouter().subscriber("a")(coroutine)],
    ids=["function", "object", "partial", "subscriber"],
)
def test_async_handler_is_refused(handler):
    with pytest.raises(TypeError, match="Make it a def"):
        idempotent(consumer="a")(handler)


def test_second_decorator_is_refused():
    with pytest.raises(TypeError, match="twice"):
        idempotent(using="other")(idempotent(fresh()))


@pytest.mark.parametrize(
    "handler",
    [lambda message: None, Handler(), functools.partial(handler)],
    ids=["lambda", "object", "partial"],
)
def test_handler_without_a_name_needs_one(handler):
    with pytest.raises(TypeError, match="consumer="):
        idempotent(handler)

    assert idempotent(consumer="a")(handler) is handler


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"using": ""}, "using"),
        ({"using": None}, "using"),
        ({"consumer": ""}, "consumer"),
        ({"consumer": 7}, "consumer"),
        ({"key": ""}, "key"),
        ({"key": 7}, "key"),
    ],
)
def test_wrong_argument_is_refused(arguments, text):
    with pytest.raises(TypeError, match=rf"@idempotent\({text}="):
        idempotent(**arguments)


def test_argument_without_its_name_is_refused():
    with pytest.raises(TypeError, match=r"write @idempotent\(using='other'\)"):
        idempotent("other")
