"""The arguments of faststream_publish: where messages go, and what they carry beside their bodies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from faststream_django.conf.entries import broker_settings
from faststream_django.conf.setting import YEAR
from faststream_django.exceptions import InvalidMessage
from faststream_django.management.publishing.bodies import WrongUsage, content_type_of, json_problem
from faststream_django.messages.message import Message

__all__ = ["read_arguments"]


def read_arguments(options: Mapping[str, Any]) -> tuple[Callable[..., Message], str | None]:
    """Return what makes a message of a body, and BODY if it was given."""
    exchange, key = options["exchange"], options["routing_key"]
    queue, body = _positional(options)
    _refuse_contradictions(options, queue, body)
    settings = broker_settings(options["broker"])
    headers = _headers(options["header"])

    def seal(content: bytes, content_type: str | None = None) -> Message:
        # Not by publish(): a codec of the settings would encode what is encoded already.
        return Message.encode(
            content,
            exchange=exchange or "",
            routing_key=(key if queue is None else queue) or "",
            headers=headers,
            content_type=options["content_type"] or content_type or content_type_of(content),
            message_id=options["message_id"],
            priority=options["priority"],
            expiration=options["expiration"],
            mandatory=not options["no_mandatory"],
            app_id=settings.options.get("app_id"),
            broker=settings.alias,
            max_bytes=settings.max_message_bytes,
            id_generator=settings.options.get("id_generator"),
        )

    try:
        seal(b"")  # what is wrong with the arguments is wrong with every message
    except InvalidMessage as error:
        raise WrongUsage(str(error)) from None
    return seal, body


def _positional(options: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return QUEUE and BODY, told from each other where one of them is left out."""
    queue, body, exchange, key = (options[name] for name in ("queue", "body", "exchange", "routing_key"))
    if exchange and key is not None and body is None:
        queue, body = None, queue  # QUEUE would only be another routing key
    if not exchange and not queue:
        raise WrongUsage("Nothing says where to publish; pass QUEUE, or --exchange and --routing-key.")
    if body is None and queue is not None and (queue == "-" or queue[:1] in {"{", "[", '"'}):
        # Never taken for a routing key, while the body is read from a standard input that is empty.
        raise WrongUsage(
            "The only argument looks like BODY; pass QUEUE before it, or --exchange together with "
            "--routing-key ('' for an exchange that needs none)."
        )
    if body is not None and queue is not None and (queue == "-" or _is_structure(queue)):
        raise WrongUsage("QUEUE looks like BODY; QUEUE comes first, as in: faststream_publish QUEUE BODY")
    return queue, body


def _refuse_contradictions(options: Mapping[str, Any], queue: str | None, body: str | None) -> None:
    key = options["routing_key"]
    if queue is not None and key is not None and queue != key:
        raise WrongUsage(f"QUEUE is {queue!r} and --routing-key is {key!r}; leave one of them out.")
    if options["lines"] and options["message_id"] is not None:
        raise WrongUsage("--message-id would give every line the same id; leave it out.")
    if options["file"] is not None and body is not None:
        raise WrongUsage("BODY and --file are both given; leave one of them out.")
    if options["lines"] and body not in {None, "-"}:
        raise WrongUsage("--lines reads standard input or --file; leave BODY out.")
    if options["timeout"] is not None and not 0 < float(options["timeout"]) <= YEAR:
        raise WrongUsage(f"--timeout is {options['timeout']}; pass seconds above 0.")


def _is_structure(text: str) -> bool:
    return text[:1] in {"{", "["} and json_problem(text.encode(errors="surrogateescape")) is None


def _headers(arguments: list[str]) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    for number, argument in enumerate(arguments, 1):
        name, equals, value = argument.partition("=")
        place = f"--header number {number}"  # never its text: a header may be a credential
        if not equals or not name.rstrip(":"):
            raise WrongUsage(f"{place} is not NAME=VALUE (text) or NAME:=JSON (another type).")
        plain = name.removesuffix(":")
        if plain in headers:
            raise WrongUsage(f"{place} is given twice: {plain!r}.")
        headers[plain] = value
        if name != plain:
            if problem := json_problem(value.encode(errors="surrogateescape")):
                raise WrongUsage(f"{place}, {plain!r}: {problem}")
            try:
                headers[plain] = json.loads(value)
            except ValueError:  # Python limits the digits that it converts
                raise WrongUsage(
                    f"{place}, {plain!r}: a number in it has too many digits; quote it to send it as text."
                ) from None
    return headers
