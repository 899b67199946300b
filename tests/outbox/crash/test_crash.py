"""What was committed arrives, in the order of its key, whatever fails. `make soak` does more of it."""

import random

import pytest

from .crash import Plan, crash
from .family import Family

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]

SMALL = Plan(seconds=9.0, kills=12, broker_kills=1, terminations=6, stopped=4.0)
SHORT = {"LEASE": 1.5, "GRACE": 1.0, "BATCH": 50, "BACKOFF": (0.2, 1.0)}


def test_committed_messages_arrive_whatever_fails(rabbitmq, postgresql):
    seed = random.SystemRandom().randrange(10**6)
    with Family(rabbitmq, postgresql, **SHORT) as family:
        account, struck = crash(family, SMALL, seed)

    print(f"seed {seed}: {account} {dict(struck)}")
    assert account.violations == {}
    assert account.committed > 300
    assert account.keyed > 100
    assert struck["broker killed"] == struck["leader stopped for 4 s"] == 1
    assert struck["connections terminated"] >= 6
