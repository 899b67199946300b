"""OPTIONS: keyword arguments for FastStream's broker, as objects or as dotted paths to them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from faststream_django.conf.setting import did_you_mean, shown
from faststream_django.exceptions import InvalidBroker

if TYPE_CHECKING:
    from faststream_django.conf.setting import Setting

__all__ = ["read_options"]

_OWNED = {
    "url": "set 'URL'",
    "host": "put it into 'URL'",
    "port": "put it into 'URL'",
    "virtualhost": "put it into 'URL'",
    "timeout": "set 'CONNECT_TIMEOUT'",
    "fail_fast": "lost connections are replaced; set 'CONNECT_TIMEOUT' for each attempt",
    "reconnect_interval": "lost connections are replaced, after a growing interval",
    "default_channel": "channels are opened as they are needed; set 'MAX_IN_FLIGHT' to limit them",
    "on_close": "a lost connection is logged by 'faststream_django.connection'",
    "on_reconnected": "a new connection is logged by 'faststream_django.connection'",
    "routers": "put them into the subscribers.py of an installed app",
}
_OWNED_PROPERTIES = {"heartbeat": "HEARTBEAT", "connection_timeout": "CONNECT_TIMEOUT"}
_IMPORTED = (
    "codec",
    "context",
    "decoder",
    "id_generator",
    "logger",
    "parser",
    "provider",
    "security",
    "serializer",
)
_IMPORTED_LISTS = ("dependencies", "middlewares")


def read_options(given: Setting) -> dict[str, Any]:
    """Validate the names and import the dotted paths; imports FastStream if there are any."""
    if not given.mapping():
        return {}
    for name in given.value:
        if name in _OWNED:
            given.refuse(f"{name!r} is not an option here: {_OWNED[name]}")
        if name not in _known_options():
            hint = did_you_mean(name, _known_options(), listed=True)
            given.refuse(f"unknown option {shown(name)}{hint}")
    return {name: _read_option(name, given[name]) for name in given.value}


@cache
def _known_options() -> tuple[str, ...]:
    # By its path, like the options themselves: what stands above imports no driver.
    broker = import_string("faststream.rabbit.RabbitBroker")
    return tuple(name for name in inspect.signature(broker).parameters if name not in _OWNED)


def _read_option(name: str, given: Setting) -> Any:
    if name in _IMPORTED:
        return _imported(given)
    if name in _IMPORTED_LISTS:
        if not isinstance(given.value, (list, tuple)):
            given.refuse("must be a list of objects or of dotted paths to them")
        return tuple(_imported(given[index]) for index in range(len(given.value)))
    if name == "app_id" and given.value is not None:
        return given.text()
    if name == "client_properties" and isinstance(given.value, Mapping):
        for key, instead in _OWNED_PROPERTIES.items():
            if key in given.value:
                given.refuse(f"{key!r} is not a property here: set {instead!r}")
    return given.value


def _imported(given: Setting) -> Any:
    if not isinstance(given.value, str):
        return given.value
    path = given.dotted_path()
    try:
        return import_string(path)
    except ImportError as error:
        raise InvalidBroker(f"{given.place}: cannot import {path!r}: {error}") from error
