"""What both pages have in common: they show rows that nobody edits, as they are by the database's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db import connections
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest

from faststream_django.outbox.engines import clock
from faststream_django.outbox.fields import MomentField

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]
else:
    AnyAdmin = admin.ModelAdmin

__all__ = ["Reading"]


class Reading(AnyAdmin):
    """Rows that can only be looked at; each has the moment of its reading as `asked_at`."""

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
        return self.may(request, "view")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        now = RawSQL(clock(connections[rows.db]), [], output_field=MomentField())  # noqa: S611
        annotated: QuerySet[Any] = rows.annotate(asked_at=now)
        return annotated

    def may(self, request: HttpRequest, permission: str) -> bool:
        """Tell whether the user has one of Django's permissions on these rows."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.{permission}_{self.opts.model_name}"))
