"""ON_FAILURE: what could not be sent is stored in the outbox instead."""

from __future__ import annotations

import logging

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import BrokerUnavailable, PublishError, PublishTimeout
from faststream_django.messages.message import Message
from faststream_django.publishing.durable import installed_store
from faststream_django.publishing.outgoing import Outgoing
from faststream_django.signals import message_deferred

__all__ = ["stored_instead", "wants_to_store"]

logger = logging.getLogger("faststream_django.outbox")


def wants_to_store(alias: str, error: PublishError) -> bool:
    """Tell whether a message that failed with this error belongs into the outbox.

    Only what certainly was not sent, for the lack of a broker: everything else would fail again, or be
    sent twice.
    """
    if error.maybe_sent or not isinstance(error, (BrokerUnavailable, PublishTimeout)):
        return False
    return broker_settings(alias).on_failure == "outbox"


def stored_instead(outgoing: Outgoing, error: PublishError) -> bool:
    """Store the message and tell so by message_deferred; return False if that fails too.

    In an atomic block the row is part of the transaction.
    """
    try:
        installed_store(outgoing.broker)([outgoing], None, for_relay=True)
    except Exception as failure:
        logger.exception(
            "broker=%s message_id=%r state=not-stored", outgoing.broker, outgoing.message.message_id
        )
        error.add_note(f"Storing it in the outbox failed too: {type(failure).__name__}.")
        return False
    logger.warning(
        "broker=%s message_id=%r state=deferred reason=%r",
        outgoing.broker,
        outgoing.message.message_id,
        str(error),
    )
    message_deferred.send_robust(Message, message=outgoing.message, broker=outgoing.broker, error=error)
    return True
