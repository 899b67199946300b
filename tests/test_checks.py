import ssl

import pytest
from django.core.checks import registry, run_checks
from faststream.rabbit.security import RabbitExternalAuth
from faststream.security import BaseSecurity, SASLPlaintext

from faststream_django.checks import check_deployment, check_settings

GOOD = "amqps://shop:hunter2@rabbit.example/shop"


def ids(messages):
    return [message.id.removeprefix("faststream_django.") for message in messages]


def weaknesses(settings, url, **options):
    settings.FASTSTREAM = {"default": {"URL": url, "OPTIONS": options}}
    return ids(check_deployment())


def test_a_right_setting_passes(settings):
    settings.FASTSTREAM = {"default": {"URL": GOOD}}

    assert check_settings() == []
    assert check_deployment() == []


def test_the_checks_are_registered():
    assert check_settings in registry.registry.registered_checks
    assert check_deployment in registry.registry.deployment_checks


def test_the_checks_of_the_app_can_be_run_alone(settings):
    settings.FASTSTREAM = {"default": {}}

    assert ids(run_checks(tags=["faststream_django"])) == ["E001"]


def test_every_wrong_entry_is_reported(settings):
    settings.FASTSTREAM = {
        "default": {"QUEUE": []},
        "good": {"URL": GOOD},
        "events": {"URL": "amqp://user:hun@ter2@host/"},
    }

    messages = check_settings()

    assert ids(messages) == ["E001", "E001"]
    assert messages[0].msg == ("FASTSTREAM['default']: unknown key 'QUEUE' (did you mean 'QUEUES'?)")
    assert messages[1].msg.startswith("FASTSTREAM['events']['URL']: ")
    assert "ter2" not in str(messages)


@pytest.mark.parametrize("value", [None, ["default"], {5: {}}])
def test_a_setting_without_aliases_is_reported(settings, value):
    settings.FASTSTREAM = value

    assert ids(check_settings()) == ["E001"]
    assert check_deployment() == []


def test_a_missing_setting_is_a_warning(settings):
    del settings.FASTSTREAM

    assert ids(check_settings()) == ["W005"]
    assert check_deployment() == []


def test_an_empty_setting_is_taken_as_meant(settings):
    settings.FASTSTREAM = {}

    assert check_settings() == []


@pytest.mark.parametrize("path", ["missing.Backend", "builtins.dict", "logging.root"])
def test_a_backend_that_is_none_is_reported(settings, path):
    settings.FASTSTREAM = {"default": {"URL": GOOD, "BACKEND": path}}

    messages = check_settings()

    assert ids(messages) == ["E002"]
    assert messages[0].msg.startswith(f"FASTSTREAM['default']['BACKEND']: {path!r} cannot be ")


def test_a_backend_of_another_package_passes(settings):
    settings.FASTSTREAM = {"default": {"URL": GOOD, "BACKEND": "faststream_django.backends.base.Backend"}}

    assert check_settings() == []


@pytest.mark.parametrize(
    "url",
    ["amqps://guest:guest@host/", "amqps://guest@host/", "amqps://host/", "amqps://host/?auth=PLAIN"],
)
def test_the_guest_account_is_a_weakness(settings, url):
    assert weaknesses(settings, url) == ["W001"]


def test_the_security_object_replaces_the_account_of_the_url(settings):
    shop, guest = SASLPlaintext("shop", "hunter2"), SASLPlaintext("guest", "guest")

    assert weaknesses(settings, "amqps://host/", security=shop) == []
    assert weaknesses(settings, GOOD, security=guest) == ["W001"]


def test_a_client_certificate_needs_no_account(settings):
    assert weaknesses(settings, "amqps://host/?auth=EXTERNAL") == []
    assert weaknesses(settings, "amqps://host/", security=RabbitExternalAuth()) == []


def test_password_of_its_own_key_is_judged_where_it_is_known(settings):
    def given(password):
        settings.FASTSTREAM = {"default": {"URL": "amqps://shop@rabbit/", "PASSWORD": password}}
        return ids(check_deployment())

    assert given("hunter2") == []
    assert given("shop") == ["W006"]
    assert given(lambda: "shop") == []


def test_nothing_is_said_of_a_url_that_a_function_gives(settings):
    settings.FASTSTREAM = {"default": {"URL": lambda: "amqp://guest:guest@rabbit/"}}

    assert ids([*check_settings(), *check_deployment()]) == []


@pytest.mark.parametrize("host", ["rabbit", "rabbit.example", "10.0.0.1", "[2001:db8::1]"])
def test_a_connection_across_the_network_without_tls_is_a_weakness(settings, host):
    assert weaknesses(settings, f"amqp://shop:hunter2@{host}/") == ["W002"]


@pytest.mark.parametrize("host", ["localhost", "rabbit.localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_a_connection_inside_the_machine_needs_no_tls(settings, host):
    assert weaknesses(settings, f"amqp://shop:hunter2@{host}/") == []


def test_the_security_object_can_add_tls(settings):
    security = BaseSecurity(use_ssl=True)

    assert weaknesses(settings, "amqp://shop:hunter2@rabbit/", security=security) == []


@pytest.mark.parametrize("url", ["memory://", "memory://shop"])
def test_the_embedded_broker_is_a_weakness(settings, url):
    assert weaknesses(settings, url) == ["W003"]


def test_tls_without_verification_is_a_weakness(settings):
    assert weaknesses(settings, f"{GOOD}?no_verify_ssl=1") == ["W004"]
    assert weaknesses(settings, f"{GOOD}?no_verify_ssl=0") == []


def test_a_tls_context_without_verification_is_a_weakness(settings):
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE

    of_any_host = ssl.create_default_context()
    of_any_host.check_hostname = False

    assert weaknesses(settings, GOOD, security=BaseSecurity(careless)) == ["W004"]
    assert weaknesses(settings, GOOD, security=BaseSecurity(of_any_host)) == ["W004"]
    assert weaknesses(settings, GOOD, security=BaseSecurity(ssl.create_default_context())) == []


def test_every_node_and_every_right_entry_is_looked_at(settings):
    settings.FASTSTREAM = {
        "broken": {},
        "default": {"URL": [GOOD, "amqp://guest:guest@rabbit/"]},
        "tests": {"URL": "memory://"},
    }

    assert ids(check_deployment()) == ["W001", "W002", "W003"]


def test_every_message_has_a_hint_and_no_secret(settings):
    settings.FASTSTREAM = {
        "broken": {"URL": "amqp://user:hun@ter2@host/"},
        "backend": {"URL": GOOD, "BACKEND": "missing.Backend"},
        "default": {"URL": "amqp://guest:hunter2@rabbit/"},
        "tls": {"URL": f"{GOOD}?no_verify_ssl=1"},
        "tests": {"URL": "memory://"},
    }

    messages = [*check_settings(), *check_deployment()]

    assert sorted(ids(messages)) == ["E001", "E002", "W001", "W002", "W003", "W004"]
    for message in messages:
        assert message.hint
        assert "ter2" not in f"{message} {message.hint}"
