"""What a page asks the broker; whatever it answers, there is a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404

from faststream_django.backends.operating import OperationRefused
from faststream_django.conf.entries import BrokerSettings, broker_settings, valid_brokers
from faststream_django.dead_letters import operating
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.queues import known_queues, source_queue
from faststream_django.dead_letters.reading import Shelf
from faststream_django.exceptions import BrokerUnavailable, InvalidBroker

__all__ = ["PROBLEMS", "SHOWN", "Place", "letter_at", "shelf_at", "summaries"]

PROBLEMS = (BrokerUnavailable, OperationRefused)
"""What is told on the page. Their texts never hold a URL."""
SHOWN = 50
"""The most dead letters that a page shows, from the head of the queue."""
SEARCHED = 1000
"""The most that are looked through for one."""


@dataclass(frozen=True, slots=True)
class Place:
    """The dead letters of a queue of a broker."""

    settings: BrokerSettings
    queue: str

    @classmethod
    def of(cls, parameters: Any) -> Place:
        """Read it from the parameters of a URL."""
        queue = source_queue(parameters.get("queue", ""))
        try:
            settings = broker_settings(parameters.get("broker", ""))
        except InvalidBroker:
            raise Http404("There is no such broker.") from None
        if not queue:
            raise Http404("There is no such queue.")
        return cls(settings, queue)

    @property
    def broker(self) -> str:
        return self.settings.alias


def summaries() -> list[dict[str, Any]]:
    """Return for each broker its queues with the number of their dead letters, or what is wrong."""
    return [_summary(settings) for settings in valid_brokers()]


def shelf_at(place: Place) -> Shelf:
    return operating.peek(place.settings, place.queue, SHOWN)


def letter_at(place: Place, letter_id: str) -> Letter | None:
    return operating.find(place.settings, [place.queue], letter_id, SEARCHED)


def _summary(settings: BrokerSettings) -> dict[str, Any]:
    summary: dict[str, Any] = {"broker": settings.alias, "queues": [], "problem": ""}
    try:
        queues = known_queues(settings)
    except Exception as error:  # noqa: BLE001 - a module of the site, which may raise anything
        queues = [each.name for each in settings.queues]
        summary["problem"] = (
            f"The subscribers of the installed apps cannot be imported ({type(error).__name__}): only what "
            "QUEUES names is shown."
        )
    try:
        summary["queues"] = list(operating.counts(settings, queues).items())
    except PROBLEMS as error:
        summary["problem"] = str(error)
    return summary
