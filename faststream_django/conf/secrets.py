"""Settings whose repr shows no password, for error pages and logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from faststream_django.conf.broker_url import InvalidURL, redacted, split_url

__all__ = ["PrivateURL", "conceal", "with_password"]

# What is private in a setting, also in one that is wrong: by its key, or by what it looks like.
_PRIVATE_KEY = re.compile(r"url|pass|secret", re.IGNORECASE)
_LIKE_A_URL = re.compile(r"://|:.*@", re.DOTALL)


class PrivateURL(str):
    """A URL whose repr hides the password, for error pages that show local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redacted(self))


def with_password(url: str, password: str) -> PrivateURL:
    """Put the password into a URL that has a user name and no password, or raise InvalidURL."""
    parts = split_url(url)
    userinfo, _, address = parts.netloc.rpartition("@")
    if parts.scheme == "memory":
        raise InvalidURL("the embedded broker takes no password: leave 'PASSWORD' out")
    if ":" in userinfo:
        raise InvalidURL("the URL has a password, and 'PASSWORD' is another one: leave one of them out")
    if not userinfo:
        raise InvalidURL("the URL has no user name for 'PASSWORD': write it as in amqp://user@host/vhost")
    netloc = f"{userinfo}:{quote(password, safe='')}@{address}"
    return PrivateURL(parts._replace(netloc=netloc).geturl())


def conceal(value: Any, key: object = "") -> Any:
    """Return a setting whose repr shows no password: a PrivateURL stands for each text that may hold one.

    Dicts and lists are changed in place, for all who have them; what cannot be changed is copied.
    """
    if isinstance(value, str):
        is_private = _PRIVATE_KEY.search(str(key)) or _LIKE_A_URL.search(value)
        return PrivateURL(value) if is_private and not isinstance(value, PrivateURL) else value
    if isinstance(value, Mapping):
        concealed = {name: conceal(each, name) for name, each in value.items()}
        return _with_items(value, concealed, dict(value))
    if isinstance(value, (list, tuple)):
        concealed = {index: conceal(each, key) for index, each in enumerate(value)}
        return _with_items(value, concealed, list(value))
    return value


def _with_items(container: Any, items: dict[Any, Any], copy: Any) -> Any:
    changed = {key: item for key, item in items.items() if item is not copy[key]}
    try:
        for key, item in changed.items():
            container[key] = item
    except Exception:  # noqa: BLE001  what cannot be changed raises what it likes
        for key, item in changed.items():
            copy[key] = item
        return tuple(copy) if isinstance(container, tuple) else copy
    return container
