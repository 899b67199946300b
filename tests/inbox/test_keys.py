"""What makes two messages the same."""

from uuid import UUID

import pytest

from faststream_django.exceptions import MessageHasNoId
from faststream_django.inbox.keys import digest, key_of
from tests.inbox.deliveries import message

ID = UUID("0b7c1d5e-8f1c-4f7e-9b1d-2f9f3f0c9a11")


def test_message_is_known_by_its_id():
    assert key_of(message("m-1"), None) == b"m-1"


def test_id_that_faststream_makes_up_is_none():
    nameless = message(None)
    assert nameless.message_id

    with pytest.raises(MessageHasNoId, match=r"has no message id.*publish\(\).*key="):
        key_of(nameless, None)


@pytest.mark.parametrize(
    ("value", "key"), [("o-7", b"o-7"), (7, b"7"), (b"\xff", b"\xff"), (ID, str(ID).encode())]
)
def test_value_that_a_function_finds_is_the_key(value, key):
    assert key_of(message(), lambda found: value) == key


def test_function_gets_the_message():
    assert key_of(message(None, body=b"order-7"), lambda found: found.body) == b"order-7"


def test_header_is_the_key():
    assert key_of(message(None, headers={"order": "o-7"}), "order") == b"o-7"

    with pytest.raises(MessageHasNoId, match="has no header 'order'"):
        key_of(message("m-1"), "order")


@pytest.mark.parametrize("value", [None, "", b""])
def test_nothing_is_no_key(value):
    with pytest.raises(MessageHasNoId, match="nothing that the key= of @idempotent finds"):
        key_of(message("m-1"), lambda found: value)


@pytest.mark.parametrize("value", [True, 1.5, ["a"], {"secret": "a"}])
def test_value_without_one_way_to_write_it_is_refused(value):
    with pytest.raises(MessageHasNoId, match=type(value).__name__) as caught:
        key_of(message("m-1"), lambda found: value)

    assert "secret" not in str(caught.value)


def test_digest_tells_consumers_and_messages_apart():
    digests = {digest("a", b"bc"), digest("ab", b"c"), digest("a", b"b"), digest("", b"abc")}

    assert len(digests) == 4
    assert {len(each) for each in digests} == {16}


def test_digest_is_the_same_for_ever():
    """Rows of an earlier version must be found again."""
    assert digest("orders shop.subscribers.handle", b"m-1").hex() == "236b020185119e1a0f4fad632bdab9f8"
