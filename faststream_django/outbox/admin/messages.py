"""The messages: the list with what waits for each broker, and one message in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import InvalidBroker
from faststream_django.outbox.admin import columns
from faststream_django.outbox.admin.acting import Acting
from faststream_django.outbox.admin.filters import AgeFilter, BrokerFilter, QueueFilter, StateFilter
from faststream_django.outbox.admin.listing import MOST, Count, Listing
from faststream_django.outbox.durations import spoken
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.operating import BrokerStats, stats
from faststream_django.outbox.rows import decode_properties
from faststream_django.outbox.selecting import DEAD, WORDS, starting_with
from faststream_django.outbox.showing import shown_body, shown_headers, size

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

__all__ = ["OutboxMessageAdmin"]

LATE = 60.0
"""Seconds after which the oldest message is shown as late."""


@admin.register(OutboxMessage)
class OutboxMessageAdmin(Acting):
    """Messages that the broker has not confirmed; nothing can be added or changed."""

    list_display = (
        "message_id",
        "shown_state",
        "age",
        "next_attempt",
        "attempts",
        "destination",
        "ordering_key",
        "broker",
    )
    list_display_links = ("message_id",)
    list_filter = (StateFilter, QueueFilter, BrokerFilter, AgeFilter)
    list_per_page = 100
    search_fields = ("message_id",)
    search_help_text = "A message id, or how it begins"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return self.may(request, "view") or self.may(request, "change")

    def has_body_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(f"{self.opts.app_label}.view_body"))

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:  # noqa: ARG002
        """Refuse ?body__contains=..., which would tell letter by letter what is not shown."""
        return lookup in {each.parameter_name for each in self.list_filter}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Listing]:  # noqa: ARG002
        return Listing

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxMessage]:
        return super().get_queryset(request).defer("body", "properties", "last_error")

    def get_object(
        self,
        request: HttpRequest,
        object_id: str,
        from_field: Any = None,  # noqa: ARG002
    ) -> OutboxMessage | None:
        """Return one message; its body stays in the database where it is not to be seen."""
        hidden = () if self.has_body_permission(request) else ("body",)
        try:
            pk = self.opts.pk.to_python(object_id)
        except ValidationError:
            return None
        return self.get_queryset(request).defer(None).defer(*hidden).filter(pk=pk).first()

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[OutboxMessage],
        search_term: str,
    ) -> tuple[QuerySet[OutboxMessage], bool]:
        prefix = search_term.strip()
        return (queryset.filter(starting_with(queryset.db, prefix)) if prefix else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"title": "Messages in the outbox", **(extra_context or {})}
        if request.method == "GET" and self.has_view_permission(request):
            found = stats(self.get_queryset(request).db, most=MOST)
            context["summary"] = [_summary(broker, each) for broker, each in found.items()]
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {
            **(extra_context or {}),
            "may_retry": self.has_retry_permission(request),
            "may_discard": self.has_discard_permission(request),
            "dead_states": DEAD,
        }
        return super().change_view(request, object_id, form_url, context)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ARG002
        secret = ("shown_headers", "shown_body") if self.has_body_permission(request) else ("withheld",)
        return (
            (None, {"fields": ("message_id", "shown_state", "broker", "destination", "ordering_key")}),
            ("Delivery", {"fields": ("stored", "next_attempt_at", "expires", "attempts", "shown_error")}),
            ("Headers and body", {"fields": secret}),
            ("Properties", {"fields": ("shown_properties",), "classes": ("collapse",)}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for _, options in self.get_fieldsets(request, obj) for name in options["fields"]]

    @admin.display(description="state")
    def shown_state(self, obj: OutboxMessage) -> SafeString:
        return columns.badge(obj)

    @admin.display(description="age")
    def age(self, obj: Any) -> SafeString:
        return columns.age(obj.created_at, obj.asked_at)

    @admin.display(description="due")
    def next_attempt(self, obj: Any) -> str:
        return columns.due(obj, obj.asked_at)

    @admin.display(description="destination")
    def destination(self, obj: OutboxMessage) -> str:
        return columns.destination(obj)

    @admin.display(description="stored")
    def stored(self, obj: Any) -> str:
        return columns.moment(obj.created_at, obj.asked_at)

    @admin.display(description="due")
    def next_attempt_at(self, obj: Any) -> str:
        return columns.moment(obj.due if obj.state in WORDS["waiting"] else None, obj.asked_at)

    @admin.display(description="expires")
    def expires(self, obj: Any) -> str:
        return columns.moment(obj.expires_at, obj.asked_at)

    @admin.display(description="last error")
    def shown_error(self, obj: OutboxMessage) -> str:
        return columns.block(obj.last_error) if obj.last_error else "-"

    @admin.display(description="body")
    def shown_body(self, obj: OutboxMessage) -> SafeString:
        body = bytes(obj.body)
        redact = _redacted(obj.broker)
        text = columns.block(_UNKNOWN if redact is None else shown_body(body, redact))
        return format_html('<div>{}<p class="outbox-note">{}</p></div>', text, size(body))

    @admin.display(description="headers")
    def shown_headers(self, obj: OutboxMessage) -> SafeString:
        headers = _properties(obj).get("headers", {})
        redact = _redacted(obj.broker)
        return columns.block(_UNKNOWN if redact is None else shown_headers(headers, redact))

    @admin.display(description="")
    def withheld(self, obj: OutboxMessage) -> str:  # noqa: ARG002
        return "To see these you need the permission “Can view the bodies and headers of outbox messages”."

    @admin.display(description="")
    def shown_properties(self, obj: OutboxMessage) -> SafeString | str:
        pairs = [(name, value) for name, value in _properties(obj).items() if name != "headers"]
        if not pairs:
            return "-"
        return format_html(
            '<table class="outbox-properties">{}</table>',
            format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", pairs),
        )


_UNKNOWN = "(not shown: the settings of this broker are wrong or gone, so nothing tells what to hide)"


def _redacted(broker: str) -> tuple[str, ...] | None:
    """Return the keys to hide; None if that is not known."""
    try:
        return broker_settings(broker).outbox.redact
    except InvalidBroker:
        return None


def _properties(obj: OutboxMessage) -> dict[str, Any]:
    try:
        return decode_properties(obj.properties)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return {"unreadable": size(obj.properties.encode())}


def _summary(broker: str, found: BrokerStats) -> dict[str, Any]:
    oldest, seen = found["oldest_age_seconds"], found["lease_age_seconds"]
    return {
        "broker": broker,
        "counts": [(word, Count.of(found[word], MOST)) for word in ("ready", "waiting", "dead")],
        "oldest": None if oldest is None else spoken(oldest),
        "is_late": oldest is not None and oldest > LATE,
        "leader": found["leader"],
        "seen": None if seen is None else spoken(seen),
    }
