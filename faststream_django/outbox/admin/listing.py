"""The list of a table of any size: along the indexes, and counted no further than is read."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.http import HttpRequest

from faststream_django.outbox.admin.filters import NarrowingFilter
from faststream_django.outbox.selecting import Selection

__all__ = ["MOST", "Count", "Listing"]

MOST = 10_000
"""The most rows that are counted, and the most that can be paged through."""


class Count(int):
    """A number that may be "more than that"."""

    is_more = False

    @classmethod
    def of(cls, counted: int, most: int) -> Count:
        count = cls(min(counted, most))
        count.is_more = counted > most
        return count

    def __str__(self) -> str:
        return f"{int(self):,}{'+' if self.is_more else ''}"


class Listing(ChangeList):
    """The change list, the newest first."""

    selection: Selection

    def get_results(self, request: HttpRequest) -> None:  # noqa: ARG002
        narrowed: dict[str, Any] = {}
        for each in self.filter_specs:
            if isinstance(each, NarrowingFilter):
                narrowed |= each.narrow()
        self.selection = Selection(**narrowed, prefix=self.query.strip() or None)
        using = self.queryset.db
        count = Count.of(self.selection.count(using, MOST), MOST)
        pages = Paginator(range(count), self.list_per_page)
        if not 1 <= self.page_num <= pages.num_pages:
            raise IncorrectLookupParameters
        first = (self.page_num - 1) * self.list_per_page
        ids = self.selection.newest(using, limit=first + self.list_per_page)[first:]
        self.result_count = count
        self.result_list = list(self.root_queryset.filter(pk__in=ids).order_by("-pk"))
        self.show_full_result_count = False
        # Where all are shown, no link leads to all.
        self.full_result_count = count if self.selection == Selection() else None
        self.show_admin_actions = True
        self.can_show_all = False
        self.multi_page = pages.num_pages > 1
        self.paginator = pages
