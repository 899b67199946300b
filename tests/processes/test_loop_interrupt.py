import textwrap

from tests.loop.calling import assert_clean, not_with_uvloop


def test_ctrl_c_interrupts_a_waiting_caller_at_once_and_cancels_the_work(run_script):
    done = run_script(
        """
        import asyncio, os, signal, threading, time
        from faststream_django.loop import loop_thread

        cancelled = threading.Event()

        def interrupt(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)

        async def work():
            try:
                while True:  # Python sees a signal that comes just before it waits for a lock with the next
                    os.kill(os.getpid(), signal.SIGINT)
                    await asyncio.sleep(0.4)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        for timeout in (20, None):
            began, armed = time.monotonic(), True
            cancelled.clear()
            try:
                loop_thread.run(work, timeout=timeout)
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - began < 10, cancelled.wait(10))
        print(loop_thread.run(asyncio.sleep, 0, "goes on", timeout=10))
        """
    )

    assert_clean(done, "interrupted True True", "interrupted True True", "goes on")


@not_with_uvloop
def test_hung_resolver_does_not_delay_exit(run_script):
    """asyncio's own threads for it are joined at exit."""
    done = run_script(
        """
        import asyncio, socket, threading, time
        from faststream_django.loop import LoopStalled, loop_thread

        resolving = threading.Event()

        def hang(*args, **options):
            resolving.set()
            time.sleep(60)

        socket.getaddrinfo = hang

        async def resolve():
            await asyncio.get_running_loop().getaddrinfo("host", 5672)

        try:
            loop_thread.run(resolve, timeout=0.1)
        except LoopStalled:
            print("stalled", resolving.wait(1))
        """,
        timeout=10,
    )

    assert_clean(done, "stalled True")


def test_development_mode_does_not_complain_of_slow_callbacks(run_script):
    done = run_script(
        """
        import asyncio, logging, time
        from faststream_django.loop import loop_thread

        logging.basicConfig()

        async def slow():
            time.sleep(0.2)
            return asyncio.get_running_loop().get_debug()

        print(loop_thread.run(slow, timeout=5))
        """,
        env={"PYTHONDEVMODE": "1"},
    )

    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "took" not in done.stderr


EVENTLET = """
import sys, types

eventlet = types.ModuleType("eventlet")
eventlet.patcher = types.ModuleType("eventlet.patcher")
eventlet.patcher.already_patched = {"thread": True, "socket": True, "os": False}
sys.modules |= {"eventlet": eventlet, "eventlet.patcher": eventlet.patcher}
"""


def test_eventlet_is_refused_and_the_site_left_alone(run_script):
    """A stand-in says what eventlet says: the real one cannot be imported where warnings are errors."""
    done = run_script(
        EVENTLET
        + textwrap.dedent(
            """
            import asyncio, threading
            import django

            django.setup()
            from faststream_django import brokers, publish
            from faststream_django.exceptions import BrokerUnavailable

            brokers.start()
            try:
                publish("x", "orders")
            except BrokerUnavailable as error:
                print(error.maybe_sent, error)
            print(threading.active_count())
            """
        )
    )

    assert (done.returncode, done.stderr) == (0, "")
    refusal, threads = done.stdout.splitlines()
    assert refusal.startswith("False ")
    assert "eventlet has patched socket, thread" in refusal
    assert "celery -P gevent" in refusal
    assert threads == "1"
