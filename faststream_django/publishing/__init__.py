"""The verbs: publish now, or after the commit, or ask and wait for the reply."""

from faststream_django.publishing.after_commit import (
    apublish_many_on_commit,
    apublish_on_commit,
    publish_many_on_commit,
    publish_on_commit,
)
from faststream_django.publishing.outgoing import PublishOptions, RequestOptions
from faststream_django.publishing.requesting import arequest, request
from faststream_django.publishing.verbs import apublish, apublish_many, publish, publish_many

__all__ = [
    "PublishOptions",
    "RequestOptions",
    "apublish",
    "apublish_many",
    "apublish_many_on_commit",
    "apublish_on_commit",
    "arequest",
    "publish",
    "publish_many",
    "publish_many_on_commit",
    "publish_on_commit",
    "request",
]
