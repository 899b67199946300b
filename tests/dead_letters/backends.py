from faststream_django.backends.base import Backend


class Publishing(Backend):
    """A backend of a site, which publishes and nothing else."""

    async def connect(self, url):
        raise NotImplementedError
