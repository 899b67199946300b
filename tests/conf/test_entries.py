import pickle
import pprint
import threading
import traceback

import pytest

from faststream_django.conf import (
    BrokerSettings,
    broker_aliases,
    broker_settings,
    broker_settings_from,
    is_configured,
    redacted,
)
from faststream_django.conf.topology import Binding, ExchangeSettings, QueueSettings
from faststream_django.conf.worker import WorkerSettings
from faststream_django.exceptions import BrokerDoesNotExist, InvalidBroker

URL = "amqp://guest:guest@localhost/"


def parsed(**entry):
    return broker_settings_from("default", {"URL": URL, **entry})


def refusal(**entry):
    with pytest.raises(InvalidBroker) as caught:
        parsed(**entry)
    return str(caught.value)


def test_the_smallest_form_has_the_documented_defaults():
    broker = broker_settings_from("default", {"URL": URL})

    assert broker == BrokerSettings(
        alias="default",
        urls=(URL,),
        backend="faststream_django.backends.rabbit.RabbitBackend",
        queues=(),
        exchanges=(),
        declare=True,
        timeout=5.0,
        connect_timeout=3.0,
        heartbeat=10,
        shutdown_timeout=10.0,
        max_message_bytes=1_048_576,
        max_in_flight=1000,
        autostart=True,
        on_commit="memory",
        options={},
    )


# Key, what it holds, and what is read.
KEYS = [
    ("URL", ["amqps://a/", "amqp://b/"], ("amqps://a/", "amqp://b/")),
    ("BACKEND", "shop.backends.AuditedBackend", "shop.backends.AuditedBackend"),
    ("QUEUES", ["orders"], (QueueSettings(name="orders"),)),
    ("EXCHANGES", ["events"], (ExchangeSettings(name="events"),)),
    ("DECLARE", "passive", "passive"),
    ("TIMEOUT", 1, 1.0),
    ("CONNECT_TIMEOUT", 0.5, 0.5),
    ("HEARTBEAT", 30, 30),
    ("SHUTDOWN_TIMEOUT", 2, 2.0),
    ("MAX_MESSAGE_BYTES", 1024, 1024),
    ("MAX_IN_FLIGHT", 10, 10),
    ("AUTOSTART", False, False),
    ("ON_COMMIT", "memory", "memory"),
    ("OPTIONS", {}, {}),
]


def test_every_key_is_read():
    broker = broker_settings_from("events", {key: value for key, value, _ in KEYS})

    fields = {"urls" if key == "URL" else key.lower(): read for key, _, read in KEYS}
    assert broker == BrokerSettings(alias="events", **fields)


def test_a_memory_url_chooses_the_embedded_broker():
    broker = parsed(URL="memory://tests")

    assert broker.backend == "faststream_django.backends.memory.MemoryBackend"


def test_times_become_floats():
    assert type(parsed(TIMEOUT=1).timeout) is float


# Errors of an entry.


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"QUEUE": []}, "FASTSTREAM['default']: unknown key 'QUEUE' (did you mean 'QUEUES'?)"),
        ({"timeout": 1}, "FASTSTREAM['default']: unknown key 'timeout' (did you mean 'TIMEOUT'?)"),
        (
            {"QUEUES": {"orders": {"typ": "quorum"}}},
            "FASTSTREAM['default']['QUEUES']['orders']: unknown key 'typ' (did you mean 'type'?)",
        ),
        (
            {"EXCHANGES": {"events": {"intern": True}}},
            "FASTSTREAM['default']['EXCHANGES']['events']: unknown key 'intern' (did you mean 'internal'?)",
        ),
        (
            {"QUEUES": {"orders": {"bind": {"events": [{"rooting_key": "x"}]}}}},
            (
                "FASTSTREAM['default']['QUEUES']['orders']['bind']['events'][0]: unknown key "
                "'rooting_key' (did you mean 'routing_key'?)"
            ),
        ),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_a_suggestion(entry, text):
    assert refusal(**entry) == text


def test_an_unknown_key_that_is_near_to_none_is_refused_with_those_known():
    text = refusal(XYZ=1)

    assert text.startswith(
        "FASTSTREAM['default']: unknown key 'XYZ' (known are 'URL', 'PASSWORD', 'BACKEND', "
    )


@pytest.mark.parametrize("entry", [None, 5, "amqp://guest:hunter2@host/", ["URL"]])
def test_an_entry_that_is_no_dict_is_refused(entry):
    with pytest.raises(InvalidBroker, match=r"^FASTSTREAM\['default'\]: must be a dict") as caught:
        broker_settings_from("default", entry)

    assert "hunter2" not in str(caught.value)


def test_an_entry_without_an_alias_is_refused_with_the_right_form():
    with pytest.raises(InvalidBroker, match=r"belongs under an alias, as in FASTSTREAM = "):
        broker_settings_from("URL", "amqp://guest:hunter2@host/")


def test_an_entry_without_a_url_is_refused():
    with pytest.raises(InvalidBroker, match=r"FASTSTREAM\['default'\]: the key 'URL' is missing"):
        broker_settings_from("default", {"QUEUES": ["orders"]})


@pytest.mark.parametrize("key", ["TIMEOUT", "CONNECT_TIMEOUT", "SHUTDOWN_TIMEOUT"])
@pytest.mark.parametrize("value", [True, "5", None, 0, -1, float("nan"), float("inf"), 10**400, 1j, [5]])
def test_a_time_is_a_positive_finite_number_of_seconds(key, value):
    assert refusal(**{key: value}).startswith(f"FASTSTREAM['default']['{key}']: must be ")


@pytest.mark.parametrize("key", ["HEARTBEAT", "MAX_MESSAGE_BYTES", "MAX_IN_FLIGHT"])
@pytest.mark.parametrize("value", [True, "5", None, 0, -1, 5.0, 10**12])
def test_a_count_is_a_positive_whole_number(key, value):
    assert refusal(**{key: value}).startswith(
        f"FASTSTREAM['default']['{key}']: must be a whole number from 1 to "
    )


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
def test_a_flag_is_true_or_false(value):
    assert refusal(AUTOSTART=value).startswith(
        "FASTSTREAM['default']['AUTOSTART']: must be True or False, not "
    )


@pytest.mark.parametrize("value", [1, 0, None, "active"])
def test_declare_is_true_false_or_passive(value):
    assert "['DECLARE']: must be True or False or 'passive', not " in refusal(DECLARE=value)


def test_declare_suggests_the_word_that_was_meant():
    assert refusal(DECLARE="pasive").endswith("not 'pasive' (did you mean 'passive'?)")


@pytest.mark.parametrize("value", ["disk", None, True])
def test_on_commit_knows_no_other_value(value):
    assert "['ON_COMMIT']: must be 'memory' or 'outbox', not " in refusal(ON_COMMIT=value)


@pytest.mark.parametrize("value", ["ignore", None, False])
def test_on_failure_knows_no_other_value(value):
    assert "['ON_FAILURE']: must be 'raise' or 'outbox', not " in refusal(ON_FAILURE=value)


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("EAGER", 1, "['EAGER']: must be True or False"),
        ("GRACE", 0, "['GRACE']: "),
        ("GRACE", "5", "['GRACE']: "),
        ("GRACE", True, "['GRACE']: "),
        ("MAX_ATTEMPTS", 0, "['MAX_ATTEMPTS']: "),
        ("MAX_ATTEMPTS", 2.5, "['MAX_ATTEMPTS']: "),
        ("MAX_ATTEMPTS", 1001, "['MAX_ATTEMPTS']: "),
        ("BACKOFF", 1.0, "['BACKOFF']: must be two numbers of seconds"),
        ("BACKOFF", (1.0,), "['BACKOFF']: must be two numbers of seconds"),
        ("BACKOFF", (1.0, "x"), "['BACKOFF'][1]: "),
        ("BACKOFF", (0, 1.0), "['BACKOFF'][0]: "),
        ("BACKOFF", (5.0, 1.0), "['BACKOFF']: the first wait must not be longer than the longest one"),
        ("LEASE", 0.5, "['LEASE']: must be at least 1 second"),
        ("LEASE", None, "['LEASE']: "),
        ("BATCH", 0, "['BATCH']: "),
        ("BATCH", 5001, "['BATCH']: "),
        ("HOLD_KEYS", "yes", "['HOLD_KEYS']: must be True or False"),
        ("RETAIN_DEAD", -1, "['RETAIN_DEAD']: "),
        ("REDACT", "password", "['REDACT']: must be a list of the names of keys"),
        ("REDACT", ["ok", 5], "['REDACT'][1]: "),
    ],
)
def test_what_is_wrong_in_the_outbox_is_refused_with_its_place(key, value, place):
    assert f"FASTSTREAM['default']['OUTBOX']{place}" in refusal(OUTBOX={key: value})


def test_a_wrong_key_of_the_outbox_is_refused_with_the_one_that_was_meant():
    assert "FASTSTREAM['default']['OUTBOX']" in refusal(OUTBOX={"MAX_ATEMPTS": 3})
    assert "did you mean 'MAX_ATTEMPTS'?" in refusal(OUTBOX={"MAX_ATEMPTS": 3})
    assert "FASTSTREAM['default']['OUTBOX']: " in refusal(OUTBOX=[])


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("CONCURRENCY", 0, "['CONCURRENCY']: must be a whole number from 1 to 1_000"),
        ("PREFETCH", 0, "['PREFETCH']: must be a whole number from 1 to 65_535"),
        ("ATTEMPTS", 0, "['ATTEMPTS']: must be a whole number from 1 to 1_000"),
        ("BACKOFF", (5.0, 1.0), "['BACKOFF']: the first wait must not be longer than the longest one"),
        ("BACKOFF", (1.0, 2_592_001), "['BACKOFF']: the longest wait must not be above 2_592_000 seconds"),
        ("DEAD_LETTERS", 1, "['DEAD_LETTERS']: must be True or False"),
        ("CONCURENCY", 1, ": unknown key 'CONCURENCY' (did you mean 'CONCURRENCY'?)"),
    ],
)
def test_what_is_wrong_for_the_worker_is_refused_with_its_place(key, value, place):
    assert f"FASTSTREAM['default']['WORKER']{place}" in refusal(WORKER={key: value})


def test_worker_settings_are_read():
    worker = parsed(WORKER={"CONCURRENCY": 4, "PREFETCH": 20, "BACKOFF": [2, 60]}).worker

    assert worker == WorkerSettings(concurrency=4, prefetch=20, backoff=(2.0, 60.0))


def test_what_is_left_out_of_the_outbox_is_as_by_default(settings):
    settings.FASTSTREAM = {
        "default": {
            "URL": "memory://",
            "OUTBOX": {"BACKOFF": [2, 60], "RETAIN_DEAD": 3600, "REDACT": ["iban"]},
        }
    }

    outbox = broker_settings("default").outbox

    assert (outbox.backoff, outbox.retain_dead, outbox.redact) == ((2, 60), 3600, ("iban",))
    assert (outbox.eager, outbox.grace, outbox.max_attempts, outbox.lease) == (True, 5.0, 10, 15.0)
    assert (outbox.batch, outbox.hold_keys) == (500, False)


@pytest.mark.parametrize(
    ("entry", "uses"),
    [({}, False), ({"ON_COMMIT": "outbox"}, True), ({"ON_FAILURE": "outbox"}, True), ({"OUTBOX": {}}, False)],
)
def test_alias_uses_the_outbox_where_a_setting_says_so(settings, entry, uses):
    settings.FASTSTREAM = {"default": {"URL": "memory://", **entry}}

    assert broker_settings("default").uses_outbox is uses


@pytest.mark.parametrize("value", [None, 5, "", "Backend", "shop.", ".Backend", "a b.C", "shop:C"])
def test_the_backend_is_a_dotted_path(value):
    assert "FASTSTREAM['default']['BACKEND']: must be a " in refusal(BACKEND=value)


# URLs.


def test_a_wrong_url_is_refused_with_its_place_and_without_its_password():
    text = refusal(URL="amqp://user:hun@ter2@host/")

    assert text.startswith("FASTSTREAM['default']['URL']: the URL has a character that must be ")
    assert "ter2" not in text


def test_a_wrong_url_in_a_list_is_named_by_its_index():
    text = refusal(URL=[URL, "amqp://user:hun/ter2@host/"])

    assert text.startswith("FASTSTREAM['default']['URL'][1]: the URL has ")
    assert "ter2" not in text


@pytest.mark.parametrize("value", [None, "", [], (), {}, 5, [5], b"amqp://host"])
def test_the_url_is_a_str_or_a_list_of_str(value):
    assert refusal(URL=value).startswith("FASTSTREAM['default']['URL']")


def test_the_urls_of_an_alias_lead_to_brokers_of_one_kind():
    assert "cannot stand together" in refusal(URL=[URL, "memory://"])


# Queues and exchanges.


def test_queues_are_a_list_of_names():
    broker = parsed(QUEUES=["orders", "invoices"])

    assert broker.queues == (QueueSettings(name="orders"), QueueSettings(name="invoices"))


def test_queues_are_a_dict_of_names_and_options():
    broker = parsed(
        QUEUES={
            "plain": None,
            "empty": {},
            "full": {
                "type": "classic",
                "durable": False,
                "exclusive": True,
                "auto_delete": True,
                "arguments": {"x-max-length": 5, "x-overflow": "reject-publish"},
            },
            "safe": {"type": "quorum"},
        }
    )

    assert broker.queues == (
        QueueSettings(name="plain"),
        QueueSettings(name="empty"),
        QueueSettings(
            name="full",
            durable=False,
            exclusive=True,
            auto_delete=True,
            arguments={"x-max-length": 5, "x-overflow": "reject-publish"},
        ),
        QueueSettings(name="safe", type="quorum"),
    )


def test_exchanges_are_a_dict_of_names_and_options():
    broker = parsed(
        EXCHANGES={
            "events": {"type": "topic", "bind": {"all": "#"}},
            "later": {
                "type": "x-delayed-message",
                "durable": False,
                "auto_delete": True,
                "internal": True,
                "arguments": {"x-delayed-type": "direct"},
            },
        }
    )

    assert broker.exchanges == (
        ExchangeSettings(name="events", type="topic", bindings=(Binding(source="all", routing_key="#"),)),
        ExchangeSettings(
            name="later",
            type="x-delayed-message",
            durable=False,
            auto_delete=True,
            internal=True,
            arguments={"x-delayed-type": "direct"},
        ),
    )


@pytest.mark.parametrize(
    "exchange_type",
    [
        "direct",
        "topic",
        "fanout",
        "headers",
        "x-delayed-message",
        "x-consistent-hash",
        "x-modulus-hash",
        "x-random",
    ],
)
def test_an_exchange_has_a_type_of_rabbitmq_or_of_a_plugin(exchange_type):
    assert parsed(EXCHANGES={"e": {"type": exchange_type}}).exchanges[0].type == exchange_type


def test_every_exchange_type_of_faststream_is_known():
    from faststream.rabbit import ExchangeType

    for exchange_type in ExchangeType:
        parsed(EXCHANGES={"e": {"type": exchange_type.value}})


@pytest.mark.parametrize("value", ["topci", "", None, 5, "x-\n"])
def test_another_type_of_exchange_is_refused(value):
    text = refusal(EXCHANGES={"events": {"type": value}})

    assert text.startswith("FASTSTREAM['default']['EXCHANGES']['events']['type']: must ")


@pytest.mark.parametrize("value", ["quorom", "", None, "QUORUM"])
def test_another_type_of_queue_is_refused(value):
    text = refusal(QUEUES={"orders": {"type": value}})

    assert "['QUEUES']['orders']['type']: must be 'classic' or 'quorum' or 'stream', not" in text


@pytest.mark.parametrize("queue_type", ["quorum", "stream"])
@pytest.mark.parametrize("options", [{"durable": False}, {"exclusive": True}, {"auto_delete": True}])
def test_a_replicated_queue_is_durable_and_shared(queue_type, options):
    text = refusal(QUEUES={"orders": {"type": queue_type, **options}})

    assert text == (
        f"FASTSTREAM['default']['QUEUES']['orders']: a {queue_type} queue must be durable and can "
        "be neither exclusive nor auto_delete"
    )


def test_the_queue_type_is_no_argument():
    text = refusal(QUEUES={"orders": {"arguments": {"x-queue-type": "quorum"}}})

    assert text.endswith("set 'type' instead of the argument 'x-queue-type'")


@pytest.mark.parametrize("key", ["QUEUES", "EXCHANGES"])
@pytest.mark.parametrize("value", ["orders", None, 5, {"orders"}])
def test_names_are_a_list_or_a_dict(key, value):
    assert f"['{key}']: must be a list of names, or a dict" in refusal(**{key: value})


@pytest.mark.parametrize("key", ["QUEUES", "EXCHANGES"])
@pytest.mark.parametrize("name", ["", 5, None, "a\nb", "\x7f", "ä" * 128, "\ud800"])
@pytest.mark.parametrize("form", [lambda name: [name], lambda name: {name: {}}])
def test_a_name_that_amqp_cannot_carry_is_refused(key, name, form):
    assert refusal(**{key: form(name)}).startswith(f"FASTSTREAM['default']['{key}']")


def test_a_name_may_have_255_bytes():
    assert parsed(QUEUES=["a" * 255]).queues[0].name == "a" * 255


@pytest.mark.parametrize("options", [False, 0, "", "quorum", ["quorum"]])
def test_the_options_of_a_queue_are_a_dict(options):
    assert "['QUEUES']['orders']: must be a dict" in refusal(QUEUES={"orders": options})


def test_a_name_that_stands_twice_is_refused():
    assert "twice" in refusal(QUEUES=["orders", "orders"])


@pytest.mark.parametrize("key", ["QUEUES", "EXCHANGES"])
def test_a_name_of_rabbitmq_is_not_declared(key):
    text = refusal(**{key: ["amq.topic"]})

    assert text.startswith(f"FASTSTREAM['default']['{key}']: 'amq.topic': RabbitMQ reserves names")


@pytest.mark.parametrize("declare", [False, "passive"])
def test_a_name_of_rabbitmq_may_be_verified(declare):
    broker = parsed(EXCHANGES={"amq.topic": {"type": "topic"}}, DECLARE=declare)

    assert broker.exchanges == (ExchangeSettings(name="amq.topic", type="topic"),)


@pytest.mark.parametrize(
    ("bind", "bindings"),
    [
        ({"events": "order.*"}, [Binding(source="events", routing_key="order.*")]),
        ({"events": None}, [Binding(source="events")]),
        ({"events": ""}, [Binding(source="events")]),
        ({"amq.topic": "#"}, [Binding(source="amq.topic", routing_key="#")]),
        (
            {"events": ["a", "b"]},
            [Binding(source="events", routing_key="a"), Binding(source="events", routing_key="b")],
        ),
        (
            {"events": {"routing_key": "a", "arguments": {"x-match": "all", "n": 1}}},
            [Binding(source="events", routing_key="a", arguments={"x-match": "all", "n": 1})],
        ),
        (
            {"events": [{"arguments": {"n": 1}}, "b"], "audit": "#"},
            [
                Binding(source="events", arguments={"n": 1}),
                Binding(source="events", routing_key="b"),
                Binding(source="audit", routing_key="#"),
            ],
        ),
        (
            [{"events": "a"}, {"events": "b"}],
            [Binding(source="events", routing_key="a"), Binding(source="events", routing_key="b")],
        ),
        ({}, []),
    ],
)
def test_a_queue_is_bound_to_exchanges(bind, bindings):
    queue = parsed(QUEUES={"orders": {"bind": bind}}).queues[0]

    assert queue.bindings == tuple(bindings)


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        ("events", "['bind']: must be a dict"),
        (["events"], "['bind'][0]: must be a dict"),
        ([], "['bind']: must not be empty"),
        ({"events": []}, "['bind']['events']: must not be empty"),
        ({"": "key"}, "['bind']: a name must not be empty"),
        ({"events": 5}, "['bind']['events']: must be a str, not an int"),
        ({"events": "a\n"}, "['bind']['events']: must have no control characters"),
        ({"events": "a" * 256}, "at most 255 bytes"),
        ({"events": {"routing_key": None}}, "['routing_key']: must be a str, not None"),
        ({"events": {"arguments": []}}, "['arguments']: must be a dict"),
    ],
)
def test_a_wrong_binding_is_refused(bind, text):
    assert text in refusal(QUEUES={"orders": {"bind": bind}})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({5: 1}, "['arguments']: must be a str"),
        ({"x": object()}, "['arguments']['x']: AMQP arguments cannot hold an object"),
        ({"x": {"y": {1, 2}}}, "['arguments']['x']['y']: AMQP arguments cannot hold a set"),
        ({"x": [1, object()]}, "['arguments']['x'][1]: AMQP arguments cannot hold an object"),
        ({"x": 2**63}, "more than 64 bits"),
        ({"x": 0.1}, "floats in arguments in single precision, which changes this one"),
        ({"x": 1e300}, "floats in arguments in single precision, which changes this one"),
        (None, "['arguments']: must be a dict, not None"),
    ],
)
def test_an_argument_that_amqp_cannot_carry_is_refused(arguments, text):
    assert text in refusal(QUEUES={"orders": {"arguments": arguments}})


def test_later_changes_of_the_arguments_do_not_reach_the_settings():
    arguments = {"x-nested": {"n": [1]}}
    broker = parsed(QUEUES={"orders": {"arguments": arguments}})

    arguments["x-nested"]["n"].append(2)

    assert broker.queues[0].arguments == {"x-nested": {"n": [1]}}


# settings.FASTSTREAM.


def test_the_same_setting_gives_the_very_same_object(settings):
    settings.FASTSTREAM = {"default": {"URL": URL}}

    assert broker_settings("default") is broker_settings("default")


def test_threads_get_the_very_same_object(settings):
    settings.FASTSTREAM = {"default": {"URL": URL}}
    barrier = threading.Barrier(8)
    found = []

    def find():
        barrier.wait(5)
        found.append(broker_settings("default"))

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)

    assert len(found) == 8
    assert len({id(each) for each in found}) == 1


def test_an_override_is_seen_at_once_and_the_former_object_comes_back(settings):
    former_setting = settings.FASTSTREAM = {"default": {"URL": URL}}
    former = broker_settings("default")

    settings.FASTSTREAM = {"default": {"URL": "memory://"}}
    overridden = broker_settings("default")
    settings.FASTSTREAM = former_setting

    assert overridden.urls == ("memory://",)
    assert broker_settings("default") is former


def test_one_wrong_entry_does_not_spoil_the_others(settings):
    settings.FASTSTREAM = {"default": {"URL": URL}, "broken": {}}

    assert broker_settings("default").urls == (URL,)
    with pytest.raises(InvalidBroker, match=r"FASTSTREAM\['broken'\]"):
        broker_settings("broken")


def test_an_unknown_alias_is_refused_with_a_suggestion_and_those_known(settings):
    settings.FASTSTREAM = {"default": {"URL": URL}, "events": {"URL": URL}}

    with pytest.raises(BrokerDoesNotExist) as caught:
        broker_settings("defualt")

    assert str(caught.value) == (
        "FASTSTREAM has no broker 'defualt' (did you mean 'default'?); its aliases are 'default', 'events'"
    )


def test_a_url_in_the_place_of_an_alias_is_not_shown(settings):
    settings.FASTSTREAM = {"default": {"URL": URL}}

    with pytest.raises(BrokerDoesNotExist) as caught:
        broker_settings("amqp://guest:hunter2@host/")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("missing", [True, False])
def test_without_brokers_the_error_says_what_to_set(settings, missing):
    if missing:
        del settings.FASTSTREAM
    else:
        settings.FASTSTREAM = {}

    with pytest.raises(BrokerDoesNotExist, match=r"Add to your settings FASTSTREAM = \{'default'"):
        broker_settings("default")

    assert broker_aliases() == ()
    assert is_configured() is not missing


@pytest.mark.parametrize("value", [None, [], "amqp://guest:hunter2@host/", 5])
def test_the_setting_is_a_dict(settings, value):
    settings.FASTSTREAM = value

    with pytest.raises(InvalidBroker, match=r"^FASTSTREAM must be a dict of aliases, as in ") as caught:
        broker_settings("default")
    with pytest.raises(InvalidBroker, match=r"^FASTSTREAM must be a dict of aliases, as in "):
        broker_aliases()

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("alias", [None, 5, "", "a\nb"])
def test_an_alias_is_a_name(settings, alias):
    settings.FASTSTREAM = {alias: {"URL": URL}}

    with pytest.raises(InvalidBroker, match="an alias must be a name"):
        broker_aliases()


def test_aliases_keep_their_order(settings):
    settings.FASTSTREAM = {"events": {}, "default": {}}

    assert broker_aliases() == ("events", "default")


# Secrets.


def test_the_repr_of_the_settings_shows_no_secret():
    broker = BrokerSettings(
        alias="default",
        urls=("amqp://guest:hunter2@host/shop",),
        backend="shop.Backend",
        options={"security": "hunter2"},
    )

    for shown in (repr(broker), str(broker), pprint.pformat(broker), repr(broker.urls)):
        assert "hunter2" not in shown
    assert "'amqp://guest:***@host/shop'" in repr(broker)
    assert "options=['security']" in repr(broker)


def test_the_settings_survive_pickling_with_their_secret():
    broker = parsed(URL="amqp://guest:hunter2@host/")

    copy = pickle.loads(pickle.dumps(broker))

    assert copy == broker
    assert copy.urls[0] == "amqp://guest:hunter2@host/"
    assert "hunter2" not in repr(copy)


def test_an_error_carries_no_frame_that_holds_a_url(settings):
    """Error pages and trackers show the local variables of every frame."""
    settings.FASTSTREAM = {"default": {"URL": "amqp://guest:hun@ter2@host/"}}

    with pytest.raises(InvalidBroker) as caught:
        broker_settings("default")

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    frames = traceback.walk_tb(caught.value.__traceback__)
    inner = [frame for frame, _ in frames if frame.f_code.co_name.startswith(("broker_", "_"))]
    assert [frame.f_code.co_name for frame in inner] == ["broker_settings"]
    assert "ter2" not in repr(inner[0].f_locals)


def test_redacted_is_offered_here_too():
    assert redacted("amqp://guest:hunter2@host/") == "amqp://guest:***@host/"


@pytest.mark.parametrize("name", ["очередь", "a%b", "größe", "a\\b"])
@pytest.mark.parametrize("key", ["QUEUES", "EXCHANGES"])
def test_names_that_the_driver_cannot_declare_are_refused(key, name):
    for given in ([name], {name: {}}, {"fine": {"bind": {name: "key"}}}):
        with pytest.raises(InvalidBroker, match="the AMQP driver can only declare names") as raised:
            broker_settings_from("default", {"URL": "memory://", key: given})

        assert repr(name) in str(raised.value)


def test_exchange_names_have_at_most_127_characters():
    fine, long = "x" * 127, "x" * 128
    broker_settings_from("default", {"URL": "memory://", "EXCHANGES": [fine], "QUEUES": [long]})

    with pytest.raises(InvalidBroker, match="at most 127 characters"):
        broker_settings_from("default", {"URL": "memory://", "EXCHANGES": [long]})


def test_text_in_the_place_of_a_dict_is_called_a_str(settings):
    """conceal_passwords() makes a PrivateURL of it."""
    settings.FASTSTREAM = {"default": "amqp://guest:guest@localhost/"}

    with pytest.raises(InvalidBroker, match=r"FASTSTREAM\['default'\]: must be a dict, not a str"):
        broker_settings("default")
