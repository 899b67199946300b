import re

import pytest
from django.contrib.auth.models import Permission, User

LIST = "/admin/faststream_outbox/outboxmessage/"


@pytest.fixture(autouse=True)
def _site(settings, outbox):
    settings.ROOT_URLCONF = "tests.outbox.admin.urls"
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]


@pytest.fixture
def login(client):
    """Log somebody in with these permissions of the outbox; return the client."""

    def login(*permissions, **fields):
        user = User.objects.create_user("operator", is_staff=True, **fields)
        found = Permission.objects.filter(
            content_type__app_label="faststream_outbox", codename__in=permissions
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


def detail(row):
    return f"{LIST}{row.pk}/change/"


def text(response):
    return response.content.decode()


def listed(response):
    """Return the message ids that a list shows, in their order."""
    assert response.status_code == 200
    return re.findall(r'field-message_id"><a [^>]*>([^<]*)<', text(response))
