"""What the arguments of the worker mean: whom it consumes from, and how."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from faststream_django.conf.setting import YEAR
from faststream_django.worker.choosing import choose
from faststream_django.worker.discovery import autodiscover
from faststream_django.worker.recycling import Recycling

if TYPE_CHECKING:
    from types import TracebackType

    from faststream.rabbit import RabbitRouter

    from faststream_django.conf.entries import BrokerSettings
    from faststream_django.worker.choosing import Chosen

__all__ = ["WrongUsage", "read_arguments", "read_recycling"]

WHOLE_NUMBERS = {
    "concurrency": 1000,
    "prefetch": 65_535,
    "processes": 1000,
    "max_messages": 10**9,
    "max_memory": 10**9,
}
"""The options that are whole numbers from 1, and the largest one of each."""

_MACHINERY = ("faststream_django.", "importlib")


class WrongUsage(Exception):
    """The command cannot do what it is asked for. The text says why."""


def read_arguments(options: Mapping[str, Any]) -> list[Chosen]:
    """Return what is consumed from each broker, with settings as the options change them."""
    _check_numbers(options)
    try:
        chosen = choose(
            _discover(),
            aliases=dict.fromkeys(options["broker"]),
            queues=_names(options["queues"]),
            excluded=_names(options["exclude_queues"]),
        )
    except ImproperlyConfigured as error:
        raise WrongUsage(str(error)) from error
    return [replace(each, settings=_override(each.settings, options)) for each in chosen]


def read_recycling(options: Mapping[str, Any]) -> Recycling | None:
    messages, memory = options["max_messages"], options["max_memory"]
    return None if messages is None and memory is None else Recycling(messages, memory)


def _discover() -> dict[str, list[RabbitRouter]]:
    try:
        return autodiscover()
    except ImproperlyConfigured:
        raise
    except Exception as error:
        told = "".join(traceback.format_exception(error.with_traceback(_of_the_site(error.__traceback__))))
        raise WrongUsage(f"The subscribers cannot be imported:\n{told.rstrip()}") from error


def _of_the_site(frames: TracebackType | None) -> TracebackType | None:
    """Return what follows our own frames, and those of Python's import."""
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(_MACHINERY):
        frames = frames.tb_next
    return frames


def _check_numbers(options: Mapping[str, Any]) -> None:
    for name, most in WHOLE_NUMBERS.items():
        number = options[name]
        if number is not None and not 1 <= number <= most:
            option = f"--{name.replace('_', '-')}"
            raise WrongUsage(f"{option} must be a whole number from 1 to {most:,}, not {number}")
    timeout = options["shutdown_timeout"]
    if timeout is not None and not 0 < timeout <= YEAR:
        raise WrongUsage(f"--shutdown-timeout must be above 0 seconds and at most a year, not {timeout:g}")


def _override(settings: BrokerSettings, options: Mapping[str, Any]) -> BrokerSettings:
    changes = {name: options[name] for name in ("concurrency", "prefetch") if options[name] is not None}
    timeout = options["shutdown_timeout"]
    return replace(
        settings,
        worker=replace(settings.worker, **changes),
        shutdown_timeout=settings.shutdown_timeout if timeout is None else timeout,
    )


def _names(lists: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for each in lists for name in each.split(",") if name))
