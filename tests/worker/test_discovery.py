import pytest

from faststream_django.exceptions import InvalidSubscriber
from faststream_django.worker.discovery import autodiscover
from tests.worker.apps import ROUTER, queues


def test_routers_are_found_in_the_order_of_the_apps(make_app):
    for queue in ("first", "second"):
        make_app(f'{ROUTER}\n@router.subscriber("{queue}")\nasync def handle(body): ...')

    assert queues(autodiscover()["default"]) == ["first", "second"]


def test_router_with_two_names_is_found_once(make_app):
    make_app(f'{ROUTER}\nalso = router\n@router.subscriber("q")\nasync def handle(body): ...')

    assert queues(autodiscover()["default"]) == ["q"]


def test_router_that_another_app_imports_is_found_once(make_app):
    load = make_app(f'{ROUTER}\n@router.subscriber("q")\nasync def handle(body): ...')
    make_app(f"from {load().__name__} import router")

    assert queues(autodiscover()["default"]) == ["q"]


def test_router_in_a_router_comes_with_it(make_app):
    make_app(
        f'{ROUTER}\ninner = RabbitRouter(prefix="inner-")\nrouter.include_router(inner)\n'
        '@inner.subscriber("q")\nasync def handle(body): ...'
    )

    [router] = autodiscover()["default"]

    assert [subscriber.routing() for subscriber in router.subscribers] == ["inner-q"]


def test_apps_without_subscribers_are_passed_over(make_app):
    make_app(None)

    assert autodiscover() == {}


def test_error_in_a_module_is_raised(make_app):
    make_app("import no_such_module")

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        autodiscover()


# Aliases

AUDIT = """
from faststream.rabbit import RabbitRouter
from faststream_django.worker import broker_router

router = RabbitRouter()
audit = broker_router("audit", prefix="audit-")

@router.subscriber("orders")
def handle(body): ...

@audit.subscriber("entries")
def note(body): ...
"""


@pytest.fixture
def two_brokers(settings):
    settings.FASTSTREAM = {
        "default": {"URL": "amqp://localhost/"},
        "audit": {"URL": "amqp://localhost/audit"},
    }


def test_routers_are_found_by_the_alias_of_their_broker(make_app, two_brokers):
    make_app(AUDIT)

    found = {alias: queues(routers) for alias, routers in autodiscover().items()}

    assert found == {"default": ["orders"], "audit": ["entries"]}


def test_unknown_alias_is_told_with_its_place(make_app, settings):
    load = make_app(AUDIT)
    settings.FASTSTREAM = {"default": {"URL": "amqp://localhost/"}, "audits": {"URL": "amqp://localhost/"}}

    with pytest.raises(InvalidSubscriber) as caught:
        autodiscover()

    assert str(caught.value).startswith(
        f"{load().__name__}.audit: FASTSTREAM has no broker 'audit' (did you mean 'audits'?)"
    )


def test_router_in_a_router_of_another_broker_is_refused(make_app, two_brokers):
    make_app(f"{AUDIT}\nrouter.include_router(audit)")

    with pytest.raises(InvalidSubscriber, match="of broker 'default', and includes one of broker 'audit'"):
        autodiscover()


def test_plain_routers_need_no_settings(make_app, settings):
    settings.FASTSTREAM = {}
    make_app(f'{ROUTER}\n@router.subscriber("q")\nasync def handle(body): ...')

    assert list(autodiscover()) == ["default"]
