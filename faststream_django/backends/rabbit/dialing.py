"""Opens a connection to one node, as the settings of an alias say."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from faststream.rabbit import RabbitBroker
from yarl import URL

from faststream_django.backends.rabbit.connection import RabbitConnection, make_wire
from faststream_django.backends.rabbit.errors import connect_error, drop_frames
from faststream_django.conf.entries import BrokerSettings

__all__ = ["broker_from_options", "dial"]


def broker_from_options(settings: BrokerSettings, url: str) -> RabbitBroker:
    """Return a FastStream broker with the settings' OPTIONS, which is never connected."""
    return RabbitBroker(url, **{"logger": logging.getLogger("faststream_django"), **settings.options})


async def dial(
    settings: BrokerSettings, make_broker: Callable[[str], RabbitBroker], url: str, *, role: str = ""
) -> RabbitConnection:
    """Return a connection; raise BrokerUnavailable or BrokerRefused with the reason.

    A FastStream broker is made for the URL, for its security options. `role` is a word for those who look
    at the connections of the broker.
    """
    connection = _connection(settings, make_broker, url, role)
    try:
        await connection.connect()
    except Exception as error:
        await _close_quietly(connection)
        drop_frames(error)
        raise connect_error(error) from error
    except BaseException:
        await _close_quietly(connection)
        raise
    return connection


def _connection(
    settings: BrokerSettings, make_broker: Callable[[str], RabbitBroker], url: str, role: str
) -> RabbitConnection:
    # See FastStream's build_url().
    options = make_broker(url)._connection_kwargs  # noqa: SLF001
    given = URL(options["url"])
    name = " ".join(filter(None, (given.query.get("name") or _connection_name(settings.alias), role)))
    target = given.update_query(heartbeat=str(settings.heartbeat), name=name)
    return RabbitConnection(target, wire=make_wire(), context=options["ssl_context"])


def _connection_name(alias: str) -> str:
    """What `rabbitmqctl list_connections` and the management page show."""
    return f"faststream_django {alias} pid={os.getpid()} host={socket.gethostname()}"


async def _close_quietly(connection: RabbitConnection) -> None:
    try:
        await asyncio.wait_for(connection.close(), 1.0)
    except Exception:  # noqa: BLE001 - it is thrown away
        return
