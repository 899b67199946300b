"""What users wrote as def runs in few threads, which nothing that it raises can end."""

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

from faststream_django.worker.errands import await_in_task
from faststream_django.worker.threads import HandlerThreads, Interrupted
from tests.outbox.waiting import SOON, wait_until

color = contextvars.ContextVar("color", default="none")


class Gate:
    """Functions that begin, and end when they are let through."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.opened = threading.Event()
        self.ended = []

    def pass_through(self, name="one"):
        self.begun.release()
        assert self.opened.wait(SOON)
        self.ended.append(name)
        return name

    async def wait_for_beginning(self):
        assert await asyncio.to_thread(self.begun.acquire, timeout=SOON)


@pytest.fixture
def make_threads():
    made = []

    def make(size=1, **options):
        made.append(HandlerThreads(size, **options))
        return made[-1]

    yield make
    for threads in made:
        end(threads)


def end(threads):
    ending = list(threads._threads)
    threads.stop()
    for thread in ending:
        thread.join(SOON)
        assert not thread.is_alive()


def test_function_runs_in_a_daemon_thread_with_the_context_variables_of_the_caller(make_threads):
    def look(number):
        thread = threading.current_thread()
        return number, color.get(), thread.daemon, thread is not threading.main_thread()

    async def main():
        color.set("red")
        return await make_threads().run(look, 7)

    assert asyncio.run(main()) == (7, "red", True, True)


def test_what_a_function_raises_is_raised(make_threads):
    def fail():
        raise ValueError("out of stock")

    with pytest.raises(ValueError, match="out of stock"):
        asyncio.run(make_threads().run(fail))


def test_threads_are_started_when_they_are_needed_and_used_again(make_threads):
    threads = make_threads(5)

    async def main():
        idents = {await threads.run(threading.get_ident) for _ in range(5)}
        gate = Gate()
        waiting = [asyncio.create_task(threads.run(gate.pass_through)) for _ in range(3)]
        for _ in waiting:
            await gate.wait_for_beginning()
        gate.opened.set()
        await asyncio.gather(*waiting)
        return idents

    assert len(asyncio.run(main())) == 1
    assert len(threads._threads) == 3


def test_no_more_functions_run_than_there_are_threads(make_threads):
    threads = make_threads(3)
    gate = Gate()

    async def main():
        waiting = [asyncio.create_task(threads.run(gate.pass_through, name)) for name in range(10)]
        for _ in range(3):
            await gate.wait_for_beginning()
        running = threads.running
        fourth = await asyncio.to_thread(gate.begun.acquire, timeout=0.1)
        gate.opened.set()
        return running, fourth, await asyncio.gather(*waiting)

    assert asyncio.run(main()) == (3, False, list(range(10)))
    assert threads.running == 0


def test_function_whose_caller_is_cancelled_keeps_its_thread_until_it_ends(make_threads):
    """Else threads and database connections pile up with each lost connection."""
    threads = make_threads(1)
    gate = Gate()

    async def main():
        first = asyncio.create_task(threads.run(gate.pass_through, "first"))
        await gate.wait_for_beginning()
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(threads.run(gate.ended.append, "second"))
        idle = await threads.idle(0.1)
        running = threads.running
        gate.opened.set()
        await second
        return first.cancelled(), idle, running

    assert asyncio.run(main()) == (True, False, 1)
    assert gate.ended == ["first", "second"]


def test_function_that_is_cancelled_before_it_begins_never_does(make_threads):
    threads = make_threads(1)
    gate = Gate()

    async def main():
        first = asyncio.create_task(threads.run(gate.pass_through, "first"))
        await gate.wait_for_beginning()
        second = asyncio.create_task(threads.run(gate.ended.append, "second"))
        await asyncio.sleep(0)
        second.cancel()
        gate.opened.set()
        await first
        return await threads.idle(SOON)

    assert asyncio.run(main())
    assert gate.ended == ["first"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, StopIteration, BaseException]
)
def test_thread_goes_on_after_what_would_end_it(make_threads, error):
    """KeyboardInterrupt in a handler once left a process that consumed nothing any more."""
    threads = make_threads(1)

    def fail():
        raise error

    async def main():
        with pytest.raises(Interrupted, match=error.__name__) as raised:
            await threads.run(fail)
        return type(raised.value.__cause__), await threads.run(lambda: "next"), len(threads._threads)

    assert asyncio.run(main()) == (error, "next", 1)


def test_handler_may_end_the_worker_with_system_exit(make_threads):
    threads = make_threads(1)

    def leave():
        raise SystemExit(3)

    async def main():
        try:
            await threads.run(leave)
        except SystemExit as error:
            return error.code, await threads.run(lambda: "next")

    assert asyncio.run(main()) == (3, "next")


def test_idle_waits_for_what_runs_and_for_what_waits(make_threads):
    threads = make_threads(1)
    gate = Gate()

    async def main():
        before = await threads.idle(0)
        tasks = [asyncio.create_task(threads.run(gate.pass_through, name)) for name in range(2)]
        await gate.wait_for_beginning()
        during = await threads.idle(0.05)
        gate.opened.set()
        after = await threads.idle(SOON)
        await asyncio.gather(*tasks)
        return before, during, after

    assert asyncio.run(main()) == (True, False, True)


def test_stopped_threads_end_after_what_they_were_given(make_threads):
    threads = make_threads(2)
    gate = Gate()

    async def main():
        tasks = [asyncio.create_task(threads.run(gate.pass_through, name)) for name in range(3)]
        await gate.wait_for_beginning()
        ending = list(threads._threads)
        threads.stop()
        gate.opened.set()
        return await asyncio.gather(*tasks), ending

    results, ending = asyncio.run(main())

    assert results == [0, 1, 2]
    for thread in ending:
        thread.join(SOON)
        assert not thread.is_alive()


def test_what_is_called_after_the_end_has_a_thread_that_ends_with_it(make_threads):
    """A handler that still runs may come to its next dependency."""
    threads = make_threads(2)
    threads.stop()

    thread = asyncio.run(threads.run(threading.current_thread))

    thread.join(SOON)
    assert not thread.is_alive()


def test_threads_serve_one_event_loop(make_threads):
    threads = make_threads()
    asyncio.run(threads.run(print))

    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(threads.run(print))


def test_function_may_outlive_its_event_loop(make_threads):
    """As in a process that ends. An exception in the thread would be a warning, which is an error here."""
    threads = make_threads()
    gate = Gate()

    async def main():
        task = asyncio.create_task(threads.run(gate.pass_through))
        await gate.wait_for_beginning()
        task.cancel()

    asyncio.run(main())
    gate.opened.set()
    wait_until(lambda: gate.ended and not threads.running)


def test_thread_that_waits_does_not_keep_what_it_handled(make_threads):
    class Order:
        pass

    threads = make_threads()

    async def main():
        order = Order()
        handled = weakref.ref(order)
        await threads.run(id, order)
        del order
        gc.collect()
        wait_until(lambda: handled() is None)

    asyncio.run(main())


# What a function in a thread has its task await.


def test_task_of_a_function_awaits_for_it(make_threads):
    async def double(number, *, by):
        await asyncio.sleep(0)
        return number * by, asyncio.current_task()

    async def main():
        def handle():
            return [await_in_task(double, number, by=2) for number in (1, 2)]

        return await make_threads().run(handle), asyncio.current_task()

    (first, second), task = asyncio.run(main())

    assert (first, second) == ((2, task), (4, task))


def test_what_an_errand_raises_is_raised_in_the_thread(make_threads):
    async def fail():
        raise ValueError("out of stock")

    def handle():
        with pytest.raises(ValueError, match="out of stock"):
            await_in_task(fail)
        return "went on"

    assert asyncio.run(make_threads().run(handle)) == "went on"


def test_context_variable_that_an_errand_sets_is_set_in_the_thread(make_threads):
    size = contextvars.ContextVar("size", default=0)

    async def paint():
        color.set("green")

    def handle():
        size.set(3)
        await_in_task(paint)
        return color.get(), size.get()

    assert asyncio.run(make_threads().run(handle)) == ("green", 3)


@pytest.mark.parametrize("when", ["during the errand", "before the errand", "as it is asked for"])
def test_errand_of_a_cancelled_task_ends_the_function(make_threads, when):
    threads = make_threads()
    gate = Gate()
    started = threading.Event()
    raised = []

    async def wait():
        started.set()
        await asyncio.Event().wait()

    def handle():
        gate.pass_through()
        try:
            await_in_task(wait)
        except asyncio.CancelledError as error:
            raised.append(error)
            raise

    async def main():
        task = asyncio.create_task(threads.run(handle))
        await gate.wait_for_beginning()
        if when == "before the errand":
            task.cancel()
            await asyncio.wait([task])
            gate.opened.set()
        elif when == "as it is asked for":
            gate.opened.set()
            wait_until(lambda: threads._reports)  # the loop stands still: nobody has taken the errand
            asyncio.get_running_loop().call_soon(threads._drain)
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            gate.opened.set()
            assert await asyncio.to_thread(started.wait, SOON)
            task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), await threads.idle(SOON)

    assert asyncio.run(main()) == (True, True)
    assert len(raised) == 1
