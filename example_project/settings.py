"""Settings of the example: a Django project with one app, and the broker that it publishes to."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent

FASTSTREAM = {
    "default": {
        # memory:// is the embedded broker: the process that publishes also runs the subscribers.
        # With amqp://user:password@host/ they run in `manage.py faststream_worker`.
        "URL": os.environ.get("FASTSTREAM_URL", "memory://"),
        # What is named here is declared when the connection is made, so a message finds its queue
        # even if no worker has ever run.
        "EXCHANGES": {"events": {"type": "topic"}},
        "QUEUES": {
            "orders.placed": {},
            "newsletters": {},
            "supplies": {},
            # Gets every event whose routing key is "stock." and one more word.
            "stock": {"bind": {"events": "stock.*"}},
        },
        # publish_on_commit() stores its message in the transaction: it is delivered even if the broker, or
        # this process, is gone in the moment of the commit.
        "ON_COMMIT": "outbox",
        # A real shop is more patient with a message that the broker refuses: these are 10 and (1, 600).
        "OUTBOX": {"MAX_ATTEMPTS": 3, "BACKOFF": (0.5, 2)},
    },
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "faststream_django",
    "faststream_django.outbox",
    "faststream_django.inbox",
    "faststream_django.dead_letters",
    "shop",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", BASE_DIR / "shop.sqlite3"),
        # The web process and the worker write to one file: they take turns instead of failing
        # with "database is locked".
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL;",
        },
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        # DEBUG shows every message that was confirmed.
        "faststream_django": {"level": "INFO"},
        # INFO tells when a relay begins to lead.
        "faststream_django.outbox": {"level": "WARNING"},
        # INFO tells when a worker stops, and why.
        "faststream_django.worker": {"level": "WARNING"},
        # The drivers report every attempt to reconnect; faststream_django says once what is wrong.
        "aiormq": {"level": "CRITICAL"},
        "aio_pika": {"level": "CRITICAL"},
        # Not a line for every second in which the page asks for news, nor for every wrong form.
        "django.request": {"level": "ERROR"},
        "django.server": {"handlers": ["console"], "level": "ERROR", "propagate": False},
    },
}

# Django's debug page shows settings and environment, and the URL of a broker holds a password.
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
SECRET_KEY = "only for the example"

ROOT_URLCONF = "shop.urls"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.request",
            ]
        },
    }
]
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
