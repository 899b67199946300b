"""For an ASGI server: ``uvicorn asgi:application``."""

import os

from django.core.asgi import get_asgi_application

from faststream_django.asgi import with_lifespan

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

# The brokers start and end with the server.
application = with_lifespan(get_asgi_application())
