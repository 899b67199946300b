from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("no_broker")

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(pytester, monkeypatch):
    """A Django project with SQLite, and a pytest that loads what an environment would load."""
    pytester.makepyfile(
        project_settings="""
        SECRET_KEY = "only for tests"
        INSTALLED_APPS = ["faststream_django"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        FASTSTREAM = {"default": {"URL": "amqp://guest:guest@127.0.0.1:1/"}}
        USE_TZ = True
        """
    )
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "project_settings")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{pytester.path}")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source, *plugins):
        pytester.makepyfile(source)
        names = [f"-p{name}" for name in ("faststream_django.pytest_plugin", *plugins)]
        return pytester.runpytest_subprocess("-W", "error", "--strict-markers", *names, timeout=60)

    return run


def test_the_fixture_under_pytest_django(project):
    result = project(
        """
        import pytest
        from django.db import transaction
        from faststream_django import publish, publish_on_commit

        @pytest.mark.django_db
        def test_in_a_transaction_that_never_commits(captured_messages):
            with transaction.atomic():
                publish_on_commit({"id": 1}, "orders")
                assert not captured_messages
            captured_messages.assert_published("orders", body={"id": 1}, count=1)

        @pytest.mark.django_db
        def test_nothing_is_left_of_the_test_before(captured_messages):
            assert not captured_messages

        def test_begun_before_the_transaction_of_the_test(captured_messages, db):
            publish_on_commit({"id": 1}, "orders")
            assert len(captured_messages) == 1

        @pytest.mark.django_db(transaction=True)
        def test_with_real_commits(captured_messages):
            with transaction.atomic():
                publish_on_commit({"id": 1}, "orders")
                assert not captured_messages
            captured_messages.assert_published("orders", body={"id": 1}, count=1)

        @pytest.mark.django_db
        def test_with_executed_callbacks(captured_messages, django_capture_on_commit_callbacks):
            with django_capture_on_commit_callbacks(execute=True):
                publish_on_commit({"id": 1}, "orders")
            assert len(captured_messages) == 1

        def test_without_a_database(captured_messages):
            publish({"id": 1}, "orders")
            assert len(captured_messages) == 1
        """,
        "pytest_django.plugin",
    )

    result.assert_outcomes(passed=6)


def test_the_fixture_in_unittest_test_cases(project):
    result = project(
        """
        import pytest
        from django.test import TestCase
        from faststream_django import apublish_on_commit, publish_on_commit

        @pytest.mark.usefixtures("captured_messages")
        class TestOrder(TestCase):
            @pytest.fixture(autouse=True)
            def _keep_messages(self, captured_messages):
                self.messages = captured_messages

            def test_sync(self):
                publish_on_commit({"id": 1}, "orders")
                self.messages.assert_published("orders", count=1)

            async def test_async(self):
                await apublish_on_commit({"id": 1}, "orders")
                self.messages.assert_published("orders", count=1)
        """,
        "pytest_django.plugin",
    )

    result.assert_outcomes(passed=2)


def test_the_fixture_in_async_tests(project):
    result = project(
        """
        import pytest
        from faststream_django import apublish

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_async(captured_messages):
            await apublish({"id": 1}, "orders")
            assert captured_messages[0].body == {"id": 1}
        """,
        "pytest_django.plugin",
        "anyio",
    )

    result.assert_outcomes(passed=1)


def test_the_plugin_does_no_harm_without_django(project, monkeypatch):
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")

    result = project(
        """
        import sys

        def test_nothing():
            assert "faststream_django.testing" not in sys.modules
            assert "faststream" not in sys.modules
        """
    )

    result.assert_outcomes(passed=1)


def test_loading_the_plugin_reads_no_settings_and_starts_nothing(run_script):
    """pytest loads it in every project of the environment."""
    done = run_script(
        """
        import sys, threading
        import faststream_django.pytest_plugin

        from django.conf import settings

        slow = {"faststream", "pydantic", "aio_pika", "faststream_django.testing"}
        print(settings.configured, threading.active_count(), slow & sys.modules.keys() or "")
        """
    )

    assert done.stdout.split() == ["False", "1"], done.stderr
