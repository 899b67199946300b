import pytest

from faststream_django.worker import headers


def test_attempts_are_read():
    assert headers.attempts_of({headers.ATTEMPTS: 3}) == 3


@pytest.mark.parametrize("value", [None, "3", -1, True, 2.0, [1]], ids=str)
def test_attempts_that_no_worker_wrote_count_as_none(value):
    assert headers.attempts_of({headers.ATTEMPTS: value}) == 0
    assert headers.attempts_of({}) == 0


def test_headers_of_the_worker_and_of_the_broker_are_left_out():
    given = {
        "tenant": 1,
        "faststream-of-mine": 2,
        headers.QUEUE: "orders",
        "x-death": [],
        "x-first-death-queue": "orders",
        "x-last-death-reason": "expired",
        "x-delivery-count": 2,
        "CC": ["other"],
        "BCC": ["secret"],
    }

    assert headers.user_headers(given) == {"tenant": 1, "faststream-of-mine": 2}
