import pytest

from faststream_django import Message
from faststream_django.backends.base import Publication
from faststream_django.connection.bulk import BulkResult
from faststream_django.connection.errors import (
    broken,
    bulk_error,
    conclude,
    conclude_bulk,
    late,
    middleware_failed,
    not_tried,
    of_its_own,
    repeated,
    swallowed,
    unanswered,
    unavailable,
)
from faststream_django.exceptions import (
    BrokerBlocked,
    BrokerRefused,
    BrokerUnavailable,
    BulkPublishError,
    ConnectionLost,
    MessageUnroutable,
    PublishError,
    PublishTimeout,
)
from faststream_django.loop import LoopStalled, LoopStopped

DOWN = "not connected for 3.0 s; last attempt: connection refused"


def publication(**state):
    return Publication(Message.encode("secret", "orders", message_id="m"), "default", timeout=2.5, **state)


@pytest.mark.parametrize(
    ("maybe_sent", "outage", "blocked", "kind", "text"),
    [
        (True, None, False, PublishTimeout, "did not confirm it within 2.5 s"),
        (True, DOWN, False, PublishTimeout, "only if consumers ignore duplicates"),
        (True, None, True, PublishTimeout, "did not confirm"),
        (False, None, True, BrokerBlocked, "memory or disk alarm"),
        (False, DOWN, False, BrokerUnavailable, DOWN),
        (False, DOWN, False, BrokerUnavailable, "safe to publish it again"),
        (False, None, False, PublishTimeout, "held it up"),
    ],
)
def test_deadline_tells_how_far_the_message_came(maybe_sent, outage, blocked, kind, text):
    error = late(publication(maybe_sent=maybe_sent), outage, blocked=blocked)

    assert type(error) is kind
    assert error.maybe_sent is maybe_sent
    assert text in str(error)


def test_deadline_tells_what_the_session_knows():
    error = late(publication(), None, blocked=False, reason="raise channel_max")

    assert (
        str(error)
        == "message m was not sent within 2.5 s: raise channel_max. It is safe to publish it again."
    )


@pytest.mark.parametrize(
    ("error", "connected", "state", "kind", "maybe_sent"),
    [
        (LoopStopped("the loop is stopped"), True, {}, BrokerUnavailable, False),
        (LoopStopped("the loop is stopped"), True, {"maybe_sent": True}, ConnectionLost, True),
        (LoopStalled(), True, {}, PublishTimeout, False),
        (LoopStalled(), True, {"maybe_sent": True}, PublishTimeout, True),
        # The first call in a process imports the driver on the loop.
        (LoopStalled(), False, {}, BrokerUnavailable, False),
    ],
)
def test_loop_that_does_not_answer_tells_what_may_have_happened(error, connected, state, kind, maybe_sent):
    verdict = unanswered(publication(**state), error, connected=connected)

    assert type(verdict) is kind
    assert verdict.maybe_sent is maybe_sent


def test_message_that_was_confirmed_is_fine_although_the_loop_does_not_answer():
    conclude(publication(maybe_sent=True, confirmed=True), LoopStalled(), connected=True)


def test_message_that_was_not_confirmed_is_an_error_when_the_loop_does_not_answer():
    with pytest.raises(PublishTimeout):
        conclude(publication(maybe_sent=True), LoopStalled(), connected=True)


@pytest.mark.parametrize("kind", [BrokerRefused, BrokerUnavailable])
def test_missing_connection_is_told_to_each_message_with_an_error_of_its_own(kind):
    cause = kind("ACCESS_REFUSED")

    error = unavailable(publication(), cause)

    assert type(error) is kind
    assert error is not cause
    assert "ACCESS_REFUSED" in str(error)
    assert error.maybe_sent is False


def test_message_behind_a_failed_one_was_not_sent():
    cause = PublishTimeout("no answer", maybe_sent=True)

    error = not_tried(publication().message, "default", cause)

    assert type(error) is BrokerUnavailable
    assert error.maybe_sent is False
    assert "no answer" in str(error)


@pytest.mark.parametrize("maybe_sent", [True, False])
def test_failed_middleware_is_the_cause_and_the_outcome_depends_on_when(maybe_sent):
    cause = LookupError("the middleware's own")

    error = middleware_failed(publication(maybe_sent=maybe_sent), cause)

    assert error.__cause__ is cause
    assert error.maybe_sent is maybe_sent
    assert "LookupError: the middleware's own" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        late(publication(), None, blocked=False),
        late(publication(), DOWN, blocked=False),
        late(publication(), None, blocked=True),
        late(publication(maybe_sent=True), None, blocked=False),
        unanswered(publication(), LoopStopped("stopped"), connected=True),
        unanswered(publication(maybe_sent=True), LoopStopped("stopped"), connected=True),
        unanswered(publication(), LoopStalled(), connected=True),
        unavailable(publication(), BrokerRefused("x")),
        swallowed(publication()),
        swallowed(publication(maybe_sent=True)),
        repeated(publication(in_doubt=True), BrokerUnavailable("x")),
        broken(publication(), KeyError("x")),
        middleware_failed(publication(), LookupError()),
        not_tried(publication().message, "default", PublishError("x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_error_names_the_message_and_the_broker_and_shows_no_payload(error):
    assert (error.message_id, error.broker, error.message.message_id) == ("m", "default", "m")
    assert "message m" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("in_doubt", [True, False])
def test_what_an_earlier_attempt_left_in_doubt_stays_so(in_doubt):
    message = publication(in_doubt=in_doubt)

    errors = [
        late(message, DOWN, blocked=False),
        swallowed(message),
        broken(message, KeyError("x")),
        middleware_failed(message, LookupError()),
        unanswered(message, LoopStopped("stopped"), connected=True),
    ]

    assert {error.maybe_sent for error in errors} == {in_doubt}


class Strict(PublishError):
    def __init__(self, *, reason):
        super().__init__(reason)


@pytest.mark.parametrize("shared", [PublishError("x"), Strict(reason="x")])
def test_error_that_is_raised_for_two_messages_is_told_to_each_by_an_object_of_its_own(shared):
    one, two = publication(), publication()

    errors = of_its_own(one, shared), of_its_own(two, shared)

    assert errors[0] is shared
    assert errors[1] is not shared
    assert [error.message for error in errors] == [one.message, two.message]
    assert errors[1].__cause__ is shared


def test_each_caller_gets_an_error_of_its_own():
    one, two = late(publication(), DOWN, blocked=False), late(publication(), DOWN, blocked=False)

    assert one is not two


def test_bulk_without_errors_is_a_number():
    assert conclude_bulk(BulkResult(confirmed=3), "default") == 3


def test_bulk_with_errors_is_an_error():
    errors = {4: PublishError("later"), 1: MessageUnroutable("first")}

    with pytest.raises(BulkPublishError) as raised:
        conclude_bulk(BulkResult(confirmed=3, errors=errors), "default")

    assert raised.value.errors == errors
    assert raised.value.confirmed == 3
    assert raised.value.broker == "default"


def test_error_of_a_bulk_counts_and_shows_the_first():
    errors = {4: PublishError("later"), 1: MessageUnroutable("nobody takes it")}

    text = str(bulk_error(BulkResult(confirmed=3, errors=errors), "default"))

    assert "2 messages" in text
    assert "3 were" in text
    assert "at index 1: nobody takes it" in text
    assert "stopped" not in text


def test_error_of_a_bulk_that_stopped_says_where():
    result = BulkResult(confirmed=3, errors={1: PublishError("x")}, stopped_at=512)

    error = bulk_error(result, "default")

    assert "nothing from index 512 on was sent" in str(error)
    assert error.stopped_at == 512


def test_message_that_was_given_up_is_not_sent_when_the_loop_wakes_up():
    late_one = publication()

    assert late_one.give_up()

    with pytest.raises(PublishTimeout):
        late_one.begin_sending()
    assert not late_one.maybe_sent


def test_message_that_was_handed_over_cannot_be_given_up():
    sent = publication()
    sent.begin_sending()

    assert not sent.give_up()
