"""Rows as handlers leave them, written without any."""

import secrets

from faststream_django.inbox.models import HandledMessage


def record_at(*moments, using="default"):
    """Insert rows of messages that were handled at these moments."""
    HandledMessage.objects.using(using).bulk_create(
        HandledMessage(digest=secrets.token_bytes(16), handled_at=moment) for moment in moments
    )
