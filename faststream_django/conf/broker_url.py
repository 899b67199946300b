"""Broker URLs: parsed strictly, and shown without their password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from faststream_django.conf.setting import did_you_mean

__all__ = ["BrokerURL", "InvalidURL", "parse_url", "redacted", "split_url"]

SCHEMES = ("amqp", "amqps", "memory")

_TLS_PARAMETERS = ("cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl")
_PARAMETERS = ("name", "auth", "happy_eyeballs_delay", "interleave", *_TLS_PARAMETERS)
_SETTINGS = {
    "heartbeat": "HEARTBEAT",
    "timeout": "CONNECT_TIMEOUT",
    "connection_timeout": "CONNECT_TIMEOUT",
}
_VALUES = {
    "auth": (re.compile(r"plain|external", re.IGNORECASE), "'PLAIN' or 'EXTERNAL'"),
    "no_verify_ssl": (re.compile(r"[01]"), "'0' or '1'"),
    "happy_eyeballs_delay": (re.compile(r"\d+(\.\d+)?", re.ASCII), "a number of seconds"),
    "interleave": (re.compile(r"\d+", re.ASCII), "a whole number"),
}
_USERINFO = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9A-Fa-f]{2})*")
_ADDRESS = re.compile(r"(.*?)(?::([^:\]]*))?")
_HOST = re.compile(r"[\w\-.]+|\[[0-9A-Fa-f:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_UNQUOTED = (
    "the URL has a character that must be quoted: percent-encode the user name, the password and "
    "the virtual host, each with urllib.parse.quote(password, safe='')"
)


class InvalidURL(ValueError):
    """A broker URL is wrong; the text holds no part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerURL:
    """The decoded parts of a broker URL, without the password."""

    scheme: str
    host: str
    port: int | None = None
    username: str | None = None
    has_guessable_password: bool = False
    virtual_host: str = "/"
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_url(url: str) -> BrokerURL:
    """Parse a URL, or raise InvalidURL with what to do; a client's lenient reading is not tried."""
    try:
        return _parse(url)
    except InvalidURL as error:
        # This frame and those below hold the password in local variables, which error pages show.
        del url
        raise error.with_traceback(None) from None


def redacted(url: str) -> str:
    """Show where a URL leads, without its password and parameters; "***" if that is not clear."""
    try:
        parts = split_url(url)
        userinfo, at, address = parts.netloc.rpartition("@")
        if parts.scheme == "memory":
            _parse_memory(parts)
        else:
            # Where the "@" was forgotten, the password stands in the place of the port.
            _parse_address(address)
            _parse_virtual_host(parts.path)
    except InvalidURL:
        return "***"
    username, colon, _ = userinfo.partition(":")
    password = ":***" if colon else ""
    return f"{parts.scheme}://{username}{password}{at}{address}{parts.path}"


def _parse(url: str) -> BrokerURL:
    parts = split_url(url)
    if parts.scheme == "memory":
        return _parse_memory(parts)
    userinfo, _, address = parts.netloc.rpartition("@")
    host, port = _parse_address(address)
    username, _, password = [_decoded(part) for part in userinfo.partition(":")]
    return BrokerURL(
        scheme=parts.scheme,
        host=host,
        port=port,
        username=username or None,
        # The client sends "guest" where there is none.
        has_guessable_password=bool(username) and (password or "guest") in {username, "guest"},
        virtual_host=_parse_virtual_host(parts.path),
        parameters=_parse_parameters(parts),
    )


def split_url(url: str) -> SplitResult:
    """Split a URL where that is unambiguous: no part of a password ends up elsewhere."""
    if not isinstance(url, str):
        raise InvalidURL(f"the URL must be a str, not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise InvalidURL("the URL has no scheme: start it with amqp://, amqps:// or memory://")
    if scheme.lower() not in SCHEMES:
        raise InvalidURL(
            f"the URL's scheme is unknown{did_you_mean(scheme, SCHEMES)}: "
            "start it with amqp://, amqps:// or memory://"
        )
    if not url.isprintable() or " " in url:
        raise InvalidURL(
            "the URL has a space, a line break or another control character: strip it, or "
            "percent-encode it with urllib.parse.quote(password, safe='')"
        )
    parts = _urlsplit(url)
    userinfo = parts.netloc.rpartition("@")[0] if parts else ""
    if parts is None or not _USERINFO.fullmatch(userinfo):
        raise InvalidURL(_UNQUOTED)
    # A raw "/", "?" or "#" in a password ends the authority early; the "@" that follows tells.
    if "@" in parts.path or "@" in parts.query or "#" in url or _BAD_ESCAPE.search(url):
        raise InvalidURL(_UNQUOTED)
    return parts


def _urlsplit(url: str) -> SplitResult | None:
    # Raised outside the handler: the text of the ValueError would travel along as the context.
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _parse_memory(parts: SplitResult) -> BrokerURL:
    if parts.path or parts.query or not re.fullmatch(r"[\w\-.]*", parts.netloc):
        raise InvalidURL("the embedded broker's URL is 'memory://' or 'memory://name', no more")
    return BrokerURL(scheme="memory", host=parts.netloc)


def _parse_address(address: str) -> tuple[str, int | None]:
    if "," in address:
        raise InvalidURL("the URL names several hosts: give a list with one URL for each node")
    match = _ADDRESS.fullmatch(address)
    host, port = match.groups() if match else ("", None)
    if not host:
        raise InvalidURL("the URL has no host: write it as in amqp://user:password@host/vhost")
    if not _HOST.fullmatch(host):
        raise InvalidURL(
            "the URL's host is not a host name or an address (an IPv6 address stands in "
            "brackets); a password before it must be percent-encoded with "
            "urllib.parse.quote(password, safe='')"
        )
    if port is not None and not (_PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        raise InvalidURL(
            "the URL's port is not a number between 1 and 65535; a password is followed by '@' "
            "and the host, and percent-encoded with urllib.parse.quote(password, safe='')"
        )
    return host.strip("[]").lower(), int(port) if port else None


def _parse_virtual_host(path: str) -> str:
    name = path[1:]
    if name in {"", "/"}:  # amqp://host// is how Celery's users write the virtual host "/"
        return "/"
    if "/" in name:
        raise InvalidURL(
            "the URL's virtual host has a '/' in it: percent-encode it with "
            "urllib.parse.quote(virtual_host, safe='')"
        )
    return _printable(_decoded(name))


def _parse_parameters(parts: SplitResult) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape"):
        _check_parameter(name, value, parts.scheme)
        if name in parameters:
            raise InvalidURL(f"the URL gives the parameter '{name}' twice")
        parameters[name] = value
    return parameters


def _check_parameter(name: str, value: str, scheme: str) -> None:
    if name in _SETTINGS:
        raise InvalidURL(f"the URL has the parameter '{name}': set '{_SETTINGS[name]}' instead")
    if name not in _PARAMETERS:
        raise InvalidURL(
            f"the URL has an unknown parameter{did_you_mean(name, _PARAMETERS)}; "
            f"known are {', '.join(_PARAMETERS)}. A '?' in a password must be percent-encoded "
            "with urllib.parse.quote(password, safe='')"
        )
    if name in _TLS_PARAMETERS and scheme != "amqps":
        raise InvalidURL(f"the URL's parameter '{name}' has no effect without TLS: use amqps://")
    if not value:
        raise InvalidURL(f"the URL's parameter '{name}' is empty")
    pattern, expected = _VALUES.get(name, (None, ""))
    if pattern and not pattern.fullmatch(value):
        raise InvalidURL(f"the URL's parameter '{name}' must be {expected}")
    if name != "cadata":  # a certificate has lines
        _printable(value)


def _decoded(text: str) -> str:
    decoded = unquote(text, errors="surrogateescape")
    if any("\ud800" <= character <= "\udfff" for character in decoded):
        raise InvalidURL("the URL has a percent-encoded byte that is not UTF-8")
    return decoded


def _printable(text: str) -> str:
    if not text.isprintable():
        raise InvalidURL("the URL has a control character in its virtual host or a parameter")
    return text
