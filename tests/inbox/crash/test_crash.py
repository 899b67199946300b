"""Each message has one effect, whatever is killed: two workers, copies of every message, failing handlers."""

import random

import pytest

from .workers import QUEUE, Workers

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]

MESSAGES, COPIES, STRIKES = 600, 2, 8


def test_message_has_one_effect_whatever_is_killed(rabbitmq, postgresql):
    seed = random.SystemRandom().randrange(10**6)
    ids = [f"m-{number}" for number in range(MESSAGES)]
    with Workers(rabbitmq, postgresql, seed=seed) as workers:
        for strike in range(1, STRIKES + 1):
            # In portions: there is always something to handle when something is struck.
            portion = ids[len(ids) * (strike - 1) // STRIKES : len(ids) * strike // STRIKES]
            before = len(workers.effects)
            workers.publish(portion * COPIES)
            workers.wait_until(lambda b=before: len(workers.effects) > b + 10, "the first of a portion")
            workers.strike()
        workers.wait_until(lambda: len(workers.effects) == MESSAGES, "the last message")
        workers.wait_until(lambda: rabbitmq.count(QUEUE) == 0, "the last copy")
        workers.stop()
        effects = workers.effects

    print(f"seed {seed}: {dict(workers.struck)}")
    assert effects.keys() == set(ids)
    assert {message_id: count for message_id, count in effects.items() if count > 1} == {}
