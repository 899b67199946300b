"""tests.settings, and what a whole site has. TEST_FASTSTREAM is JSON: more keys of the broker."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import FASTSTREAM, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.staticfiles"]
STATIC_URL = "static/"
STATIC_ROOT = "static"
ROOT_URLCONF = "tests.processes.urls"
FASTSTREAM = {"default": {**FASTSTREAM["default"], **json.loads(os.environ.get("TEST_FASTSTREAM", "{}"))}}
