"""URLs and passwords that are read anew for each connection, such as tokens that rotate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from faststream_django.conf.broker_url import InvalidURL, parse_url
from faststream_django.conf.secrets import PrivateURL, with_password
from faststream_django.exceptions import BrokerUnavailable

__all__ = ["URLSource"]


@dataclass(frozen=True, slots=True, repr=False)
class URLSource:
    """Gives the URLs of one connection: calls what the settings name, which may block."""

    place: str
    urls: Sequence[str] | Callable[[], str | Sequence[str]]
    password: str | Callable[[], str] | None

    def __call__(self) -> tuple[str, ...]:
        """Return the URLs with their password; raise BrokerUnavailable, which shows nothing of them."""
        urls: Any = self._asked("URL", self.urls) if callable(self.urls) else self.urls
        password: Any = self._asked("PASSWORD", self.password) if callable(self.password) else self.password
        urls = [urls] if isinstance(urls, str) else urls
        if not isinstance(urls, (list, tuple)) or not urls:
            self._refuse("URL", f"returned {type(urls).__name__}, and must return a str, or a list of str")
        if self.password is not None and (not isinstance(password, str) or not password):
            self._refuse("PASSWORD", "must return a str that is not empty")
        return tuple(self._complete(url, password) for url in urls)

    def _asked(self, key: str, function: Callable[[], Any]) -> Any:
        problem, answer = "", None
        try:
            answer = function()
        except Exception as error:  # noqa: BLE001 - it is the site's code
            problem = f"raised {type(error).__name__}"
        if problem:  # not in the handler: what was raised, and its frames, may hold the token
            self._refuse(key, problem)
        return answer

    def _complete(self, url: str, password: str | None) -> str:
        problem, complete = "", url
        try:
            if parse_url(url).scheme == "memory":
                problem = "returned the URL of the embedded broker, which must stand in the settings"
            complete = PrivateURL(url) if password is None else with_password(url, password)
        except InvalidURL as error:
            problem = str(error)
        if problem:
            self._refuse("URL", problem)
        return complete

    def _refuse(self, key: str, problem: str) -> NoReturn:
        raise BrokerUnavailable(f"{self.place}[{key!r}]: {problem}")
