"""The pages: all queues, one queue, one letter, and the question before something is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from faststream_django.dead_letters.admin.acting import ACTIONS, Action, Chosen, act
from faststream_django.dead_letters.admin.asking import (
    PROBLEMS,
    Place,
    letter_at,
    shelf_at,
    summaries,
)
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.models import DeadLetter
from faststream_django.dead_letters.showing import properties_of, report
from faststream_django.outbox.showing import shown_body, shown_headers, size

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]
else:
    AnyAdmin = admin.ModelAdmin

__all__ = ["DeadLetterAdmin"]

TEMPLATES = "admin/faststream_dead_letters"


@admin.register(DeadLetter)
class DeadLetterAdmin(AnyAdmin):
    """Dead letters, read from the broker with each page; nothing can be added or changed."""

    class Media:
        css: ClassVar = {"all": ("faststream_dead_letters/admin.css",)}

    def get_urls(self) -> list[URLPattern]:
        pages = (
            ("", self.changelist_view, "changelist"),
            ("queue/", self.queue_view, "queue"),
            ("letter/", self.letter_view, "letter"),
        )
        return [
            path(route, self.admin_site.admin_view(view), name=self._url_name(name))
            for route, view, name in pages
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._refuse_unless(request, "view_deadletter")
        context = {"title": "Dead letters", "summaries": summaries(), **(extra_context or {})}
        return self._page(request, "queues", context)

    def queue_view(self, request: HttpRequest) -> HttpResponse:
        self._refuse_unless(request, "view_deadletter")
        place = Place.of(request.GET)
        if request.method == "POST":
            return self._ask_or_act(request, place)
        context: dict[str, Any] = {
            "title": f"Dead letters of {place.queue}",
            "place": place,
            "actions": [each for each in ACTIONS.values() if self._may(request, f"{each.name}_deadletter")],
        }
        try:
            context["shelf"] = shelf_at(place)
        except PROBLEMS as error:
            context["problem"] = str(error)
        return self._page(request, "queue", context)

    def letter_view(self, request: HttpRequest) -> HttpResponse:
        self._refuse_unless(request, "view_deadletter")
        place = Place.of(request.GET)
        try:
            letter = letter_at(place, request.GET.get("id", ""))
        except PROBLEMS as error:
            self.message_user(request, str(error), messages.ERROR)
            return self._to_queue(place)
        if letter is None:
            text = "This dead letter was not found: it was replayed or discarded, or is far behind."
            self.message_user(request, text, messages.WARNING)
            return self._to_queue(place)
        context = {
            "title": f"Dead letter {letter.id}",
            "place": place,
            "letter": letter,
            "properties": properties_of(letter),
            "actions": [each for each in ACTIONS.values() if self._may(request, f"{each.name}_deadletter")],
            **self._secrets(request, place, letter),
        }
        return self._page(request, "letter", context)

    def _secrets(self, request: HttpRequest, place: Place, letter: Letter) -> dict[str, Any]:
        if not self._may(request, "view_body"):
            return {}
        redact = place.settings.outbox.redact
        return {
            "may_view_body": True,
            "headers": shown_headers(letter.message.headers, redact),
            "body": shown_body(letter.message.body, redact),
            "size": size(letter.message.body),
        }

    def _ask_or_act(self, request: HttpRequest, place: Place) -> HttpResponse:
        action = ACTIONS.get(request.POST.get("action", ""))
        if action is None:
            return self._to_queue(place)
        self._refuse_unless(request, f"{action.name}_deadletter")
        chosen = Chosen.of(request.POST)
        if not chosen:
            self.message_user(request, "Choose dead letters first.", messages.WARNING)
            return self._to_queue(place)
        if request.POST.get("confirmed") != action.name:
            context = {"title": action.title, "place": place, "action": action, "chosen": chosen}
            return self._page(request, "confirm", context)
        self._act(request, action, place, chosen)
        return self._to_queue(place)

    def _act(self, request: HttpRequest, action: Action, place: Place, chosen: Chosen) -> None:
        try:
            outcome = act(action, place, chosen, request)
        except PROBLEMS as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        result, *problems = report(outcome, action.verb)
        level = messages.SUCCESS if outcome.is_complete else messages.WARNING
        self.message_user(request, f"{result}.", level)
        for problem in problems:
            self.message_user(request, problem, messages.WARNING)

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"{TEMPLATES}/{name}.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "media": self.media,
                "list_url": self._url("changelist"),
                "queue_url": self._url("queue"),
                "letter_url": self._url("letter"),
                **context,
            },
        )

    def _to_queue(self, place: Place) -> HttpResponse:
        query = urlencode({"broker": place.broker, "queue": place.queue})
        return HttpResponseRedirect(f"{self._url('queue')}?{query}")

    def _url(self, name: str) -> str:
        return reverse(f"admin:{self._url_name(name)}", current_app=self.admin_site.name)

    def _url_name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def _may(self, request: HttpRequest, codename: str) -> bool:
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    def _refuse_unless(self, request: HttpRequest, codename: str) -> None:
        if not self._may(request, codename):
            raise PermissionDenied
