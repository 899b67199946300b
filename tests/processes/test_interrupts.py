"""Signal handlers that raise: Ctrl-C, Celery's soft time limit, an alarm."""

ALARMS = """
import random, signal, sys, time
import django

django.setup()
from faststream_django import publish

QUEUE = sys.argv[1]
armed = False
alarms = answers = 0


class Alarm(BaseException):
    pass


def alarm(*args):
    global armed
    if armed:
        armed = False
        raise Alarm


publish("first", QUEUE)
signal.signal(signal.SIGALRM, alarm)
took = 0.0
while alarms < 10_000:
    began = time.monotonic()
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1.2e-3))
        publish("number", QUEUE, timeout=20)
        armed = False
        answers += 1
    except Alarm:
        alarms += 1
    took = max(took, time.monotonic() - began)
signal.setitimer(signal.ITIMER_REAL, 0)
print("last", publish("last", QUEUE), flush=True)
print("answers", answers, flush=True)
print("longest", took, flush=True)
"""


def test_10_000_random_alarms_leave_publishing_well(rabbitmq, queue, start_script):
    """With few places in flight, so that an interrupted publish that keeps its place is noticed too."""
    program = start_script(
        ALARMS,
        queue,
        env={
            "TEST_FASTSTREAM_URL": rabbitmq.url(),
            "TEST_FASTSTREAM": '{"MAX_IN_FLIGHT": 10}',
            "COVERAGE_PROCESS_CONFIG": "",  # it takes locks of its own, which an alarm leaves locked
        },
    )

    code = program.wait(100)

    ids = [message.properties.message_id for message in rabbitmq.drain(queue)]
    assert (code, program.err) == (0, "")
    assert ids[-1] == program.said("last ")
    assert len(ids) >= int(program.said("answers ")) + 2
    assert float(program.said("longest ")) < 10
