"""Workers in processes of their own: what they do with a broker that is away, and with signals."""

import signal
import time

import psycopg
import pytest

from tests.worker.commands import write_project

PASSWORD = "s3cret-marker"
LIMIT = 1.0
# Seconds beyond the limit. The bar is 0.5, and 0.1 what it takes on a machine that does nothing else.
GRACE = 1.0

# Waiting for the broker


def test_worker_waits_for_a_broker_that_is_down_until_it_is_told_to_stop(start_worker, unreachable_port):
    worker = start_worker(f"amqp://me:{PASSWORD}@127.0.0.1:{unreachable_port}/")
    worker.wait_for("state=unavailable")

    assert worker.stop() == 0
    assert worker.output.count("state=unavailable") == 1
    assert PASSWORD not in worker.output


def test_worker_waits_for_a_broker_that_does_not_answer(start_worker, counting_port):
    worker = start_worker(counting_port.url)
    worker.wait_for("within CONNECT_TIMEOUT")

    assert worker.stop(signal.SIGINT) == 0


def test_worker_begins_when_the_broker_comes(start_worker, rabbitmq, queues):
    rabbitmq.stop()
    worker = start_worker(rabbitmq.url())
    worker.wait_for("state=unavailable")

    rabbitmq.start()

    worker.wait_for("Consuming", timeout=30)
    assert worker.stop() == 0


def test_refused_password_ends_the_worker_and_is_not_shown(start_worker, rabbitmq):
    worker = start_worker(rabbitmq.url(password=PASSWORD))

    assert worker.wait() == 1
    assert "refused the credentials" in worker.output
    assert PASSWORD not in worker.output


def test_queue_with_other_arguments_ends_the_worker(start_worker, rabbitmq, queues):
    rabbitmq.declare_queue("worker-orders", arguments={"x-max-length": 1})

    worker = start_worker(rabbitmq.url())

    assert worker.wait() == 1
    assert "worker-orders" in worker.output


def test_worker_logs_in_anew_with_the_password_of_the_moment(start_worker, rabbitmq, order, tmp_path):
    """As a token is; the driver's own connection would go on with the first one for ever."""
    rabbitmq.ctl("add_user", "rotating", "first")
    rabbitmq.ctl("set_permissions", "rotating", ".*", ".*", ".*")
    try:
        (tmp_path / "password").write_text("first")
        worker = start_worker(rabbitmq.url("rotating").replace(":guest@", "@"))
        worker.wait_for("Consuming from")
        rabbitmq.ctl("change_password", "rotating", "second")
        (tmp_path / "password").write_text("second")
        rabbitmq.ctl("close_all_user_connections", "rotating", "rotated")

        order(1)
        worker.wait_for("handling", timeout=60)

        assert worker.stop() == 0
    finally:
        rabbitmq.ctl("delete_user", "rotating")


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_handles_messages_until_a_signal(start_worker, rabbitmq, order, number):
    worker = start_worker(rabbitmq.url())
    worker.wait_for("Consuming from broker 'default': worker-async, worker-ends, worker-orders")

    order(1)
    worker.wait_for("handled")

    assert worker.stop(number) == 0
    assert [message.body for message in rabbitmq.drain("worker-done")] == [b'{"done":1}']
    assert rabbitmq.count("worker-orders") == 0
    assert "guest:guest" not in worker.output
    assert "Stopped." in worker.output


def test_worker_that_has_nothing_to_do_ends_at_once(start_worker, rabbitmq, queues):
    worker = start_worker(rabbitmq.url())
    worker.wait_for("Consuming")

    code, took = worker.time_stop()

    assert code == 0
    assert took < GRACE


def test_worker_finishes_what_it_has_begun_and_gives_back_the_rest(start_worker, rabbitmq, order):
    worker = start_worker(rabbitmq.url(), "--concurrency", 1, "--prefetch", 10)
    worker.wait_for("Consuming")
    order(1, 0.5)
    order(2)
    order(3)
    worker.wait_for("handling 1")

    assert worker.stop() == 0
    assert [message.body for message in rabbitmq.drain("worker-done")] == [b'{"done":1}']
    assert rabbitmq.count("worker-orders") == 2


def test_handlers_that_outlive_the_limit_are_cut_off_and_told(start_worker, rabbitmq, order):
    worker = start_worker(rabbitmq.url(), "--shutdown-timeout", LIMIT)
    worker.wait_for("Consuming")
    for number in range(3):
        order(number, 30 if number else 0.5)
    worker.wait_for("handling", count=3)

    code, took = worker.time_stop()

    assert code == 3
    assert LIMIT <= took < LIMIT + GRACE
    cut_off = [line for line in worker.lines if "state=cut-off" in line]
    assert len(cut_off) == 2
    for number in (1, 2):
        assert any(f"queue=worker-orders message_id=order-{number} " in line for line in cut_off)
    assert [message.body for message in rabbitmq.drain("worker-done")] == [b'{"done":0}']
    assert rabbitmq.count("worker-orders") == 2


def test_nothing_is_finished_twice(start_worker, rabbitmq, postgresql, order, tmp_path):
    """What was cut off leaves nothing behind, in the database or elsewhere, and is handled by another one."""
    write_project(tmp_path, EFFECTS, settings=ON_POSTGRESQL)
    with psycopg.connect(postgresql.url(), autocommit=True) as database:
        database.execute("CREATE TABLE effects (number int)")
        try:
            env = {"POSTGRESQL_PORT": str(postgresql.port)}
            first = start_worker(rabbitmq.url(), "--shutdown-timeout", LIMIT, env=env)
            first.wait_for("Consuming")
            for number in range(8):
                order(number, LIMIT / 2 if number % 2 else 30)
            first.wait_for("handling", count=8)

            assert first.stop() == 3
            second = start_worker(rabbitmq.url(), env={**env, "QUICK": "1"})
            second.wait_for("handled", count=4)
            assert second.stop() == 0

            effects = database.execute("SELECT number FROM effects ORDER BY number").fetchall()
            assert effects == [(number,) for number in range(8)]
            assert sorted(handled([first, second])) == list(range(8))
            assert rabbitmq.count("worker-orders") == 0
        finally:
            database.execute("DROP TABLE effects")


def handled(workers):
    lines = [line for worker in workers for line in worker.lines]
    return [int(line.split()[1]) for line in lines if line.startswith("handled ")]


ON_POSTGRESQL = """
DATABASES["default"] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "default",
    "HOST": "127.0.0.1",
    "PORT": os.environ["POSTGRESQL_PORT"],
    "USER": "postgres",
}
"""
EFFECTS = """
import os, time
from django.db import connection, transaction
from faststream.rabbit import RabbitRouter

router = RabbitRouter()

@router.subscriber("worker-orders")
def handle(order: dict):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO effects VALUES (%s)", [order["id"]])
        print(f"handling\\n", end="", flush=True)
        time.sleep(0 if "QUICK" in os.environ else order["seconds"])
    print(f"handled {order['id']}\\n", end="", flush=True)
"""


@pytest.mark.parametrize("blocking", [False, True])
def test_coroutine_that_outlives_the_limit_is_cut_off(start_worker, rabbitmq, order, blocking):
    """Also one that blocks the loop, which could not even hear the signal."""
    worker = start_worker(rabbitmq.url(), "--shutdown-timeout", LIMIT)
    worker.wait_for("Consuming")
    order(1, 30, "worker-async", blocking=blocking)
    worker.wait_for("handling 1")

    code, took = worker.time_stop()

    assert code == 3
    assert LIMIT <= took < LIMIT + GRACE
    assert "queue=worker-async message_id=order-1 state=cut-off" in worker.output
    assert rabbitmq.count("worker-async") == 1


def test_second_signal_hurries(start_worker, rabbitmq, order):
    worker = start_worker(rabbitmq.url())
    worker.wait_for("Consuming")
    order(1, 30)
    worker.wait_for("handling 1")
    worker.send(signal.SIGTERM)
    worker.wait_for("state=stopping reason='SIGTERM'")

    code, took = worker.time_stop()

    assert code == 3
    assert took < GRACE
    assert "message_id=order-1 state=cut-off" in worker.output
    assert rabbitmq.count("worker-orders") == 1


def test_handler_that_exits_stops_the_worker(start_worker, rabbitmq, order):
    worker = start_worker(rabbitmq.url())
    worker.wait_for("Consuming")
    order(1, 1.0)
    worker.wait_for("handling 1")

    rabbitmq.publish(b"exit", "worker-ends")

    assert worker.wait() == 0
    assert "reason='a handler raised SystemExit'" in worker.output
    assert "handled 1" in worker.output


def test_thread_that_does_not_end_does_not_keep_the_process(start_worker, rabbitmq, queues):
    worker = start_worker(rabbitmq.url(), "--shutdown-timeout", LIMIT)
    worker.wait_for("Consuming")
    rabbitmq.publish(b"hang", "worker-ends")
    worker.wait_for("handled hang")

    code, took = worker.time_stop()

    assert code == 3
    assert took < LIMIT + GRACE


def test_output_that_nobody_reads_does_not_keep_the_process(start_worker, rabbitmq, queues):
    worker = start_worker(rabbitmq.url(), "--shutdown-timeout", LIMIT)
    worker.wait_for("Consuming")
    with worker.reading:
        rabbitmq.publish(b"flood", "worker-ends")
        worker.wait_until_output_is_full()

        worker.send(signal.SIGTERM)
        began = time.monotonic()
        code = worker.process.wait(20)
        took = time.monotonic() - began

    assert code == 3
    assert took < LIMIT + GRACE


# Options


def test_concurrency_bounds_what_runs_at_once(start_worker, rabbitmq, order):
    worker = start_worker(rabbitmq.url(), "--concurrency", 1)
    worker.wait_for("Consuming")
    for number in range(3):
        order(number, 0.1)

    worker.wait_for("handled", count=3)

    words = [line.split()[0] for line in worker.lines if line.startswith("handl")]
    assert words == ["handling", "handled"] * 3
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "queues_consumed"),
    [
        (["--queues", "worker-orders,worker-async"], "worker-async, worker-orders"),
        (["--exclude-queues", "worker-orders", "--exclude-queues", "worker-ends"], "worker-async"),
    ],
)
def test_only_some_queues_are_consumed(start_worker, rabbitmq, queues, arguments, queues_consumed):
    worker = start_worker(rabbitmq.url(), *arguments)

    worker.wait_for(f"Consuming from broker 'default': {queues_consumed}\n")

    assert worker.stop() == 0


def test_worker_ends_once_it_has_handled_so_many_messages(start_worker, rabbitmq, order):
    for_start = start_worker(rabbitmq.url())
    for_start.wait_for("Consuming")
    for_start.stop()
    for number in range(60):
        order(number, 0.02)

    worker = start_worker(rabbitmq.url(), "--max-messages", 20, "--concurrency", 2)

    assert worker.wait() == 0
    assert "messages were handled (--max-messages 20)" in worker.output
    count = len(handled([worker]))
    assert 20 <= count < 40
    assert rabbitmq.count("worker-orders") == 60 - count


def test_worker_ends_once_it_uses_too_much_memory(start_worker, rabbitmq, queues):
    worker = start_worker(rabbitmq.url(), "--max-memory", 1)

    assert worker.wait() == 0
    assert "MB are in use (--max-memory 1)" in worker.output


def test_several_brokers_are_consumed(start_worker, rabbitmq, order, tmp_path):
    rabbitmq.ctl("add_vhost", "audit")
    rabbitmq.ctl("set_permissions", "-p", "audit", "guest", ".*", ".*", ".*")
    write_project(
        tmp_path,
        TWO_ROUTERS,
        settings="FASTSTREAM['audit'] = {'URL': os.environ['AUDIT_URL']}",
    )
    env = {"AUDIT_URL": rabbitmq.url(vhost="audit")}
    try:
        worker = start_worker(rabbitmq.url(), env=env)
        worker.wait_for("Consuming from broker 'default': worker-orders")
        worker.wait_for("Consuming from broker 'audit': worker-orders")

        order(1)

        worker.wait_for("default {'id': 1")
        assert worker.stop() == 0

        worker = start_worker(rabbitmq.url(), "--broker", "audit", env=env)
        worker.wait_for("Consuming from broker 'audit'")
        assert worker.stop() == 0
        assert "'default'" not in worker.output
    finally:
        rabbitmq.ctl("delete_vhost", "audit")


TWO_ROUTERS = """
from faststream.rabbit import RabbitRouter
from faststream_django.worker import broker_router

router, audit = RabbitRouter(), broker_router("audit")

@router.subscriber("worker-orders")
def handle(order: dict):
    print("default", order, flush=True)

@audit.subscriber("worker-orders")
def handle_audit(order: dict):
    print("audit", order, flush=True)
"""
