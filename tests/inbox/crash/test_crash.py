"""Each message has one effect, whatever is killed. `make soak` does more of it."""

import random

import pytest

from .workers import Workers

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]


def test_message_has_one_effect_whatever_is_killed(rabbitmq, postgresql):
    """Two workers, two copies of each message, and a handler that fails for one of ten."""
    seed = random.SystemRandom().randrange(10**6)
    with Workers(rabbitmq, postgresql, seed=seed) as workers:
        effects = workers.crash(messages=600, copies=2, strikes=8)

    print(f"seed {seed}: {dict(workers.struck)}")
    assert {message_id: count for message_id, count in effects.items() if count > 1} == {}
