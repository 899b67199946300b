"""What operators see of a body and of headers, and what they do not."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from faststream_django.outbox.showing import shown_body, shown_headers


def test_json_is_indented():
    assert shown_body('{"n": 1, "ü": [true]}'.encode(), ()) == '{\n  "n": 1,\n  "ü": [\n    true\n  ]\n}'


def test_text_is_shown_as_it_is():
    assert shown_body(b"order <1> placed", ()) == "order <1> placed"
    assert shown_body(b"", ()) == "(empty)"


def test_bytes_are_shown_as_hex_with_their_size():
    assert shown_body(b"\x00\xff\x10", ()) == "00ff 10\n(3 bytes)"
    assert shown_body(b"\xff" * 2000, ()).endswith("\n… (2,000 bytes in all)")
    assert len(shown_body(b"\xff" * 2_000_000, ())) < 2000


def test_big_bodies_are_cut():
    assert shown_body(b"x" * 50_000, ()).endswith("x\n… (50,000 characters in all)")
    assert len(shown_body(json.dumps(["x" * 10] * 50_000).encode(), ())) < 21_000
    assert len(shown_body(b"[" + b"1," * 1_000_000 + b"1]", ())) < 21_000


def test_keys_are_hidden_at_any_depth():
    body = json.dumps(
        {
            "user": {"Password": "s3cret"},
            "cards": [{"number": "s3cret", "kind": "visa"}],
            "password": ["s3cret"],
        }
    ).encode()

    shown = shown_body(body, ("password", "NUMBER"))

    assert "s3cret" not in shown
    assert json.loads(shown) == {
        "user": {"Password": "***"},
        "cards": [{"number": "***", "kind": "visa"}],
        "password": "***",
    }


def test_keys_are_hidden_in_json_inside_a_text():
    body = json.dumps({"payload": json.dumps({"password": "s3cret", "n": 1})}).encode()

    shown = shown_body(body, ("password",))

    assert "s3cret" not in shown
    assert '\\"n\\": 1' in shown


@pytest.mark.parametrize(
    "body",
    [
        b"password=s3cret",
        b"\xffs3cret",
        b'{"password": "s3cret"',
        b'{"password": "s3cret"}' + b" " * 1_100_000,
        b"[" * 100_000 + b'{"password": "s3cret"}' + b"]" * 100_000,
        b'{"password": "s3cret", "n": ' + b"1" * 5000 + b"}",
    ],
    ids=["form", "bytes", "broken", "big", "deep", "digits"],
)
def test_body_without_keys_is_not_shown_where_keys_are_hidden(body):
    shown = shown_body(body, ("password",))

    assert "s3cret" not in shown
    assert "not shown, since OUTBOX['REDACT']" in shown


def test_headers_are_shown_in_words():
    shown = shown_headers(
        {
            "price": Decimal("1.50"),
            "at": datetime(2026, 1, 2, tzinfo=UTC),
            "text": b"abc",
            "raw": b"\xff",
            "table": {"Token": "s3cret", "list": [{"token": "s3cret"}]},
        },
        ("token",),
    )

    assert json.loads(shown) == {
        "price": "1.50",
        "at": "2026-01-02 00:00:00+00:00",
        "text": "abc",
        "raw": "0xff",
        "table": {"Token": "***", "list": [{"token": "***"}]},
    }
    assert shown_headers({}, ()) == "(none)"


def test_header_that_holds_json_hides_its_keys():
    assert "s3cret" not in shown_headers({"context": b' {"token": "s3cret"}'}, ("token",))
    assert "s3cret" not in shown_headers({"c": '{"token": "s3cret", "n": ' + "1" * 5000 + "}"}, ("token",))
    assert shown_headers({"context": b"{no json"}, ("token",)) == '{\n  "context": "{no json"\n}'


def test_half_a_character_can_be_shown():
    shown_body(b'{"a": "\\ud800"}', ()).encode()
