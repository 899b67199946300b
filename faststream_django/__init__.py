"""Publish to a message broker from Django: persistent, confirmed, fork-safe, bounded in time."""

from faststream_django.brokers import brokers
from faststream_django.messages import Message
from faststream_django.publishing import (
    apublish,
    apublish_many,
    apublish_on_commit,
    publish,
    publish_many,
    publish_on_commit,
)

__all__ = [
    "Message",
    "apublish",
    "apublish_many",
    "apublish_on_commit",
    "brokers",
    "publish",
    "publish_many",
    "publish_on_commit",
]

__version__ = "0.1.0"
