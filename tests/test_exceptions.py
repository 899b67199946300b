import copy
import inspect
import pickle

import pytest
from django.core.exceptions import ImproperlyConfigured

from faststream_django import Message, exceptions
from faststream_django.exceptions import (
    BrokerBlocked,
    BrokerDoesNotExist,
    BrokerRefused,
    BrokerUnavailable,
    BulkPublishError,
    ConnectionLost,
    DeclarationError,
    DeclarationRefused,
    DeclarationTimeout,
    InboxNotReady,
    InvalidBroker,
    InvalidDeclaration,
    InvalidMessage,
    InvalidSubscriber,
    MessageHasNoId,
    MessageRejected,
    MessageUnroutable,
    OutboxNotReady,
    PublishError,
    PublishTimeout,
    RequestFailed,
    RequestTimeout,
    TooManyInFlight,
)

SINGLE = [
    PublishError,
    InvalidMessage,
    BrokerUnavailable,
    BrokerBlocked,
    BrokerRefused,
    TooManyInFlight,
    MessageUnroutable,
    MessageRejected,
    PublishTimeout,
    RequestTimeout,
    ConnectionLost,
    RequestFailed,
]
SETTINGS = [InvalidBroker, BrokerDoesNotExist, InvalidSubscriber, OutboxNotReady, InboxNotReady]
DECLARING = [DeclarationError, InvalidDeclaration, DeclarationRefused, DeclarationTimeout]


def bulk_error(*errors):
    return BulkPublishError(
        "some failed", errors=dict(enumerate(errors)), confirmed=7, broker="default", stopped_at=9
    )


def through_pickle(error):
    return pickle.loads(pickle.dumps(error))


def test_this_file_knows_every_class():
    classes = {member for _, member in inspect.getmembers(exceptions, inspect.isclass)}

    assert {cls for cls in classes if cls.__module__ == exceptions.__name__} == {
        *SINGLE,
        *SETTINGS,
        *DECLARING,
        BulkPublishError,
        MessageHasNoId,
    }
    assert set(exceptions.__all__) == {
        cls.__name__ for cls in (*SINGLE, *SETTINGS, *DECLARING, BulkPublishError, MessageHasNoId)
    }


@pytest.mark.parametrize("cls", DECLARING)
def test_failed_declaration_survives_pickling_and_is_about_no_message(cls):
    error = through_pickle(cls("it failed", broker="audit"))

    assert (type(error), str(error), error.broker) == (cls, "it failed", "audit")
    assert isinstance(error, DeclarationError)
    assert not isinstance(error, PublishError | ImproperlyConfigured)


@pytest.mark.parametrize("cls", SINGLE)
def test_only_lost_connection_and_failed_handler_say_by_themselves_that_it_may_be_sent(cls):
    assert cls("text").maybe_sent is (cls in (ConnectionLost, RequestFailed))


@pytest.mark.parametrize("through", [through_pickle, copy.copy, copy.deepcopy])
def test_failed_request_keeps_the_name_of_the_error(through):
    assert through(RequestFailed("text", error_type="ValueError")).error_type == "ValueError"
    assert RequestFailed("text").error_type is None


@pytest.mark.parametrize("cls", SINGLE)
@pytest.mark.parametrize("maybe_sent", [True, False])
def test_what_is_known_can_be_told(cls, maybe_sent):
    assert cls("text", maybe_sent=maybe_sent).maybe_sent is maybe_sent


@pytest.mark.parametrize("cls", SINGLE)
def test_error_names_its_message_and_its_broker(cls):
    error = cls("text", message_id="m", broker="b")

    assert (str(error), error.message_id, error.broker) == ("text", "m", "b")


@pytest.mark.parametrize("cls", SINGLE)
@pytest.mark.parametrize("through", [through_pickle, copy.copy, copy.deepcopy])
def test_error_crosses_processes_whole(cls, through):
    message = Message.encode("x", "orders", message_id="m")
    error = cls("text", message_id="m", broker="b", message=message, maybe_sent=True)

    arrived = through(error)

    assert type(arrived) is cls
    assert arrived is not error
    assert arrived.args == ("text",)
    assert vars(arrived) == {"message_id": "m", "broker": "b", "message": message, "maybe_sent": True}


@pytest.mark.parametrize("through", [through_pickle, copy.copy, copy.deepcopy])
def test_error_of_a_bulk_crosses_processes_whole(through):
    error = bulk_error(MessageUnroutable("lost", message_id="m", broker="b"), ConnectionLost("unknown"))

    arrived = through(through(error))

    assert type(arrived) is BulkPublishError
    assert str(arrived) == "some failed"
    assert (arrived.broker, arrived.confirmed, arrived.maybe_sent) == ("default", 7, True)
    assert arrived.stopped_at == 9
    assert {index: (type(each), str(each)) for index, each in arrived.errors.items()} == {
        0: (MessageUnroutable, "lost"),
        1: (ConnectionLost, "unknown"),
    }
    assert arrived.errors[0].message_id == "m"


@pytest.mark.parametrize("cls", SETTINGS)
def test_error_of_the_settings_crosses_processes_whole(cls):
    arrived = through_pickle(cls("FASTSTREAM: wrong"))

    assert type(arrived) is cls
    assert str(arrived) == "FASTSTREAM: wrong"


def test_error_keeps_its_notes():
    error = PublishError("text")
    error.add_note("seen in a view")

    assert through_pickle(error).__notes__ == ["seen in a view"]


@pytest.mark.parametrize(
    ("errors", "maybe_sent"),
    [
        ([MessageUnroutable("x")], False),
        ([MessageUnroutable("x"), PublishTimeout("x", maybe_sent=True)], True),
    ],
)
def test_outcome_of_a_bulk_is_unknown_if_that_of_one_message_is(errors, maybe_sent):
    assert bulk_error(*errors).maybe_sent is maybe_sent


@pytest.mark.parametrize(
    "error", [bulk_error(PublishError("x")), through_pickle(bulk_error(PublishError("x")))]
)
def test_errors_of_a_bulk_cannot_be_changed(error):
    with pytest.raises(TypeError):
        error.errors[1] = PublishError("y")


def test_errors_of_a_bulk_are_those_of_its_making():
    errors = {0: PublishError("x")}
    error = BulkPublishError("text", errors=errors, confirmed=0)

    errors.clear()

    assert list(error.errors) == [0]


def test_families_can_be_caught_together():
    assert all(issubclass(cls, PublishError) for cls in [*SINGLE, BulkPublishError])
    assert issubclass(InvalidMessage, ValueError)
    assert all(issubclass(cls, BrokerUnavailable) for cls in (BrokerBlocked, BrokerRefused, TooManyInFlight))
    assert not any(issubclass(cls, ImproperlyConfigured) for cls in SINGLE)
    assert all(issubclass(cls, ImproperlyConfigured) for cls in SETTINGS)
    assert issubclass(BrokerDoesNotExist, KeyError)


def test_unknown_alias_reads_as_text():
    """KeyError would show the repr of it, with quotes around the sentence."""
    assert str(BrokerDoesNotExist("FASTSTREAM has no broker 'x'")) == "FASTSTREAM has no broker 'x'"
