"""What gunicorn is given as --config: each worker says when its own signal handlers are in place."""

import os


def post_worker_init(worker):
    os.write(1, f"booted {worker.pid}\n".encode())
