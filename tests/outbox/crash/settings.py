"""tests.settings with one database and one broker: CRASH_DATABASE is its name, CRASH_FASTSTREAM JSON."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES = {
    "default": {**DATABASES["default"], "NAME": os.environ["CRASH_DATABASE"], "ATOMIC_REQUESTS": True}
}
FASTSTREAM = {"default": json.loads(os.environ["CRASH_FASTSTREAM"])}
ROOT_URLCONF = "tests.processes.urls"
