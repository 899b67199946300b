"""The relay of an embedded broker: in the process that publishes."""

import pytest

SCRIPT = """
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["faststream_django", "faststream_django.outbox"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}},
        FASTSTREAM={"default": {"URL": "memory://", "QUEUES": {"orders": {}}, "ON_COMMIT": "outbox"}},
        USE_TZ=True,
    )
    django.setup()

    import threading
    from django.core.management import call_command
    from faststream_django import publish_on_commit
    from faststream_django.backends.memory.server import MemoryServer
    from faststream_django.signals import message_published

    call_command("migrate", verbosity=0)
    sent = threading.Event()

    def note(message, **kwargs):
        sent.set()

    message_published.connect(note)
    publish_on_commit({"n": 1}, "orders", ordering_key="a")
    assert sent.wait(20)
    print([message.decode() for message in MemoryServer.get().drain("orders")])
"""


@pytest.mark.processes
def test_message_that_only_a_relay_sends_leaves_a_plain_script(run_script):
    done = run_script(SCRIPT)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "[{'n': 1}]\n"
    assert done.stderr == ""
