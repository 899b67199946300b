import math

import pytest
from django.db import OperationalError
from faststream.rabbit import RabbitRouter

from faststream_django.conf.worker import WorkerSettings
from faststream_django.worker.options import handler_options
from faststream_django.worker.retrying import RetryPlan, delay, delays, plan_of, retry


def handle(body): ...


def decorated(*arguments, **options):
    def handler(body): ...

    return plan_of(retry(*arguments, **options)(handler), WorkerSettings())


def test_policy_is_noted_on_the_handler():
    policy = decorated(3, backoff=(0.5, 60), on=(OperationalError, OSError))

    assert policy == RetryPlan(3, (0.5, 60.0), (OperationalError, OSError))


def test_what_is_left_out_is_as_the_settings_say():
    settings = WorkerSettings(attempts=7, backoff=(2.0, 9.0))

    assert plan_of(handle, settings) == RetryPlan(7, (2.0, 9.0))
    assert plan_of(None, settings) == RetryPlan(7, (2.0, 9.0))
    assert plan_of(retry(on=OSError)(lambda body: None), settings).attempts == 7
    assert plan_of(retry(2)(lambda body: None), settings).backoff == (2.0, 9.0)


@pytest.mark.parametrize("attempts", [0, 1])
def test_no_and_one_attempt_both_mean_never_again(attempts):
    assert decorated(attempts).attempts == 1


def test_decorator_works_above_and_below_the_subscriber_and_on_coroutines():
    router = RabbitRouter()

    @router.subscriber("below")
    @retry(2)
    async def below(body): ...

    @retry(3)
    @router.subscriber("above")
    def above(body): ...

    assert handler_options(below).retry.attempts == 2
    assert handler_options(above).retry.attempts == 3


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"attempts": handle}, TypeError, "write the parentheses"),
        ({"attempts": OSError}, TypeError, "OSError"),
        ({"attempts": 2.5}, TypeError, "number of attempts"),
        ({"attempts": True}, TypeError, "number of attempts"),
        ({"attempts": -1}, ValueError, "0 to 1000, not -1"),
        ({"attempts": 1001}, ValueError, "0 to 1000"),
        ({"backoff": 5}, TypeError, r"backoff=\(1, 300\)"),
        ({"backoff": (1, 2, 3)}, TypeError, r"backoff=\(1, 300\)"),
        ({"backoff": (1, "2")}, TypeError, r"backoff=\(1, 300\)"),
        ({"backoff": (math.nan, 2)}, TypeError, r"backoff=\(1, 300\)"),
        ({"backoff": (0, 2)}, ValueError, "above 0"),
        ({"backoff": (5, 2)}, ValueError, "the first wait"),
        ({"backoff": (1, 1e9)}, ValueError, "2_592_000"),
        ({"on": "OperationalError"}, TypeError, "subclasses of Exception"),
        ({"on": (OSError, handle)}, TypeError, "subclasses of Exception"),
        ({"on": KeyboardInterrupt}, TypeError, "KeyboardInterrupt is none"),
        ({"on": int}, TypeError, "int is none"),
        ({"on": ()}, ValueError, r"@retry\(0\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistake_is_named_where_it_is_made(arguments, error, words):
    with pytest.raises(error, match=words):
        retry(**arguments)


def test_something_else_than_a_handler_is_refused():
    with pytest.raises(TypeError, match="not callable"):
        retry()("orders")


def test_wait_doubles_up_to_the_longest():
    waits = [delay((1.0, 300.0), attempt, vary=False) / 1000 for attempt in range(1, 13)]

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_waits_vary_by_less_than_a_fifth_and_are_few():
    policy = ((1.0, 300.0), 5)
    seen = {delay((1.0, 300.0), attempt) for attempt in range(1, 5) for _ in range(200)}

    assert seen == set(delays(*policy))
    assert len(seen) == 12
    for attempt in range(1, 5):
        step = delay((1.0, 300.0), attempt, vary=False)
        assert all(0.8 < wait / step < 1.2 for wait in (delay((1.0, 300.0), attempt) for _ in range(50)))


def test_steps_of_the_same_length_share_their_queues():
    assert delays((10.0, 10.0), 1000) == [8500, 10_000, 11_500]
    assert delays((10.0, 10.0), 1000, vary=False) == [10_000]


def test_short_wait_is_a_millisecond_at_least():
    assert delay((0.0001, 1.0), 1) == 1
