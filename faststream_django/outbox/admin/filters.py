"""By what the list is narrowed down; each filter is a part of a Selection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from faststream_django.outbox.durations import parse_duration
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.operating import outbox_aliases
from faststream_django.outbox.selecting import WORDS, Selection, brokers_in

__all__ = ["AgeFilter", "BrokerFilter", "NarrowingFilter", "QueueFilter", "StateFilter"]

SAMPLE = 500
"""The rows at each end of the table whose queues are offered."""


class NarrowingFilter(SimpleListFilter):
    """A filter that says what it means as fields of a Selection, too."""

    def narrow(self) -> dict[str, Any]:
        """Return the fields."""
        value = self.value()
        return {} if value is None else self.fields(value)

    def fields(self, value: str) -> dict[str, Any]:
        raise NotImplementedError

    def queryset(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[OutboxMessage],
    ) -> QuerySet[OutboxMessage]:
        return Selection(**self.narrow()).narrowed(queryset)


class StateFilter(NarrowingFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        return [(word, word.capitalize()) for word in WORDS]

    def fields(self, value: str) -> dict[str, Any]:
        return {"states": WORDS[value]} if value in WORDS else {}


class BrokerFilter(NarrowingFilter):
    title = "broker"
    parameter_name = "broker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        using = model_admin.get_queryset(request).db
        return [(alias, alias) for alias in sorted({*outbox_aliases(), *brokers_in(using)})]

    def fields(self, value: str) -> dict[str, Any]:
        return {"broker": value}


class AgeFilter(NarrowingFilter):
    title = "age"
    parameter_name = "older_than"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        return [
            ("1m", "More than a minute"),
            ("10m", "More than 10 minutes"),
            ("1h", "More than an hour"),
            ("1d", "More than a day"),
            ("7d", "More than a week"),
        ]

    def fields(self, value: str) -> dict[str, Any]:
        try:
            return {"older_than": parse_duration(value)}
        except ValueError:
            return {}


class QueueFilter(NarrowingFilter):
    """A box to type in, since to find all the queues of a big table would mean to read it."""

    title = "queue or routing key"
    parameter_name = "queue"
    template = "admin/faststream_outbox/queue_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        using = model_admin.get_queryset(request).db
        names = OutboxMessage.objects.using(using).values_list("routing_key", flat=True)
        sample = {*names.order_by("pk")[:SAMPLE], *names.order_by("-pk")[:SAMPLE]}
        return [(name, name) for name in sorted(sample)]

    def has_output(self) -> bool:
        return True

    def fields(self, value: str) -> dict[str, Any]:
        return {"queue": value}

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yield one choice: what the template needs."""
        kept = changelist.get_filters_params()
        kept.pop(self.parameter_name, None)
        yield {
            "name": self.parameter_name,
            "value": self.value() or "",
            "suggested": [name for name, _ in self.lookup_choices],
            "kept": [(name, value) for name, values in kept.items() for value in _as_list(values)],
            "without": changelist.get_query_string(remove=[self.parameter_name]),
        }


def _as_list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]
