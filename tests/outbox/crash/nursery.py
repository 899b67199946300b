"""Forks processes that find Django imported, so that one which was killed is back at once.

    python -m tests.outbox.crash.nursery

Reads lines of JSON: ["write", SECONDS] for a writer, or the arguments of manage.py. Says "started PID" and
"ended PID STATUS". When its stdin ends, so do all its processes.
"""

import json
import os
import signal
import sys

import django
from django.core.management import execute_from_command_line


def main() -> None:
    django.setup()
    # What a process would import with its first message; nothing here starts a thread.
    import faststream.rabbit  # noqa: F401

    import faststream_django.backends.rabbit
    import faststream_django.outbox.management.commands.faststream_relay
    import faststream_django.outbox.relay.relay  # noqa: F401

    signal.signal(signal.SIGCHLD, tell_ends)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            leave()
            become(json.loads(line))
            return
        say(f"started {pid}")
    os.killpg(0, signal.SIGKILL)


def leave() -> None:
    """Have nothing more to do with the conversation of the parent."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)


def become(arguments: list[str]) -> None:
    if arguments[0] == "write":
        from tests.outbox.crash.writer import write

        write(float(arguments[1]))
    else:
        execute_from_command_line(["manage.py", *arguments])


def tell_ends(*_: object) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main()
