import contextlib


@contextlib.contextmanager
def heard(signal):
    """Collect the arguments with which a signal is sent."""
    events = []

    def receive(**arguments):
        events.append(arguments)

    signal.connect(receive, weak=False)
    try:
        yield events
    finally:
        signal.disconnect(receive)
