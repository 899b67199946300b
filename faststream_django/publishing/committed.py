"""What becomes of the messages of a transaction that has committed, where no outbox keeps them."""

from __future__ import annotations

import logging

from faststream_django.conf.entries import broker_settings
from faststream_django.connection.bulk import BulkResult
from faststream_django.connection.errors import bulk_error, not_tried
from faststream_django.exceptions import PublishError
from faststream_django.publishing.announcements import announce, announce_chunk
from faststream_django.publishing.outgoing import Outgoing
from faststream_django.registry import brokers

__all__ = ["report", "send_committed"]

logger = logging.getLogger("faststream_django.publish")


def send_committed(outgoing: list[Outgoing], robust: bool) -> None:  # noqa: FBT001
    """Send the messages of a committed transaction, those of one broker together."""
    groups: dict[str, list[Outgoing]] = {}
    for each in outgoing:
        groups.setdefault(each.broker, []).append(each)
    failures: list[PublishError] = []
    for alias, group in groups.items():
        default = broker_settings(alias).timeout
        timeout = min(default if each.timeout is None else each.timeout for each in group)
        result = brokers[alias].send_many([each.message for each in group], timeout, announce_chunk)
        try:
            report(group, result, robust=robust)
        except PublishError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def report(group: list[Outgoing], result: BulkResult, *, robust: bool) -> None:
    """Log what was lost, or raise it."""
    if result.stopped_at is not None:
        cause = next(iter(result.errors.values()))
        for index, each in enumerate(group[result.stopped_at :], start=result.stopped_at):
            result.errors[index] = skipped = not_tried(each.message, each.broker, cause)
            announce(each.message, each.broker, skipped)
    if not result.errors:
        return
    if not robust:
        if len(group) == 1:
            raise result.errors[0]
        raise bulk_error(result, group[0].broker)
    for index, error in result.errors.items():
        message = group[index].message
        logger.error(
            "broker=%s message_id=%r exchange=%r routing_key=%r maybe_sent=%s: the data was committed "
            "but the message was not confirmed: %r",
            group[index].broker,
            message.message_id,
            message.exchange,
            message.routing_key,
            error.maybe_sent,
            str(error),
        )
