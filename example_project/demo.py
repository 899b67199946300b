"""Serve the shop: on the embedded broker, or on RabbitMQ with a worker beside the web server."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

HOST = "127.0.0.1"
WORKER_STOP_TIMEOUT = 15.0  # seconds; the worker itself waits 10 for its handlers


class CannotServe(Exception):
    """The text says why, and what to do."""


def main():
    options = parse_options()
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    os.environ["FASTSTREAM_URL"] = options.url
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # raises KeyboardInterrupt
    try:
        prepare()
        serve(options)
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
    except CannotServe as error:
        sys.exit(str(error))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--url",
        default="memory://",
        help="the broker: %(default)s (the default), or amqp://user:password@host/ for RabbitMQ",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT", "8000"),
        help="where the page is served on this machine (default: %(default)s)",
    )
    return parser.parse_args()


def prepare():
    """Check the settings and create or update the database, a file beside this one."""
    import django
    from django.core.management import CommandError, call_command

    django.setup()
    try:
        call_command("migrate", verbosity=0, skip_checks=False)
    except CommandError as error:
        raise CannotServe(str(error)) from error
    create_demo_user()


def create_demo_user():
    """For the admin of this demo, which nobody else can reach: it listens on the loopback interface only."""
    from django.contrib.auth import get_user_model

    users = get_user_model().objects
    if not users.filter(username="demo").exists():
        users.create_superuser("demo", password="demo")


def serve(options):
    from django.core.wsgi import get_wsgi_application

    from faststream_django import brokers

    with bind(options.port) as server:
        server.set_app(get_wsgi_application())
        brokers.start()  # connects in the background; runserver, gunicorn and the like need no such line
        if urlsplit(options.url).scheme == "memory":
            announce(server, "the embedded broker (memory://)")
            server.serve_forever()
        else:
            with Worker() as server.worker:
                announce(server, f"RabbitMQ on {urlsplit(options.url).hostname} and a worker process")
                server.serve_forever()


def announce(server, broker):
    print(
        f"The shop is open at http://{HOST}:{server.server_port}/ with {broker}. Ctrl-C closes it.",
        flush=True,
    )


def bind(port):
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

    class Server(ThreadedWSGIServer):
        worker = None

        def service_actions(self):  # twice a second
            if self.worker is not None and self.worker.has_ended:
                raise CannotServe("The worker has ended, so the shop closes too.")

    try:
        return Server((HOST, port), WSGIRequestHandler)
    except (OSError, OverflowError) as error:
        raise CannotServe(
            f"Port {port} cannot be used ({error}). Choose another one: make demo PORT={port + 1}, "
            f"or demo.py --port {port + 1}."
        ) from error


class Worker:
    """``manage.py faststream_worker``, from the beginning of a with block to its end."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("manage.py"), "faststream_worker", "--relay"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Ctrl-C goes to a whole process group; we tell the worker ourselves, once.
            process_group=0,
        )
        return self

    def __exit__(self, *exc_info):
        self._process.terminate()
        try:
            self._process.wait(WORKER_STOP_TIMEOUT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    @property
    def has_ended(self):
        return self._process.poll() is not None


if __name__ == "__main__":
    main()
