"""Retry and discard: asked about on a page of their own, logged, and each with its permission."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from faststream_django.outbox.admin.listing import MOST, Count, Listing
from faststream_django.outbox.admin.reading import Reading
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.operating import discard, retry
from faststream_django.outbox.selecting import DEAD, Selection

__all__ = ["Acting"]

SHOWN = 20
"""The most messages that the page of the question names."""


@dataclass(frozen=True, slots=True)
class Action:
    """What can be done with messages."""

    name: str
    title: str
    question: str
    button: str
    done: str
    act: Callable[[str, Selection | Iterable[int]], int]
    flag: int
    is_for_dead: bool = False
    is_destructive: bool = False


RETRY = Action(
    "retry",
    "Retry messages",
    "The relay sends them again as if for the first time: at once, and with no attempt counted.",
    "Retry",
    "will be sent again",
    retry,
    CHANGE,
    is_for_dead=True,
)
DISCARD = Action(
    "discard",
    "Discard messages",
    "They are deleted for good and not sent; what a relay is sending at this moment may still arrive.",
    "Discard",
    "deleted",
    discard,
    DELETION,
    is_destructive=True,
)


class Acting(Reading):
    """What the list of messages can do with them."""

    actions = ("retry", "discard")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "delete")

    @admin.action(description="Retry what is dead", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[OutboxMessage]) -> HttpResponse | None:
        return self._ask_or_act(RETRY, request, queryset)

    @admin.action(description="Discard", permissions=["discard"])
    def discard(self, request: HttpRequest, queryset: QuerySet[OutboxMessage]) -> HttpResponse | None:
        return self._ask_or_act(DISCARD, request, queryset)

    def _ask_or_act(
        self, action: Action, request: HttpRequest, queryset: QuerySet[OutboxMessage]
    ) -> HttpResponse | None:
        using = queryset.db
        is_across = request.POST.get("select_across") == "1"
        chosen = self._selection(action, request, using) if is_across else _ids(action, queryset)
        count = _count(chosen, using)
        if not count:
            self.message_user(request, _NONE[action.is_for_dead], messages.WARNING)
            return None
        if request.POST.get("confirmed") != action.name:
            return self._ask(action, request, chosen, count, using)
        rows = [] if isinstance(chosen, Selection) else list(_named(using, chosen))
        done = action.act(router.db_for_write(OutboxMessage), chosen)
        self._log(action, request, rows, done)
        self.message_user(request, f"{_messages(done)} {action.done}.", messages.SUCCESS)
        return None

    def _selection(self, action: Action, request: HttpRequest, using: str) -> Selection:
        """Return all of the list, up to what was stored when the question was asked."""
        selection = cast("Listing", self.get_changelist_instance(request)).selection
        if action.is_for_dead:
            states = tuple(each for each in DEAD if not selection.states or each in selection.states)
            if not states:
                return replace(selection, up_to=0)
            selection = replace(selection, states=states)
        given = request.POST.get("up_to", "")
        if given.isascii() and given.isdigit():
            return replace(selection, up_to=int(given))
        newest = selection.newest(using, limit=1)
        return replace(selection, up_to=newest[0] if newest else 0)

    def _ask(
        self, action: Action, request: HttpRequest, chosen: Selection | list[int], count: Count, using: str
    ) -> HttpResponse:
        is_across = isinstance(chosen, Selection)
        first = chosen.newest(using, limit=SHOWN) if isinstance(chosen, Selection) else chosen[:SHOWN]
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": action.title,
            "action": action,
            "rows": _named(using, first),
            "count": count,
            "more": Count.of(int(count) - len(first) + count.is_more, MOST),
            # Django looks at no action for which nothing is selected.
            "ids": first[:1] if is_across else chosen,
            "up_to": chosen.up_to if isinstance(chosen, Selection) else None,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/faststream_outbox/outboxmessage/confirm.html", context)

    def _log(self, action: Action, request: HttpRequest, rows: list[OutboxMessage], done: int) -> None:
        """Write an entry for each message, or one for all of a list."""
        user_id: Any = request.user.pk
        if rows:
            LogEntry.objects.log_actions(user_id, rows, action.flag, f"{action.button} in the outbox.")
            return
        LogEntry.objects.create(
            user_id=user_id,
            content_type=ContentType.objects.get_for_model(OutboxMessage),
            object_repr=f"{_messages(done)} {action.done}",
            action_flag=action.flag,
            change_message=f"{action.button} in the outbox: {request.GET.urlencode() or 'all'}.",
        )


_NONE = {
    True: "None of these messages is dead, or they are gone.",
    False: "None of these messages is in the outbox any more.",
}


def _ids(action: Action, queryset: QuerySet[OutboxMessage]) -> list[int]:
    rows = queryset.filter(state__in=DEAD) if action.is_for_dead else queryset
    return list(rows.order_by("-pk").values_list("pk", flat=True))


def _count(chosen: Selection | list[int], using: str) -> Count:
    counted = chosen.count(using, MOST) if isinstance(chosen, Selection) else len(chosen)
    return Count.of(counted, MOST)


def _named(using: str, ids: list[int]) -> QuerySet[OutboxMessage]:
    rows = OutboxMessage.objects.using(using).filter(pk__in=ids)
    return rows.defer("body", "properties", "last_error").order_by("-pk")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
