import pytest

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
