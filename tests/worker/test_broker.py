from faststream_django.conf import broker_settings
from faststream_django.worker.broker import build_broker
from faststream_django.worker.discovery import autodiscover
from tests.worker.apps import ROUTER, queues


def test_broker_has_the_options_of_the_settings(settings):
    def middleware(message, context): ...

    settings.FASTSTREAM = {
        "default": {
            "URL": "amqp://guest:guest@localhost/",
            "OPTIONS": {"middlewares": [middleware]},
            "SHUTDOWN_TIMEOUT": 7.0,
            "HEARTBEAT": 9,
        }
    }

    broker = build_broker(broker_settings("default"), [])

    assert list(broker.middlewares)[1:] == [middleware]  # behind the one for failures
    assert broker.config.graceful_timeout == 7.0


def test_router_can_be_built_into_another_broker(make_app):
    make_app(f'{ROUTER}\n@router.subscriber("q")\nasync def handle(body): ...')
    routers = autodiscover()["default"]
    first = build_broker(broker_settings("default"), routers)

    second = build_broker(broker_settings("default"), autodiscover()["default"])

    assert first.subscribers == []
    assert queues([second]) == ["q"]
