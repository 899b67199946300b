"""A def handler runs in one thread with all that it depends on, and gets what FastStream gives it."""

import contextlib
import contextvars
import threading
from typing import Annotated

import pytest
from fast_depends.library import CustomField
from faststream import BaseMiddleware, Context, Depends, Header, Path
from faststream.exceptions import AckMessage, SetupError
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue, RabbitRouter
from faststream.rabbit.annotations import ContextRepo, RabbitMessage
from faststream.rabbit.message import RabbitMessage as DriverMessage
from faststream.specification import AsyncAPI
from pydantic import BaseModel, ValidationError

from faststream_django.worker.options import change_options
from tests.worker.bench import Bench

color = contextvars.ContextVar("color", default="none")


class Order(BaseModel):
    number: int


@pytest.fixture
def ours():
    with contextlib.closing(Bench()) as bench:
        yield bench


@pytest.fixture(params=["ours", "FastStream's"])
def bench(request):
    """What is tested with it is true of FastStream's own injection, too."""
    with contextlib.closing(Bench(is_ours=request.param == "ours")) as bench:
        yield bench


@pytest.fixture(params=["def", "async def"])
def kind(request):
    """Make a handler of a plain function."""

    def make(function):
        if request.param == "def":
            return function

        namespace = {}
        exec(
            "import functools\n"
            "@functools.wraps(function)\n"
            "async def handler(*args, **kwargs):\n"
            "    return function(*args, **kwargs)",
            {"function": function},
            namespace,
        )
        return namespace["handler"]

    return make


# What FastStream gives.


@pytest.mark.parametrize(
    ("body", "expected"), [({"number": "1"}, [(1, "x")]), ({"number": 2, "name": "y"}, [(2, "y")])]
)
def test_fields_of_a_message_are_arguments(bench, kind, body, expected):
    broker = bench.broker()

    @broker.subscriber("orders")
    @kind
    def handle(number: int, name: str = "x"):
        bench.seen.append((number, name))

    assert bench.handle(broker, body) == expected


def test_items_of_a_message_are_arguments(bench, kind):
    broker = bench.broker()

    @broker.subscriber("orders")
    @kind
    def handle(*numbers):
        bench.seen.append(numbers)

    assert bench.handle(broker, ["1", "2"]) == [("1", "2")]


def test_message_is_validated(bench, kind):
    broker = bench.broker()

    @broker.subscriber("orders")
    @kind
    def handle(order: Order):
        bench.seen.append(order)

    assert bench.handle(broker, {"number": "7"}) == [Order(number=7)]
    with pytest.raises(ValidationError):
        bench.handle(broker, {"number": "many"})


def test_returned_value_is_validated(bench, kind):
    broker = bench.broker()

    @broker.subscriber("done")
    @kind
    def done(body):
        bench.seen.append(body)

    @broker.subscriber("orders")
    @broker.publisher("done")
    @kind
    def handle(body: str) -> int:
        return body

    assert bench.handle(broker, "7") == [7]
    with pytest.raises(ValidationError):
        bench.handle(broker, "x")


def test_context_headers_and_annotations_are_injected(bench, kind):
    broker = bench.broker()
    broker.context.set_global("shop", {"name": "ours"})

    @broker.subscriber("orders")
    @kind
    def handle(
        body: str,
        message: RabbitMessage,
        repo: ContextRepo,
        tenant: Annotated[str, Header()],
        missing: Annotated[str, Header(default="no")],
        shop: str = Context("shop.name"),
        raw: str = Context("message.raw_message.routing_key"),
        made: list = Context(initial=list),  # noqa: B008
        given: str = Context(default="default"),
    ):
        same = repo.get("message") is message
        bench.seen.append((body, message.correlation_id, same, tenant, missing, shop, raw, made, given))

    seen = bench.handle(broker, "x", correlation_id="7", headers={"tenant": "t"})

    assert seen == [("x", "7", True, "t", "no", "ours", "orders", [], "default")]


def test_parts_of_the_routing_key_are_injected(bench, kind):
    broker = bench.broker()
    exchange = RabbitExchange("shop", type=ExchangeType.TOPIC)

    @broker.subscriber(RabbitQueue("orders", routing_key="orders.{number}"), exchange)
    @kind
    def handle(body: str, number: Annotated[int, Path()]):
        bench.seen.append((body, number))

    assert bench.handle(broker, "x", exchange=exchange, routing_key="orders.7") == [("x", 7)]


def test_context_variable_of_a_middleware_is_seen(bench, kind):
    class Paint(BaseMiddleware):
        async def consume_scope(self, call_next, message):
            color.set("red")
            return await call_next(message)

    broker = bench.broker(middlewares=[Paint])

    @broker.subscriber("orders")
    @kind
    def handle(body):
        bench.seen.append(color.get())

    assert bench.handle(broker, "x") == ["red"]


def test_dependencies_are_solved_once_each(bench, kind):
    broker = bench.broker()

    def session(message: RabbitMessage):
        bench.seen.append("session")
        return message.correlation_id

    async def tenant(session: Annotated[str, Depends(session)]):
        return f"tenant of {session}"

    class Service:
        def __init__(self, session: Annotated[str, Depends(session)]):
            self.session = session

    @broker.subscriber("orders")
    @kind
    def handle(
        body: str,
        service: Annotated[Service, Depends(Service)],
        tenant: Annotated[str, Depends(tenant)],
        fresh: Annotated[str, Depends(lambda: "fresh")],
    ):
        bench.seen.append((body, service.session, tenant, fresh))

    seen = bench.handle(broker, "x", correlation_id="7")

    assert seen == ["session", ("x", "7", "tenant of 7", "fresh")]


def test_dependency_may_take_fields_of_the_message(bench, kind):
    broker = bench.broker()

    def double(number: int):
        return 2 * number

    @broker.subscriber("orders")
    @kind
    def handle(name: str, double: Annotated[int, Depends(double)]):
        bench.seen.append((name, double))

    assert bench.handle(broker, {"name": "x", "number": "7"}) == [("x", 14)]


@pytest.mark.parametrize("fails", [False, True])
def test_dependencies_that_yield_surround_the_handler(bench, kind, fails):
    broker = bench.broker()

    def outer():
        bench.seen.append("outer in")
        try:
            yield 1
        except ValueError:
            bench.seen.append("outer failed")
            raise
        finally:
            bench.seen.append("outer out")

    async def inner(outer: Annotated[int, Depends(outer)]):
        bench.seen.append("inner in")
        try:
            yield outer + 1
        except ValueError:
            bench.seen.append("inner failed")
            raise
        finally:
            bench.seen.append("inner out")

    @broker.subscriber("orders")
    @kind
    def handle(body: str, number: Annotated[int, Depends(inner)]):
        bench.seen.append(number)
        if fails:
            raise ValueError("sold out")

    with pytest.raises(ValueError, match="sold out") if fails else contextlib.nullcontext():
        bench.handle(broker, "x")

    if fails:
        failed = ["inner failed", "inner out", "outer failed", "outer out"]
        assert bench.seen == ["outer in", "inner in", 2, *failed]
    else:
        assert bench.seen == ["outer in", "inner in", 2, "inner out", "outer out"]


def test_dependencies_of_broker_router_subscriber_and_call_are_solved_in_their_order(bench, kind):
    def note(name):
        return Depends(lambda: bench.seen.append(name))

    async def note_later():
        bench.seen.append("call")

    router = RabbitRouter(dependencies=[note("router")])
    subscriber = router.subscriber("orders", dependencies=[note("subscriber")])

    @subscriber(dependencies=[Depends(note_later)])
    @kind
    def handle(body):
        bench.seen.append(body)

    broker = bench.broker(dependencies=[note("broker")])
    broker.include_router(router)

    assert bench.handle(broker, "x") == ["broker", "router", "subscriber", "call", "x"]


def test_nothing_is_injected_without_types(bench, kind):
    broker = bench.broker(apply_types=False)
    depends = Depends(lambda: 1)

    @broker.subscriber("orders")
    @kind
    def handle(order: Order, one=depends):
        bench.seen.append((order, one))

    assert bench.handle(broker, {"number": "7"}) == [({"number": "7"}, depends)]


@pytest.mark.parametrize("is_async", [False, True])
def test_dependency_can_be_overridden(bench, kind, is_async):
    broker = bench.broker()

    def price():
        return "real"

    def replaced():
        return "replaced"

    async def replaced_later():
        return "replaced"

    @broker.subscriber("orders")
    @kind
    def handle(body, price: Annotated[str, Depends(price)]):
        bench.seen.append(price)

    with broker.provider.scope(price, replaced_later if is_async else replaced):
        bench.handle(broker, "x")
    bench.handle(broker, "x")

    assert bench.seen == ["replaced", "real"]


@pytest.mark.parametrize("is_async", [False, True])
def test_fields_of_the_users_own_are_injected(bench, kind, is_async):
    class Upper(CustomField):
        if is_async:

            async def use(self, **kwargs):
                return {**kwargs, self.param_name: kwargs["body"].upper()}
        else:

            def use(self, **kwargs):
                return {**kwargs, self.param_name: kwargs["body"].upper()}

    broker = bench.broker()

    @broker.subscriber("orders")
    @kind
    def handle(body: str, upper: Annotated[str, Upper()]):
        bench.seen.append((body, upper))

    assert bench.handle(broker, "x") == [("x", "X")]


def test_handler_can_still_be_called(bench):
    broker = bench.broker()

    @broker.subscriber("orders")
    def handle(number, name="x"):
        return number, name

    bench.handle(broker, "1")

    assert handle(7, name="y") == (7, "y")


def test_handler_may_return_a_generator(bench):
    """Which FastStream takes for a value, and sends as JSON."""
    broker = bench.broker()

    @broker.subscriber("done")
    def done(*numbers):
        bench.seen.append(numbers)

    @broker.subscriber("orders")
    @broker.publisher("done")
    def handle(body):
        yield from (1, 2)

    assert bench.handle(broker, "x") == [(1, 2)]


def test_annotation_that_cannot_be_injected_is_an_error_at_start(bench, kind):
    broker = bench.broker()

    @broker.subscriber("orders")
    @kind
    def handle(body, message: DriverMessage): ...

    with pytest.raises(SetupError, match="which FastStream cannot inject"):
        bench.handle(broker)


def test_schema_is_that_of_faststream(ours, kind):
    def schema(broker):
        def tenant(name: str): ...

        @broker.subscriber("orders")
        @broker.publisher("done")
        @kind
        def handle(order: Order, tenant: Annotated[str, Depends(tenant)], message: RabbitMessage) -> int: ...

        return AsyncAPI(broker).to_specification().to_jsonable()

    assert schema(ours.broker()) == schema(RabbitBroker())


# What is ours.


def test_all_that_is_def_runs_in_the_thread_of_the_handler(ours):
    """So that a transaction of one of them is that of the others, and one hop is enough."""
    broker = ours.broker()

    def note(name):
        ours.seen.append((name, threading.current_thread()))

    def outer():
        note("in")
        yield
        note("out")

    async def later(outer: Annotated[None, Depends(outer)]):
        note("async")

    def inner(later: Annotated[None, Depends(later)]):
        note("inner")

    @broker.subscriber("orders")
    def handle(body, inner: Annotated[None, Depends(inner)]):
        note("handler")

    ours.handle(broker, "x")

    [thread] = ours.threads._threads
    main = threading.current_thread()
    assert ours.seen == [
        ("in", thread),
        ("async", main),
        ("inner", thread),
        ("handler", thread),
        ("out", thread),
    ]


def test_all_that_is_def_around_an_async_handler_runs_in_our_threads(ours):
    broker = ours.broker()

    def note(name):
        ours.seen.append((name, threading.current_thread()))

    def outer():
        note("in")
        yield
        note("out")

    def made():
        note("initial")

    class Field(CustomField):
        def use(self, **kwargs):
            note("field")
            return {**kwargs, self.param_name: 1}

    @broker.subscriber("orders")
    async def handle(
        body,
        outer: Annotated[None, Depends(outer)],
        field: Annotated[int, Field()],
        made=Context(initial=made),  # noqa: B008
    ):
        note("handler")

    ours.handle(broker, "x")

    [thread] = ours.threads._threads
    main = threading.current_thread()
    assert ours.seen == [
        ("in", thread),
        ("field", thread),
        ("initial", thread),
        ("handler", main),
        ("out", thread),
    ]


def test_context_variable_of_an_async_dependency_is_seen_by_the_handler(bench, kind):
    broker = bench.broker()

    async def paint():
        color.set("green")

    @broker.subscriber("orders", dependencies=[Depends(paint)])
    @kind
    def handle(body):
        bench.seen.append(color.get())

    assert bench.handle(broker, "x") == ["green"]


def scope(seen, name):
    @contextlib.contextmanager
    def entered(message):
        seen.append((f"{name} in", message.correlation_id, threading.current_thread()))
        try:
            yield
        finally:
            seen.append(f"{name} out")

    return entered


def test_scopes_surround_the_handler_and_its_dependencies_in_their_thread(ours):
    broker = ours.broker()

    def depend():
        ours.seen.append("dependency in")
        yield
        ours.seen.append("dependency out")

    @broker.subscriber("orders")
    def handle(body, depend: Annotated[None, Depends(depend)]):
        ours.seen.append("handler")

    change_options(handle, scopes=(scope(ours.seen, "outer"), scope(ours.seen, "inner")))

    ours.handle(broker, "x", correlation_id="7")

    [thread] = ours.threads._threads
    assert ours.seen == [
        ("outer in", "7", thread),
        ("inner in", "7", thread),
        "dependency in",
        "handler",
        "dependency out",
        "inner out",
        "outer out",
    ]


def test_scopes_surround_a_handler_without_types(ours):
    broker = ours.broker(apply_types=False)

    @broker.subscriber("orders")
    def handle(body):
        ours.seen.append(body)

    change_options(handle, scopes=(scope(ours.seen, "only"),))

    assert ours.handle(broker, "x")[1:] == ["x", "only out"]


def test_scope_may_leave_a_message_alone(ours):
    broker = ours.broker()

    @contextlib.contextmanager
    def handled_before(message):
        raise AckMessage
        yield

    @broker.subscriber("orders", dependencies=[Depends(lambda: ours.seen.append("dependency"))])
    def handle(body):
        ours.seen.append(body)

    change_options(handle, scopes=(scope(ours.seen, "outer"), handled_before))

    assert ours.handle(broker, "x")[1:] == ["outer out"]


def test_error_that_a_dependency_swallows_fails_the_message(ours):
    """Else the message would be acknowledged, and not handled."""
    broker = ours.broker()

    def swallow():
        with contextlib.suppress(ValueError):
            yield

    @broker.subscriber("orders", dependencies=[Depends(swallow)])
    def handle(body):
        raise ValueError

    with pytest.raises(RuntimeError, match=r"dependency of handle\(\) has swallowed an error"):
        ours.handle(broker, "x")


def test_scope_of_a_handler_that_was_made_async_is_refused(ours):
    """It cannot be kept, and must not be forgotten."""
    from asgiref.sync import sync_to_async

    broker = ours.broker()

    def handle(body): ...

    change_options(handle, scopes=(scope(ours.seen, "only"),))
    broker.subscriber("orders")(sync_to_async(handle))

    with pytest.raises(TypeError, match=r"handle\(\) .* needs a def handler"):
        ours.handle(broker)
