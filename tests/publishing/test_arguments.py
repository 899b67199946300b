from datetime import timedelta

import pytest

from faststream_django import (
    apublish,
    apublish_many,
    apublish_on_commit,
    publish,
    publish_many,
    publish_on_commit,
)
from faststream_django.exceptions import BrokerDoesNotExist, InvalidMessage
from tests.publishing.verbs import bodies, call

EVERY_VERB = [publish, publish_many, publish_on_commit, apublish, apublish_many, apublish_on_commit]


@pytest.mark.parametrize("verb", [publish, publish_many, apublish, apublish_many])
def test_database_alias_is_refused_with_a_hint(server, verb):
    with pytest.raises(TypeError, match=r"'using' \(did you mean broker=\?\)"):
        call(verb, "x", "orders", using="default")

    assert bodies(server) == []


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_unknown_keyword_is_refused_with_a_hint(server, verb):
    with pytest.raises(TypeError, match=r"'header' \(did you mean headers=\?\)"):
        call(verb, "x", "orders", header={})


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_unknown_keyword_without_a_likeness_is_refused_without_a_hint(server, verb):
    with pytest.raises(TypeError, match=r"argument 'zzz'$"):
        call(verb, "x", "orders", zzz=1)


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_unknown_alias_is_refused_with_a_hint(server, verb):
    with pytest.raises(BrokerDoesNotExist, match=r"'defualt' \(did you mean 'default'\?\)"):
        call(verb, "x", "orders", broker="defualt")


WRONG_TIMEOUTS = [0, -1, True, "5", float("nan"), float("inf"), 1e10, timedelta(0), timedelta(days=400)]


@pytest.mark.parametrize("timeout", WRONG_TIMEOUTS, ids=repr)
@pytest.mark.parametrize("verb", EVERY_VERB)
@pytest.mark.django_db
def test_wrong_timeout_is_refused_before_anything_is_sent(server, verb, timeout):
    with pytest.raises(InvalidMessage, match="timeout"):
        call(verb, "x", "orders", timeout=timeout)

    publish("next", "orders")
    assert bodies(server) == ["next"]


@pytest.mark.parametrize("timeout", [2, 2.5, timedelta(seconds=2)])
def test_timeout_may_be_whole_or_not_or_a_timedelta(server, timeout):
    publish("x", "orders", timeout=timeout)

    assert bodies(server) == ["x"]


@pytest.mark.parametrize("verb", [publish, apublish])
def test_bad_payload_is_refused_and_sends_no_signal(server, heard, verb):
    with pytest.raises(InvalidMessage, match="NaN"):
        call(verb, float("nan"), "orders")

    assert heard == []
    assert bodies(server) == []
