"""The verbs: publish now, or after the commit."""

from faststream_django.publishing.after_commit import (
    apublish_many_on_commit,
    apublish_on_commit,
    publish_many_on_commit,
    publish_on_commit,
)
from faststream_django.publishing.outgoing import PublishOptions
from faststream_django.publishing.verbs import apublish, apublish_many, publish, publish_many

__all__ = [
    "PublishOptions",
    "apublish",
    "apublish_many",
    "apublish_many_on_commit",
    "apublish_on_commit",
    "publish",
    "publish_many",
    "publish_many_on_commit",
    "publish_on_commit",
]
