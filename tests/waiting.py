"""Waits for what another thread or process does."""

import time

SOON = 30.0


def wait_until(condition, what="what is waited for", timeout=SOON):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come"
        time.sleep(0.002)
