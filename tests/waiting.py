"""Waits for what another thread or process does."""

import time

SOON = 30.0


def wait_until(condition, what="what is waited for"):
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come"
        time.sleep(0.002)
