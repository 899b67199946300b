"""The relays of the outbox beside a worker, where that app is installed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from faststream_django.management.consuming.arguments import WrongUsage
from faststream_django.worker.worker import LOOP_PATIENCE, PART

if TYPE_CHECKING:
    from faststream_django.liveness import Liveness
    from faststream_django.outbox.relay.running import Relays

__all__ = ["Pairs", "make_relays", "patience_with", "relayed_pairs"]

Pairs = list[tuple[str, str]]
"""Databases and aliases of brokers."""


def relayed_pairs() -> Pairs:
    """Return for what relays run; raise WrongUsage if there is nothing to relay."""
    if not apps.is_installed("faststream_django.outbox"):
        raise WrongUsage("--relay needs 'faststream_django.outbox' in INSTALLED_APPS")
    from faststream_django.outbox.relay.pairs import chosen_pairs

    try:
        return chosen_pairs((), ())
    except ImproperlyConfigured as error:
        raise WrongUsage(f"--relay: {error}") from None


def make_relays(pairs: Pairs, liveness: Liveness | None) -> Relays | None:
    if not pairs:
        return None
    from faststream_django.outbox.relay.running import Relays

    return Relays(pairs, liveness=liveness)


def patience_with(pairs: Pairs) -> dict[Hashable, float]:
    """Return for each part of the process the longest time in seconds between two signs of life."""
    if not pairs:
        return {PART: LOOP_PATIENCE}
    from faststream_django.outbox.relay.running import relay_patience

    return {PART: LOOP_PATIENCE, **relay_patience(pairs)}
