"""Passwords that change while connections live, as tokens do."""

import pytest

from faststream_django.backends.rabbit import RabbitBackend
from faststream_django.conf import broker_settings_from
from faststream_django.connection import Connection
from faststream_django.messages import Message


@pytest.fixture
def user(rabbitmq):
    rabbitmq.ctl("add_user", "rotating", "first")
    rabbitmq.ctl("set_permissions", "rotating", ".*", ".*", ".*")
    yield "rotating"
    rabbitmq.ctl("delete_user", "rotating")


@pytest.fixture
def connection(rabbitmq, user):
    passwords = ["first"]
    url = rabbitmq.url(user).replace(":guest@", "@")
    settings = broker_settings_from(
        "default", {"URL": url, "PASSWORD": lambda: passwords[-1], "SHUTDOWN_TIMEOUT": 2.0}
    )
    connection = Connection(settings, lambda: RabbitBackend(settings))
    connection.passwords = passwords
    yield connection
    connection.stop()


def test_new_connection_logs_in_with_the_new_password(rabbitmq, connection, queue):
    connection.send(Message.encode(b"1", queue))
    rabbitmq.ctl("change_password", "rotating", "second")
    connection.passwords.append("second")
    rabbitmq.ctl("close_all_user_connections", "rotating", "rotated")

    connection.send(Message.encode(b"2", queue), 20)

    assert [each.body for each in rabbitmq.drain(queue)] == [b"1", b"2"]
