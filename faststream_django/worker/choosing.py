"""Which subscribers a worker runs: those of the aliases and of the queues that it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, cast

from django.core.exceptions import ImproperlyConfigured

from faststream_django.conf.entries import broker_settings
from faststream_django.conf.setting import did_you_mean, shown
from faststream_django.worker.source import queue_name

if TYPE_CHECKING:
    from faststream.rabbit import RabbitRouter
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["Chosen", "WrongChoice", "choose"]

Routers = Mapping[str, "Collection[RabbitRouter]"]
"""The routers of each alias."""


class WrongChoice(ImproperlyConfigured):
    """The subscribers that are asked for do not exist, or cannot be run by a worker."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a worker consumes from one broker."""

    settings: BrokerSettings
    routers: tuple[RabbitRouter, ...]
    queues: frozenset[str]


def choose(
    found: Routers,
    *,
    aliases: Collection[str] = (),
    queues: Collection[str] = (),
    excluded: Collection[str] = (),
) -> list[Chosen]:
    """Return what is to be consumed from each broker: by default all that has subscribers.

    Raise WrongChoice, or what broker_settings() raises.
    """
    chosen = {alias: found.get(alias, ()) for alias in aliases} if aliases else _for_workers(found)
    for alias, routers in chosen.items():
        _refuse_what_no_worker_runs(alias, routers)
    consumed = {alias: _queues(routers) for alias, routers in chosen.items()}
    known = sorted({*chain.from_iterable(consumed.values())})
    if not known:
        raise WrongChoice(
            "There is nothing to consume: no subscribers.py of an installed app has a FastStream "
            "RabbitRouter with subscribers at its module level"
        )
    _check_queues(known, queues, excluded)
    wanted = {name for name in queues or known if name not in excluded}
    if not wanted:
        raise WrongChoice(f"--exclude-queues leaves nothing to consume: the queues are {_listed(known)}")
    return [
        Chosen(broker_settings(alias), tuple(chosen[alias]), frozenset(names & wanted))
        for alias, names in consumed.items()
        if names & wanted
    ]


def _for_workers(found: Routers) -> dict[str, Collection[RabbitRouter]]:
    """Return those with subscribers; without embedded brokers, unless there are no others."""
    consumed = {alias: routers for alias, routers in found.items() if _queues(routers)}
    others = {alias: routers for alias, routers in consumed.items() if not broker_settings(alias).is_embedded}
    return others or consumed


def _refuse_what_no_worker_runs(alias: str, routers: Collection[RabbitRouter]) -> None:
    if broker_settings(alias).is_embedded:
        raise WrongChoice(
            f"Broker {shown(alias)} is the embedded one (memory://): the process that publishes "
            "consumes as well, no worker is needed. Set its 'URL' to amqp://... to run a worker"
        )
    if not _queues(routers):
        raise WrongChoice(
            f"There is nothing to consume from broker {shown(alias)}: no subscribers.py of an installed app "
            "has a router for it with subscribers at its module level"
        )


def _check_queues(known: list[str], queues: Collection[str], excluded: Collection[str]) -> None:
    for option, names in (("--queues", queues), ("--exclude-queues", excluded)):
        for name in names:
            if name not in known:
                raise WrongChoice(
                    f"{option}: no subscriber consumes the queue {shown(name)}{did_you_mean(name, known)}; "
                    f"the queues are {_listed(known)}"
                )
    if both := sorted({*queues} & {*excluded}):
        raise WrongChoice(f"--queues and --exclude-queues both name {_listed(both)}: leave it out of one")


def _queues(routers: Iterable[RabbitRouter]) -> set[str]:
    return {queue_name(cast("RabbitSubscriber", each)) for router in routers for each in router.subscribers}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))
