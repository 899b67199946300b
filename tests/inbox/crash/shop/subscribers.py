"""A handler that notes each time it ran in the transaction of the inbox, and fails now and then."""

import os
import random
import time

from django.db import connection
from faststream.rabbit import RabbitMessage, RabbitRouter

from faststream_django.inbox import idempotent

QUEUE = "inbox-crash"

router = RabbitRouter()


class Failed(Exception):
    """One of ten messages raises it."""


@router.subscriber(QUEUE)
@idempotent
def handle(body: int, message: RabbitMessage) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effects VALUES (%s, %s)", [message.raw_message.message_id, os.getpid()])
    time.sleep(random.choice((0.0, 0.0, 0.002, 0.01)))
    if random.random() < 0.1:
        raise Failed
