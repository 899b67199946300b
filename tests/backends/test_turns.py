import asyncio
import itertools

import pytest

from faststream_django.backends.turns import Turns


def run(scenario):
    async def main():
        return await scenario(Turns())

    return asyncio.run(main())


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_turn_comes_once_every_earlier_one_is_over(order):
    async def scenario(turns):
        taken = [turns.take("caller", "orders") for _ in range(4)]
        over = set()
        for index in order:
            turns.end(taken[index])
            over.add(index)
            for number, turn in enumerate(taken):
                assert turn.came.is_set() is over.issuperset(range(number))
        return turns._last

    assert run(scenario) == {}


@pytest.mark.parametrize(("one", "other"), [(("a", "x"), ("b", "x")), (("a", "x"), ("a", "y"))])
def test_other_callers_and_exchanges_do_not_wait(one, other):
    async def scenario(turns):
        turns.take(*one)
        return turns.take(*other).came.is_set()

    assert run(scenario)


def test_turn_may_be_ended_again_when_another_has_begun():
    async def scenario(turns):
        first = turns.take("caller", "orders")
        turns.end(first)
        second = turns.take("caller", "orders")
        turns.end(first)
        return second.came.is_set(), turns.take("caller", "orders").came.is_set()

    assert run(scenario) == (True, False)


def test_thousand_turns_may_end_at_once():
    async def scenario(turns):
        taken = [turns.take("caller", "orders") for _ in range(5000)]
        for turn in reversed(taken):
            turns.end(turn)
        return turns._last

    assert run(scenario) == {}
