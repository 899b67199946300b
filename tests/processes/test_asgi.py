"""uvicorn ends on SIGTERM without Python's exit handlers; the lifespan protocol stands in for them."""

import sys
import textwrap

import pytest

SETTINGS = """
    from tests.processes.settings import *
    from tests.processes.settings import INSTALLED_APPS

    INSTALLED_APPS = [*INSTALLED_APPS, "slow"]
    """
SUBSCRIBERS = """
    import time
    from pathlib import Path

    from faststream.rabbit import RabbitRouter

    router = RabbitRouter()

    @router.subscriber("slow")
    def handle(body):
        Path("began").touch()
        time.sleep(0.7)  # its work, which goes on when the server is told to end
        Path("handled").touch()
    """
ASGI = """
    from django.core.asgi import get_asgi_application

    from faststream_django.asgi import with_lifespan

    application = with_lifespan(get_asgi_application())
    """
SERVERS = [
    pytest.param((sys.executable, "-m", "uvicorn", "--port=PORT", "site_asgi:application"), id="uvicorn"),
    pytest.param(
        (sys.executable, "-m", "uvicorn", "--port=PORT", "--workers=2", "site_asgi:application"),
        id="uvicorn-workers",
    ),
]


@pytest.fixture
def site(tmp_path):
    """The modules of a site, where its server runs."""
    (tmp_path / "slow").mkdir()
    for name, source in {
        "site_settings.py": SETTINGS,
        "site_asgi.py": ASGI,
        "slow/__init__.py": "",
        "slow/subscribers.py": SUBSCRIBERS,
    }.items():
        (tmp_path / name).write_text(textwrap.dedent(source))
    return tmp_path


@pytest.fixture
def serve_site(site, serve):
    def serve_site(command, **env):
        from tests.conftest import ROOT

        env = {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": f"{ROOT}:{site}", **env}
        return serve(*command, env=env)

    return serve_site


@pytest.mark.parametrize("command", SERVERS)
def test_a_handler_of_the_embedded_broker_finishes_before_its_server(serve_site, site, command):
    server = serve_site(command, TEST_FASTSTREAM_URL="memory://")

    server.get("/publish/slow/")
    server.wait_until((site / "began").exists)
    server.terminate()

    assert (site / "handled").exists()
    assert server.complaints == []


@pytest.mark.parametrize("command", SERVERS)
def test_a_server_says_goodbye_to_rabbitmq(
    serve_site, rabbitmq, queue, connected_pids, lost_connections, command
):
    server = serve_site(command, TEST_FASTSTREAM_URL=rabbitmq.url())

    pid = server.get(f"/publish/{queue}/")["pid"]
    assert pid in connected_pids()
    server.terminate()

    server.wait_until_gone(connected_pids)
    assert lost_connections({pid}) == []
    assert server.complaints == []
