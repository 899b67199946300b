"""The verbs: publish now, or after the commit."""

from faststream_django.publishing.outgoing import PublishOptions
from faststream_django.publishing.verbs import (
    apublish,
    apublish_many,
    apublish_on_commit,
    publish,
    publish_many,
    publish_on_commit,
)

__all__ = [
    "PublishOptions",
    "apublish",
    "apublish_many",
    "apublish_on_commit",
    "publish",
    "publish_many",
    "publish_on_commit",
]
