import logging
import threading

import pytest

from faststream_django import publish
from tests.waiting import wait_until
from tests.worker.apps import ROUTER


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("kind", "look"), [("def", "look()"), ("async def", "await sync_to_async(look)()")])
def test_connection_is_closed_in_the_thread_of_the_handler(make_app, memory, kind, look):
    load = make_app(
        f"""{ROUTER}
from asgiref.sync import sync_to_async
from django.db import connections
from tests.test_app.models import Order

def look():
    Order.objects.count()
    seen.append((connections["default"], threading.get_ident()))

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
    [(connection, thread)] = load().seen
    assert connection.connection is None
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
    settings.FASTSTREAM = {
        "default": {**settings.FASTSTREAM["default"], "OPTIONS": options, "WORKER": {"ATTEMPTS": 1}}
    }
    caplog.set_level(logging.DEBUG)

    publish({"card": "4929-secret", "name": "secret-name"}, queue)
    # The last of what is written, by another thread.
    wait_until(lambda: f"is in '{queue}.dlq'" in caplog.text)

    assert "secret" not in caplog.text
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.exc_info
    assert "2 of the values do not fit" in caplog.text
    assert "card: Input should be a valid integer" in caplog.text
    assert "name: value_error" in caplog.text
