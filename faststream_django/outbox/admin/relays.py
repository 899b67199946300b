"""The relays: which one leads, and when it was seen last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db import connections
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest

from faststream_django.outbox.admin import columns
from faststream_django.outbox.engines import clock
from faststream_django.outbox.fields import MomentField
from faststream_django.outbox.models import Lease

if TYPE_CHECKING:
    RelayAdmin = admin.ModelAdmin[Lease]
else:
    RelayAdmin = admin.ModelAdmin

__all__ = ["LeaseAdmin"]


@admin.register(Lease)
class LeaseAdmin(RelayAdmin):
    """The leases; only relays write them."""

    list_display = ("broker", "leader", "seen", "until")
    fields = readonly_fields = ("broker", "leader", "seen", "until")
    ordering = ("broker",)
    sortable_by = ()

    class Media:
        css: ClassVar = {"all": ("faststream_outbox/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return bool(request.user.has_perm(f"{self.opts.app_label}.view_{self.opts.model_name}"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Lease]:
        rows = super().get_queryset(request)
        now = RawSQL(clock(connections[rows.db]), [], output_field=MomentField())  # noqa: S611
        return rows.annotate(asked_at=now)

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
