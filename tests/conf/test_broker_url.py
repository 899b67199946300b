import random
import string
from urllib.parse import quote

import pytest
from yarl import URL

from faststream_django.conf.broker_url import BrokerURL, InvalidURL, parse_url, redacted
from faststream_django.conf.secrets import PrivateURL

SECRET = "hunter2"


@pytest.mark.parametrize("url", ["amqp://host", "amqp://host/", "amqp://host//", "amqp://host/%2F"])
def test_the_virtual_host_is_a_slash_in_its_usual_spellings(url):
    parsed = parse_url(url)

    assert parsed == BrokerURL(scheme="amqp", host="host", virtual_host="/")


def test_every_part_is_decoded():
    parsed = parse_url("AMQPS://us%3Aer:pass%40word@[::1]:5671/a%2Fb?cafile=/etc/ca.pem&name=shop")

    assert parsed == BrokerURL(
        scheme="amqps",
        host="::1",
        port=5671,
        username="us:er",
        virtual_host="a/b",
        parameters={"cafile": "/etc/ca.pem", "name": "shop"},
    )


@pytest.mark.parametrize(("url", "name"), [("memory://", ""), ("memory://tests", "tests")])
def test_the_embedded_broker_has_a_name_at_most(url, name):
    parsed = parse_url(url)

    assert parsed == BrokerURL(scheme="memory", host=name)


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_a_url_without_a_password_is_fine(scheme):
    assert parse_url(f"{scheme}://app@host/").username == "app"


def test_a_quoted_password_reaches_the_client_whole():
    """The client reads the URL with yarl: both must agree where the password ends."""
    choose = random.Random(4)

    for _ in range(300):
        password = "".join(choose.choices(string.printable + "äß€", k=12))
        url = f"amqp://user:{quote(password, safe='')}@host/shop"
        parsed = parse_url(url)

        assert (parsed.host, parsed.virtual_host) == ("host", "shop")
        assert URL(url).password == password
        assert redacted(url) == "amqp://user:***@host/shop"


@pytest.mark.parametrize("character", [*'@/?#[]\\ <>^`{|}"%\t\n\r\0\x7f', "ä", "\u2028", "\ud800"])
@pytest.mark.parametrize("before", ["hunter", "1", ""])
def test_an_unquoted_character_in_the_password_is_refused(before, character):
    url = f"amqp://user:{before}{character}{SECRET}@host/shop"

    with pytest.raises(InvalidURL, match=r"urllib\.parse\.quote\(password, safe=''\)") as caught:
        parse_url(url)

    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None
    assert SECRET not in redacted(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "no scheme"),
        ("user:hunter2@host", "no scheme"),
        ("amqp:user:hunter2@host", "no scheme"),
        ("//user:hunter2@host", "no scheme"),
        ("pyamqp://user:hunter2@host", "did you mean 'amqp'"),
        ("http://user:hunter2@host", "scheme is unknown"),
        ("amqp://", "no host"),
        ("amqp:///shop", "no host"),
        ("amqp://user:hunter2@", "no host"),
        ("amqp://user:hunter2@/shop", "no host"),
        ("amqp://user:hunter2@:5672/shop", "no host"),
        ("amqp://user:hunter2", "port"),
        ("amqp://user:hunter2@host:0/", "port"),
        ("amqp://user:hunter2@host:65536/", "port"),
        ("amqp://user:hunter2@host:-1/", "port"),
        ("amqp://user:hunter2@host:/", "port"),
        ("amqp://user:hunter2@host:hunter2/", "port"),
        ("amqp://user:hunter2@::1/", "brackets"),
        ("amqp://user:hunter2@[::1]hunter2/", "urllib.parse.quote"),
        ("amqp://user:hunter2@a:5672,b:5672/", "a list with one URL for each node"),
        ("amqp://user:hunter2@host/a/b", "percent-encode"),
        ("amqp://user:hunter2@host/shop/", "percent-encode"),
        ("amqp://user:hunter2@host/shop%0A", "control character"),
        ("amqp://user:hunter2@host/shop\n", "line break"),
        ("amqp://user:hunter2%FF@host/", "not UTF-8"),
        ("amqp://user:hunter2@host/#top", "percent-encode"),
        ("amqp://user:hunter2@host/?heartbeat=5", "set 'HEARTBEAT' instead"),
        ("amqp://user:hunter2@host/?timeout=5", "set 'CONNECT_TIMEOUT' instead"),
        ("amqp://user:hunter2@host/?nmae=hunter2", "did you mean 'name'"),
        ("amqp://user:hunter2@host/?hunter2", "unknown parameter"),
        ("amqp://user:hunter2@host/?name=a&name=b", "'name' twice"),
        ("amqp://user:hunter2@host/?name=", "'name' is empty"),
        ("amqp://user:hunter2@host/?name=a%0Ab", "control character"),
        ("amqp://user:hunter2@host/?auth=hunter2", "'PLAIN' or 'EXTERNAL'"),
        ("amqp://user:hunter2@host/?interleave=x", "a whole number"),
        ("amqp://user:hunter2@host/?happy_eyeballs_delay=-1", "a number of seconds"),
        ("amqp://user:hunter2@host/?cafile=/etc/ca.pem", "use amqps://"),
        ("amqps://user:hunter2@host/?no_verify_ssl=true", "'0' or '1'"),
        ("memory://user:hunter2@name", "'memory://' or 'memory://name'"),
        ("memory://name/path", "'memory://' or 'memory://name'"),
        ("memory://name:hunter2", "'memory://' or 'memory://name'"),
        ("memory://?name=x", "'memory://' or 'memory://name'"),
    ],
)
def test_a_wrong_url_is_refused_with_what_to_do_and_without_its_password(url, text):
    with pytest.raises(InvalidURL) as caught:
        parse_url(url)

    assert text in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in redacted(url)


@pytest.mark.parametrize("value", [None, b"amqp://host", 5, ["amqp://host"]])
def test_only_a_str_is_a_url(value):
    with pytest.raises(InvalidURL, match="must be a str"):
        parse_url(value)

    assert redacted(value) == "***"


@pytest.mark.parametrize(
    "parameters",
    [
        "name=shop",
        "auth=PLAIN",
        "auth=external",
        "no_verify_ssl=0",
        "no_verify_ssl=1",
        "happy_eyeballs_delay=0.25&interleave=1",
        "cafile=/a&capath=/b&certfile=/c&keyfile=/d",
        "cadata=-----BEGIN%20CERTIFICATE-----%0AMII%0A-----END%20CERTIFICATE-----",
    ],
)
def test_the_parameters_of_the_client_are_allowed(parameters):
    assert parse_url(f"amqps://host/?{parameters}").host == "host"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://guest:guest@localhost:5672/shop?name=x", "amqp://guest:***@localhost:5672/shop"),
        ("amqp://:token@host/", "amqp://:***@host/"),
        ("amqp://app@host", "amqp://app@host"),
        ("amqp://host/?heartbeat=5", "amqp://host/"),
        ("memory://name", "memory://name"),
    ],
)
def test_redacted_shows_where_a_url_leads(url, shown):
    assert redacted(url) == shown


def test_the_repr_of_a_private_url_is_redacted():
    url = PrivateURL("amqp://guest:hunter2@host/")

    assert repr(url) == "'amqp://guest:***@host/'"
    assert str(url) == "amqp://guest:hunter2@host/"
