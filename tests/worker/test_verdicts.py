import json
import traceback

import pytest
from django.db import DatabaseError, connection
from faststream.exceptions import RejectMessage, SubscriberNotFound

from faststream_django.worker.headers import FAILED, REJECTED, UNHANDLED
from faststream_django.worker.tracebacks import place
from faststream_django.worker.verdicts import describe, reason_of


def raised(function, *arguments):
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError


def fail():
    raise OSError("secret")


def line_of(error, function):
    [line] = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.name == function]
    return line


def test_reasons():
    assert reason_of(RejectMessage(), object()) == REJECTED
    assert reason_of(SubscriberNotFound("x"), None) == UNHANDLED
    assert reason_of(SubscriberNotFound("of a handler"), object()) == FAILED
    assert reason_of(raised(fail), object()) == FAILED
    assert reason_of(raised(json.loads, "{"), object()) == FAILED


def test_description_has_the_type_and_the_place_and_not_the_text():
    error = raised(fail)

    assert describe(error, fail) == f"OSError at tests.worker.test_verdicts:{line_of(error, 'fail')} in fail"


@pytest.mark.django_db
def test_place_is_the_innermost_line_of_the_site():
    def handle():
        connection.cursor().execute("SELECT nonsense")

    error = raised(handle)

    assert isinstance(error, DatabaseError)
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    here = f"tests.worker.test_verdicts:{line_of(error, 'handle')} in handle"
    assert describe(error, handle) == f"{kind} at {here}"


def test_place_is_the_innermost_line_where_nothing_of_the_site_was_called():
    assert place(raised(json.loads, "{"), "shop") == place(raised(json.loads, "{"), "json")
    assert place(raised(json.loads, "{"), "json").startswith("json.decoder:")


def test_error_that_was_never_raised_has_no_place():
    assert describe(OSError("secret"), None) == "OSError"


def test_description_is_short():
    error = type("E" * 600, (Exception,), {})()

    assert len(describe(error, None)) == 500
