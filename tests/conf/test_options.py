import inspect
import logging
import subprocess
import sys
import uuid

import pytest
from faststream import BaseMiddleware
from faststream.rabbit import RabbitBroker

from faststream_django.conf import broker_settings_from
from faststream_django.conf import options as broker_options
from faststream_django.exceptions import InvalidBroker

SECURITY = object()


def parsed(**options):
    entry = {"URL": "amqp://localhost/", "OPTIONS": options}
    return broker_settings_from("default", entry).options


def refusal(**options):
    with pytest.raises(InvalidBroker) as caught:
        parsed(**options)
    return str(caught.value)


def test_options_are_passed_on():
    codec, middleware = object(), object()

    options = parsed(app_id="shop", apply_types=False, codec=codec, middlewares=[middleware])

    assert options == {
        "app_id": "shop",
        "apply_types": False,
        "codec": codec,
        "middlewares": (middleware,),
    }


def test_dotted_paths_are_imported():
    options = parsed(
        middlewares=["faststream.BaseMiddleware"],
        security="tests.conf.test_options.SECURITY",
        id_generator="uuid.uuid4",
        logger="logging.root",
    )

    assert options == {
        "middlewares": (BaseMiddleware,),
        "security": SECURITY,
        "id_generator": uuid.uuid4,
        "logger": logging.root,
    }


def test_an_option_that_takes_a_str_is_not_imported():
    assert parsed(description="shop.events")["description"] == "shop.events"


def test_an_import_that_fails_is_named_with_its_place_and_cause():
    with pytest.raises(InvalidBroker) as caught:
        parsed(middlewares=["faststream.BaseMiddleware", "faststream.BaseMidleware"])

    assert str(caught.value).startswith(
        "FASTSTREAM['default']['OPTIONS']['middlewares'][1]: cannot import 'faststream.BaseMidleware': "
    )
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize("path", ["", "Codec", "shop:Codec"])
def test_what_is_no_dotted_path_is_refused(path):
    assert "['OPTIONS']['codec']: must be a dotted path" in refusal(codec=path)


def test_middlewares_are_a_list():
    assert "['OPTIONS']['middlewares']: must be a list" in refusal(middlewares="shop.Audit")


def test_an_unknown_option_is_refused_with_a_suggestion():
    assert refusal(middleware=[]) == (
        "FASTSTREAM['default']['OPTIONS']: unknown option 'middleware' (did you mean 'middlewares'?)"
    )


def test_an_unknown_option_that_is_near_to_none_is_refused_with_those_known():
    text = refusal(xyz=1)

    assert "unknown option 'xyz' (known are " in text
    assert "'url'" not in text


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("url", "'URL'"),
        ("host", "'URL'"),
        ("port", "'URL'"),
        ("virtualhost", "'URL'"),
        ("timeout", "'CONNECT_TIMEOUT'"),
        ("fail_fast", "'CONNECT_TIMEOUT'"),
        ("reconnect_interval", "growing interval"),
        ("default_channel", "'MAX_IN_FLIGHT'"),
        ("on_close", "faststream_django.connection"),
        ("on_reconnected", "faststream_django.connection"),
        ("routers", "subscribers.py"),
    ],
)
def test_an_option_that_has_a_key_of_its_own_is_refused_with_it(option, instead):
    text = refusal(**{option: "hunter2"})

    assert text.startswith(f"FASTSTREAM['default']['OPTIONS']: {option!r} is not an option here: ")
    assert instead in text
    assert "hunter2" not in text


def test_the_heartbeat_is_no_client_property():
    text = refusal(client_properties={"heartbeat": 5})

    assert text.endswith(": 'heartbeat' is not a property here: set 'HEARTBEAT'")


def test_other_client_properties_are_passed_on():
    assert parsed(client_properties={"channel_max": 5}) == {"client_properties": {"channel_max": 5}}


@pytest.mark.parametrize("options", [None, [], "shop.Options"])
def test_options_are_a_dict(options):
    with pytest.raises(InvalidBroker, match=r"\['OPTIONS'\]: must be a dict"):
        broker_settings_from("default", {"URL": "memory://", "OPTIONS": options})


def test_every_option_that_is_treated_here_exists_in_faststream():
    treated = {
        *broker_options._OWNED,
        *broker_options._IMPORTED,
        *broker_options._IMPORTED_LISTS,
    }

    assert treated <= set(inspect.signature(RabbitBroker).parameters)


@pytest.mark.parametrize(("options", "imported"), [("{}", False), ("{'app_id': 'x'}", True)])
def test_faststream_is_imported_for_options_only(options, imported):
    program = (
        "import sys\n"
        "from faststream_django.conf import broker_settings_from\n"
        f"broker_settings_from('default', {{'URL': 'amqp://host/', 'OPTIONS': {options}}})\n"
        "print('faststream' in sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.strip() == str(imported)
