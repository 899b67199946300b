import pytest
from faststream.rabbit import RabbitRouter

from faststream_django.exceptions import BrokerDoesNotExist
from faststream_django.worker.choosing import WrongChoice, choose


@pytest.fixture(autouse=True)
def aliases(settings):
    settings.FASTSTREAM = {
        "default": {"URL": "amqp://one/"},
        "audit": {"URL": "amqp://two/"},
        "idle": {"URL": "amqp://three/"},
        "embedded": {"URL": "memory://"},
    }


def router(*queues, prefix=""):
    router = RabbitRouter(prefix)
    for queue in queues:
        router.subscriber(queue)(lambda body: None)
    return router


@pytest.fixture
def found():
    return {
        "default": [router("orders", "mails"), router("refunds", prefix="shop.")],
        "audit": [router("orders", "entries")],
        "idle": [router()],
        "embedded": [router("jobs")],
    }


def chosen(*arguments, **options):
    return {each.settings.alias: sorted(each.queues) for each in choose(*arguments, **options)}


def test_all_but_embedded_brokers_are_consumed(found):
    assert chosen(found) == {"default": ["mails", "orders", "shop.refunds"], "audit": ["entries", "orders"]}


def test_queues_are_chosen_on_every_alias(found):
    assert chosen(found, queues=["orders"]) == {"default": ["orders"], "audit": ["orders"]}
    assert chosen(found, queues=["shop.refunds"]) == {"default": ["shop.refunds"]}
    assert chosen(found, excluded=["orders", "entries"]) == {"default": ["mails", "shop.refunds"]}
    assert chosen(found, aliases=["audit"], queues=["orders"]) == {"audit": ["orders"]}


def test_routers_of_other_queues_stay_as_they_are(found):
    choose(found, queues=["orders"])

    assert len(found["default"][0].subscribers) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"aliases": ["embedded"]}, "Broker 'embedded' is the embedded one"),
        ({"aliases": ["idle"]}, "nothing to consume from broker 'idle'"),
        ({"queues": ["entires"]}, r"--queues: no subscriber consumes the queue 'entires' \(did you mean"),
        ({"aliases": ["audit"], "queues": ["mails"]}, "the queues are 'entries', 'orders'"),
        ({"queues": ["orders", "mails"], "excluded": ["mails"]}, "both name 'mails'"),
        ({"aliases": ["audit"], "excluded": ["orders", "entries"]}, "leaves nothing to consume"),
    ],
)
def test_what_cannot_be_consumed_is_refused(found, options, text):
    with pytest.raises(WrongChoice, match=text):
        choose(found, **options)


def test_alias_that_does_not_exist_is_refused(found):
    with pytest.raises(BrokerDoesNotExist, match="did you mean 'audit'"):
        choose(found, aliases=["audits"])


def test_site_with_embedded_brokers_only_needs_no_worker(found):
    with pytest.raises(WrongChoice, match="no worker is needed"):
        choose({"embedded": found["embedded"]})


def test_site_without_subscribers_has_nothing_to_consume(found):
    with pytest.raises(WrongChoice, match=r"There is nothing to consume: no subscribers\.py"):
        choose({"idle": found["idle"]})
