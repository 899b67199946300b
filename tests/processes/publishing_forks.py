"""Fork 100 times while 8 threads publish; print what was confirmed, by whom, and what failed.

The last child says who it is and lives until a line comes.
"""

import os
import sys
import threading
import time
import warnings

import django

django.setup()
from faststream_django import publish  # noqa: E402

QUEUE = sys.argv[1]
# Python warns of forks while other threads run: these are this program's own.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
halt = threading.Event()
confirmed = [0] * 8


def say(text):
    os.write(1, f"{text}\n".encode())


def publish_one(who):
    try:
        say(f"confirmed {publish({'who': who}, QUEUE)}")
    except Exception as error:
        say(f"failed {who} {error!r}")
        raise


def work(index):
    while not halt.is_set():
        publish_one("parent")
        confirmed[index] += 1


def in_child():
    began = time.monotonic()
    publish_one("child")
    say(f"first {time.monotonic() - began}")
    publish_one("child")
    publish_one("child")


# The first publish imports: a child of a fork in the middle of an import waits for it for ever.
publish_one("parent")
threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
for thread in threads:
    thread.start()
for number in range(100):
    before = sum(confirmed)
    pid = os.fork()
    if pid == 0:
        in_child()
        if number == 99:
            say(f"child {os.getpid()}")
            sys.stdin.readline()
        if number % 10 == 9:
            sys.exit(0)
        os._exit(0)  # the end of a whole interpreter takes its time
    if number == 99:
        say(f"parent {os.getpid()}")
    say(f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")
    while sum(confirmed) < before + 20:
        time.sleep(0.001)
halt.set()
for thread in threads:
    thread.join()
publish_one("parent")
