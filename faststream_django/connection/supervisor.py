"""Keeps one session to the broker alive: connects, notices the loss, connects again.

Lives on one event loop and is thrown away with it. Knows no Django and no driver.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import random
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic

from faststream_django.backends.base import Connector, LinkT
from faststream_django.connection.current_urls import CurrentURLs
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable

__all__ = ["Supervisor"]

logger = logging.getLogger("faststream_django.connection")

# Seconds between rounds of attempts, doubled from the first to the last with each failed round, +-20 %.
FIRST_DELAY, LAST_DELAY = 0.1, 5.0
# A refusal (credentials, vhost, TLS) does not heal by itself: the broker is asked less often.
LAST_REFUSED_DELAY = 60.0
# While somebody waits, no pause is longer than this.
PATIENCE, REFUSED_PATIENCE = 0.5, 1.0
# Seconds between two lines about the state of the connection.
LOG_INTERVAL = 10.0
# A session that ends sooner counts as a failed attempt, or a broker that hangs up at once would be hammered.
STABLE_AFTER = 1.0


class Supervisor(Generic[LinkT]):
    """Keeps a session alive for one connection, on the loop that is running when it is made.

    `is_always_wanted`: somebody waits for it all the time, so the broker is asked at least every PATIENCE.
    """

    def __init__(
        self,
        connector: Connector[LinkT],
        *,
        is_always_wanted: bool = False,
        logger: logging.Logger = logger,
    ) -> None:
        self._connector = connector
        self._is_always_wanted = is_always_wanted
        self._logger = logger
        self._settings = connector.settings
        self._urls = CurrentURLs(connector.settings)
        self._nodes = 1
        self._loop = asyncio.get_running_loop()
        self._session: LinkT | None = None
        self._task: asyncio.Task[None] | None = None
        # A dict for its order: whoever asked first goes on first.
        self._requests: dict[Hashable, Callable[[LinkT | BrokerUnavailable], None]] = {}
        self._closed = False
        self._suspected_at: float | None = None
        self._wanted = asyncio.Event()
        self._failure: BrokerUnavailable | None = None
        self._failed_at = 0.0
        self._refusals = 0
        self._down_since = time.monotonic()
        self._waited_in_vain = 0.0
        self._logged_at = -LOG_INTERVAL
        self._outage_is_logged = False

    @property
    def current(self) -> LinkT | None:
        """The session of this moment, if there is one."""
        session = self._session
        return None if session is None or session.closed.done() else session

    @property
    def is_connected(self) -> bool:
        return self._session is not None

    @property
    def is_blocked(self) -> bool:
        """Whether the broker takes no messages for the moment."""
        session = self.current
        return session is not None and session.is_blocked

    @property
    def outage(self) -> str | None:
        """Since when there is no session, and the last reason; for the text of an error."""
        if self._session is not None or self._task is None:  # nobody has asked for one
            return None
        age = time.monotonic() - self._down_since
        reason = f"; last attempt: {self._failure}" if self._failure else "; still connecting"
        return f"not connected for {age:.1f} s{reason}"

    def start(self) -> None:
        """Begin to connect. The task outlives its first caller, so it keeps nothing of its context."""
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._keep_alive(), context=contextvars.Context())

    def request_session(
        self, requester: Hashable, timeout: float, on_session: Callable[[LinkT | BrokerUnavailable], None]
    ) -> None:
        """Have `on_session` called with the session, now or as soon as there is one.

        It is called with BrokerUnavailable at once where waiting is of no use: in an outage that is older
        than `timeout` (seconds), so that a site with a dead broker stays up, and once the supervisor is
        closed. With BrokerRefused as soon as every node has refused the connection. Whoever is turned
        away still makes the supervisor try again soon: it is the probe for all of them.
        """
        session = self.current
        if session is not None:
            on_session(session)
            return
        if self._closed:
            on_session(BrokerUnavailable("the connection was stopped"))
            return
        if isinstance(self._failure, BrokerRefused) and self._failure_age() < REFUSED_PATIENCE:
            on_session(BrokerRefused(str(self._failure)))
            return
        self._wanted.set()
        age = max(time.monotonic() - self._down_since, self._waited_in_vain)
        if self._failure is not None and age >= timeout:
            on_session(BrokerUnavailable(str(self.outage)))
            return
        self.start()
        self._requests[requester] = on_session

    def waited_in_vain(self, requester: Hashable, timeout: float) -> None:
        """Note that the `timeout` seconds of a requester are over: no other waits as long in this outage."""
        if requester in self._requests:
            self._waited_in_vain = max(self._waited_in_vain, timeout)

    def withdraw_request(self, requester: Hashable) -> None:
        """Drop the request of one who has gone away."""
        self._requests.pop(requester, None)

    def unanswered(self, posted_at: float) -> None:
        """Note that a deadline passed without an answer to a message that the session got at `posted_at`.

        A link can be dead without a sign, for as long as the heartbeat allows. It is suspected when
        nothing at all came from the peer since the message was posted. If another message, posted after
        that, meets the same silence, and the suspicion is as old as TIMEOUT, the session ends. The
        answer to a message that was given up is a sign of life too, so that a timeout that is too short
        for the broker harms nobody else.
        """
        session = self.current
        if session is None or session.is_blocked or session.heard_at >= posted_at:
            return
        now, suspected_at = time.monotonic(), self._suspected_at
        if suspected_at is None or suspected_at <= session.heard_at:
            self._suspected_at = now
        elif posted_at >= suspected_at and now - suspected_at >= self._settings.timeout:
            session.abort("the broker was silent while two publishes in a row waited for an answer")

    async def close(self) -> None:
        """Stop connecting and close the session cleanly. Whoever still waits is told."""
        self._closed = True
        self._fulfil(BrokerUnavailable("the connection was stopped"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _keep_alive(self) -> None:
        failures = 0
        for number in itertools.count(1):
            session = await self._attempt(number)
            if session is not None:
                since = time.monotonic()
                self._up(session)
                self._down(await session.closed)
                if time.monotonic() - since >= STABLE_AFTER:
                    failures = 0
                    continue
            failures += 1
            if number % self._nodes == 0:
                await self._pause(failures)

    async def _attempt(self, number: int) -> LinkT | None:
        timeout = self._settings.connect_timeout
        self._wanted.clear()
        self._nodes = 1
        try:
            async with asyncio.timeout(timeout):
                urls = await self._urls.read()
                self._nodes = len(urls)
                return await self._connector.connect(urls[(number - 1) % len(urls)])
        except BrokerUnavailable as error:
            self._fail(error)
        except TimeoutError:
            step = (
                "answer of the function for URL or PASSWORD" if self._urls.is_reading else "AMQP connection"
            )
            self._fail(BrokerUnavailable(f"no {step} within CONNECT_TIMEOUT ({timeout:g} s)"))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Some drivers report a lost connection as a cancellation.
            self._fail(BrokerUnavailable("the connection was lost while it was being made"))
        except Exception as error:
            # Also a broken option or middleware: the reason must reach every caller.
            self._logger.exception("broker=%s state=error", self._settings.alias)
            self._fail(BrokerUnavailable(f"{type(error).__name__} while connecting"))
        return None

    def _up(self, session: LinkT) -> None:
        if self._outage_is_logged:
            age = time.monotonic() - self._down_since
            self._logger.info("broker=%s state=connected after=%.1fs", self._settings.alias, age)
            self._outage_is_logged = False
        self._session = session
        self._failure = None
        self._refusals = 0
        self._suspected_at = None
        self._waited_in_vain = 0.0
        self._fulfil(session)

    def _down(self, reason: str) -> None:
        self._log_outage("disconnected", reason)
        self._session = None
        self._down_since = time.monotonic()
        self._failure = BrokerUnavailable(reason)
        self._failed_at = time.monotonic()

    def _fail(self, error: BrokerUnavailable) -> None:
        self._log_outage("unavailable", str(error))
        self._refusals = self._refusals + 1 if isinstance(error, BrokerRefused) else 0
        if isinstance(error, BrokerRefused) and self._refusals < len(self._settings.urls):
            error = BrokerUnavailable(str(error))  # another node may take us
        self._failure = error
        self._failed_at = time.monotonic()
        if isinstance(error, BrokerRefused):
            self._fulfil(error)

    def _fulfil(self, outcome: LinkT | BrokerUnavailable) -> None:
        requests, self._requests = self._requests, {}
        for on_session in requests.values():
            # An exception object of its own for each.
            on_session(type(outcome)(str(outcome)) if isinstance(outcome, BrokerUnavailable) else outcome)

    async def _pause(self, failures: int) -> None:
        refused = isinstance(self._failure, BrokerRefused)
        longest = LAST_REFUSED_DELAY if refused else LAST_DELAY
        if self._is_always_wanted:
            longest = LAST_DELAY if refused else PATIENCE
        delay = min(FIRST_DELAY * 2.0 ** min(failures - 1, 10), longest)
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 - spreads the processes of a site, no secret
        pause = min(delay, REFUSED_PATIENCE if refused else PATIENCE)
        await asyncio.sleep(pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay - pause):
                await self._wanted.wait()

    def _log_outage(self, state: str, reason: str) -> None:
        """Log an outage once, and at most one in LOG_INTERVAL, lest a flapping broker fill the disk.

        One that begins too early for its line gets it later, if it lasts. The end is logged whenever the
        beginning was.
        """
        now = time.monotonic()
        if not self._outage_is_logged and now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            self._outage_is_logged = True
            self._logger.warning("broker=%s state=%s reason=%r", self._settings.alias, state, reason)

    def _failure_age(self) -> float:
        return time.monotonic() - self._failed_at
