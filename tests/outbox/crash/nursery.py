"""Forks processes that find Django imported, so that one which was killed is back at once.

    python -m tests.outbox.crash.nursery

Reads lines of JSON: ["write", SECONDS] for a writer, or the arguments of manage.py. Says "started PID" and
"ended PID STATUS". When its stdin ends, so do all its processes.
"""

import json
import os
import select
import signal

import django
from django.core.management import execute_from_command_line


def main() -> None:
    django.setup()
    # What a process would import with its first message; nothing here starts a thread.
    import faststream.rabbit  # noqa: F401

    import faststream_django.backends.rabbit
    import faststream_django.outbox.management.commands.faststream_relay
    import faststream_django.outbox.relay.relay  # noqa: F401

    # A signal that comes just before a read would not interrupt it; what is written to a pipe is not missed.
    bell, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([0, bell], [], [])
        if bell in ready:
            os.read(bell, 4096)
            tell_ends()
        if 0 in ready:
            # Whoever writes waits for the answer before the next line.
            line = os.read(0, 4096)
            if not line:
                os.killpg(0, signal.SIGKILL)
            pid = os.fork()
            if not pid:
                leave(bell, ring)
                become(json.loads(line))
                return
            say(f"started {pid}")


def leave(*pipe: int) -> None:
    """Have nothing more to do with the conversation of the parent."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for end in pipe:
        os.close(end)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)


def become(arguments: list[str]) -> None:
    if arguments[0] == "write":
        from tests.outbox.crash.writer import write

        write(float(arguments[1]))
    else:
        execute_from_command_line(["manage.py", *arguments])


def tell_ends() -> None:
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
