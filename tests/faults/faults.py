"""What goes wrong. Each fault returns the moment from which the broker could answer (time.monotonic).

The recovery is the longest time without a confirm after that moment.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from faststream_django.exceptions import (
    BrokerBlocked,
    BrokerUnavailable,
    ConnectionLost,
    MessageRejected,
    MessageUnroutable,
    PublishTimeout,
)

from .load import CALLERS
from .site import Site, forbid, permit

AWAY = (BrokerUnavailable, ConnectionLost, PublishTimeout)
GARBAGE = b"\x01\x00\x01\x7f\xff\xff\xff" + bytes(range(256)) * 8  # a frame that announces 2 GB


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`recovery`: how long it may take until there are confirms again, and stay, in seconds."""

    strike: Callable[[Site, float], float]
    errors: tuple[type[Exception], ...] = AWAY
    recovery: float = 1.0
    lasts: float = 0.0


def kill(site: Site, seconds: float) -> float:
    site.node.kill()
    site.node.start()
    return site.node.answers_since


def restart(site: Site, seconds: float) -> float:
    site.node.stop()
    site.node.start()
    return site.node.answers_since


def close_all(site: Site, seconds: float) -> float:
    now = time.monotonic()
    site.node.close_all_connections()
    return now


def reset(site: Site, seconds: float) -> float:
    now = time.monotonic()
    site.proxy.reset()
    return now


def pause(site: Site, seconds: float) -> float:
    site.node.pause()
    time.sleep(seconds)
    site.node.resume()
    return time.monotonic()


def black_hole(site: Site, seconds: float) -> float:
    site.proxy.black_hole()
    time.sleep(seconds)
    site.proxy.heal()
    return time.monotonic()


def black_hole_one_way(site: Site, seconds: float) -> float:
    """The broker gets every message, and none of its confirms comes back."""
    site.proxy.black_hole("client")
    time.sleep(seconds)
    site.proxy.heal()
    return time.monotonic()


def forgotten(site: Site, seconds: float) -> float:
    site.proxy.black_hole()
    time.sleep(seconds)
    site.proxy.forget()
    return time.monotonic()


def reset_then_mute(site: Site, seconds: float) -> float:
    site.proxy.mute()
    site.proxy.reset()
    time.sleep(seconds)
    site.proxy.heal()
    return time.monotonic()


def delay(site: Site, seconds: float) -> float:
    site.proxy.delay = 0.1
    time.sleep(seconds)
    site.proxy.delay = 0.0
    return time.monotonic()


def alarm(site: Site, seconds: float) -> float:
    with site.node.memory_alarm():
        time.sleep(seconds)
    return site.node.answers_since


def garbage(site: Site, seconds: float) -> float:
    now = time.monotonic()
    site.proxy.mangle("client", GARBAGE)
    return now


def garbage_to_the_broker(site: Site, seconds: float) -> float:
    now = time.monotonic()
    site.proxy.mangle("server", GARBAGE)
    return now


def delete_queue(site: Site, seconds: float) -> float:
    """RabbitMQ also confirms what reaches a queue while it is being deleted: at most one for each caller."""
    with site.node.channel() as channel:
        site.destroyed += channel.queue_delete(site.queue).method.message_count + CALLERS
    time.sleep(seconds)
    site.declare()
    return time.monotonic()


def change_exchange(site: Site, seconds: float) -> float:
    site.node.delete_exchange(site.exchange)
    time.sleep(seconds)
    site.node.declare_exchange(site.exchange, "topic")
    site.node.bind(site.queue, site.exchange, "#")
    return time.monotonic()


def revoke(site: Site, seconds: float) -> float:
    """RabbitMQ asks for permissions when a channel is new, and again when it was idle."""
    forbid(site.node)
    site.proxy.reset()
    time.sleep(seconds)
    permit(site.node)
    return time.monotonic()


FAULTS = {
    "kill": Fault(strike=kill),
    "restart": Fault(strike=restart),
    "close all connections": Fault(strike=close_all),
    "reset": Fault(strike=reset),
    "pause": Fault(strike=pause, lasts=3),
    "black hole": Fault(strike=black_hole, lasts=3, recovery=6),
    "black hole one way": Fault(strike=black_hole_one_way, lasts=3, recovery=6),
    "forgotten connections": Fault(strike=forgotten, lasts=1, recovery=6),
    "reset then mute": Fault(strike=reset_then_mute, lasts=2, recovery=6),
    "delay": Fault(strike=delay, lasts=2, errors=()),
    "alarm": Fault(strike=alarm, lasts=2, errors=(PublishTimeout, BrokerBlocked), recovery=0.5),
    "garbage from the broker": Fault(strike=garbage, recovery=6),
    "garbage to the broker": Fault(strike=garbage_to_the_broker),
    "queue deleted": Fault(strike=delete_queue, lasts=0.5, errors=(MessageUnroutable,)),
    "exchange changed": Fault(strike=change_exchange, lasts=0.5, errors=(MessageUnroutable, ConnectionLost)),
    "permission revoked": Fault(strike=revoke, lasts=1, errors=(MessageRejected, ConnectionLost)),
}
