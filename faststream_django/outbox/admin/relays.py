"""The relays: which one leads, and when it was seen last."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from faststream_django.outbox.admin import columns
from faststream_django.outbox.admin.reading import Reading
from faststream_django.outbox.models import Lease

__all__ = ["LeaseAdmin"]


@admin.register(Lease)
class LeaseAdmin(Reading):
    """The leases; only relays write them."""

    list_display = ("broker", "leader", "seen", "until")
    fields = readonly_fields = ("broker", "leader", "seen", "until")
    ordering = ("broker",)

    @admin.display(description="leader", empty_value="no relay")
    def leader(self, obj: Any) -> str | None:
        return obj.holder if obj.holder and obj.expires_at > obj.asked_at else None

    @admin.display(description="seen")
    def seen(self, obj: Any) -> str:
        return columns.moment(_known(obj.seen_at), obj.asked_at)

    @admin.display(description="lease until")
    def until(self, obj: Any) -> str:
        return columns.moment(_known(obj.expires_at), obj.asked_at)


def _known(moment: Any) -> Any:
    return moment if moment is not None and moment.timestamp() > 0 else None
