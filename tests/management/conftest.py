import io
import sys

import pytest
from django.core.management import CommandError, call_command

from faststream_django.testing import capture_messages


@pytest.fixture
def messages():
    with capture_messages() as messages:
        yield messages


@pytest.fixture
def stdin(monkeypatch):
    """Give the command something to read."""

    def give(content, *, isatty=False):
        stream = io.TextIOWrapper(io.BytesIO(content))
        stream.isatty = lambda: isatty
        monkeypatch.setattr(sys, "stdin", stream)
        return stream.buffer

    give(b"", isatty=True)
    return give


@pytest.fixture
def run(stdin):
    """Run the command in this process; return what it wrote to stdout, or its CommandError."""

    def run(*arguments, verbosity=1, stderr=None, **options):
        stdout = io.StringIO()
        stderr = io.StringIO() if stderr is None else stderr
        run.stdout, run.stderr = stdout, stderr
        try:
            call_command(
                "faststream_publish",
                *arguments,
                stdout=stdout,
                stderr=stderr,
                verbosity=verbosity,
                no_color=True,
                **options,
            )
        except CommandError as error:
            return error
        return stdout.getvalue()

    return run
