import re
import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from pamqp.commands import Basic

from faststream_django.backends.memory.server import MemoryServer
from tests.dead_letters.buried import described

LIST = "/admin/faststream_dead_letters/deadletter/"
QUEUE = f"{LIST}queue/"
LETTER = f"{LIST}letter/"
ORDERS = {"broker": "default", "queue": "orders"}


@pytest.fixture(autouse=True)
def _site(settings):
    settings.ROOT_URLCONF = "tests.outbox.admin.urls"
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]


@pytest.fixture
def configure(settings):
    """Set FASTSTREAM to an embedded broker with the queue orders; return its server."""
    url = f"memory://{uuid.uuid4().hex}"

    def configure(**entry):
        settings.FASTSTREAM = {"default": {"URL": url, "QUEUES": ["orders"], **entry}}
        return MemoryServer.get(url)

    return configure


@pytest.fixture
def server(configure):
    server = configure()
    for name in ("orders", "orders.dlq"):
        server.declare_queue(name, arguments={"x-max-length": 10_000})
    return server


@pytest.fixture
def bury(server):
    """Put a letter into the dead letters of orders."""

    def bury(message_id="m-0", body=b'{"number": 1}', **changes):
        properties = Basic.Properties(message_id=message_id, headers=described("orders", **changes))
        server.publish("", "orders.dlq", properties, body)

    return bury


@pytest.fixture
def login(client, db):
    """Log somebody in with these permissions of dead letters; return the client."""

    def login(*permissions, **fields):
        user = User.objects.create_user("operator", is_staff=True, **fields)
        found = Permission.objects.filter(
            content_type__app_label="faststream_dead_letters", codename__in=permissions
        )
        assert len(found) == len(permissions)
        user.user_permissions.set(found)
        client.force_login(user)
        return client

    return login


@pytest.fixture
def operator(login):
    """The client of somebody who may do everything."""
    return login(is_superuser=True)


def text(response):
    return response.content.decode()


def said(response):
    assert response.status_code == 302
    return [str(message) for message in get_messages(response.wsgi_request)]


def ask(client, action, *ids, queue="orders", **more):
    data = {"action": action, "id": ids, **more}
    return client.post(f"{QUEUE}?broker=default&queue={queue}", data)


def act(client, action, *ids, **more):
    """Ask, and answer with the form that the question brings; return what was said."""
    page = ask(client, action, *ids, **more)
    if page.status_code == 302:
        return said(page)
    form = text(page).rpartition("<form")[2]
    data = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form):
        data.setdefault(name, []).append(value)
    assert data["confirmed"] == [action]
    return said(client.post(f"{QUEUE}?broker=default&queue=orders", data))
