import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from faststream_django.connection.bulk import CHUNK_MESSAGES, CHUNKS_UNDER_WAY

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _rabbit(settings, counting_port):
    """By default a broker that would be seen to be connected to, and where nothing arrives."""
    settings.FASTSTREAM = {"default": {"URL": counting_port.url, "MAX_MESSAGE_BYTES": 10_000_000}}


class Program:
    """`python -m django faststream_publish` on a broker."""

    def __init__(self, path, url):
        self.path = path
        self.url = url

    def environment(self):
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": str(ROOT),
            "TEST_DATABASE": "sqlite",
            "TEST_FASTSTREAM_URL": self.url,
        }

    def command(self, *arguments):
        return [sys.executable, "-W", "error", "-m", "django", "faststream_publish", *arguments]

    def __call__(self, *arguments, stdin=b""):
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            cwd=self.path,
            env=self.environment(),
            timeout=60,
            check=False,
        )

    @contextmanager
    def started(self, *arguments, **options):
        with subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(),
            start_new_session=True,
            **options,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


@pytest.fixture
def program(rabbitmq, tmp_path):
    return Program(tmp_path, rabbitmq.url())


@pytest.fixture
def queue(rabbitmq):
    name = rabbitmq.declare_queue(f"publish-{uuid.uuid4().hex}")
    yield name
    rabbitmq.recover()
    rabbitmq.delete_queue(name)


@pytest.mark.processes
def test_the_program_publishes_to_rabbitmq(program, rabbitmq, queue):
    done = program(queue, '{"id": 1}', "--header", "tenant=a", "--header", "n:=1")

    assert (done.returncode, done.stderr) == (0, b"")
    (stored,) = rabbitmq.drain(queue)
    assert stored.body == b'{"id": 1}'
    assert stored.properties.content_type == "application/json"
    assert stored.properties.delivery_mode == 2
    assert stored.headers == {"tenant": "a", "n": 1}
    assert done.stdout.decode().startswith(
        f"confirmed 1 message to queue '{queue}' (id {stored.properties.message_id}, "
    )
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.processes
def test_the_program_reads_a_pipe(program, rabbitmq, queue):
    done = program(queue, stdin=b"from a pipe")

    assert done.returncode == 0
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"from a pipe"]


@pytest.mark.processes
def test_the_program_publishes_5000_lines_but_the_3_bad_ones(program, rabbitmq, queue):
    lines = [json.dumps({"id": number}).encode() for number in range(5000)]
    lines[10], lines[2500], lines[4999] = b"{", b'"\xff"', b'"' + b"x" * 1_048_576 + b'"'
    (program.path / "orders.ndjson").write_bytes(b"\n".join(lines) + b"\n")

    done = program(queue, "--lines", "--file", "orders.ndjson")

    stored = [json.loads(each.body)["id"] for each in rabbitmq.drain(queue)]
    assert stored == [number for number in range(5000) if number not in {10, 2500, 4999}]
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"confirmed 4,997 messages to queue '{queue}' (")
    reported = done.stderr.decode().splitlines()
    assert [line.partition(": ")[0] for line in reported] == [
        "line 11",
        "line 2,501",
        "line 5,000",
        "CommandError",
    ]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["absent-queue", "x"], 1, "absent-queue"),
        (["--exchange", "absent", "--routing-key", "k", "x"], 1, "absent"),
        ([], 2, "Nothing says where to publish"),
        (["orders", "x", "--header", "bad"], 2, "--header number 1 is not NAME=VALUE"),
        (["orders", "x", "--broker", "defualt"], 2, "did you mean 'default'?"),
        (["orders", "x", "--tiemout", "1"], 2, "usage: "),
    ],
)
def test_the_exit_codes_of_the_program(program, arguments, code, text):
    done = program(*arguments)

    assert done.returncode == code
    assert text in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["x"], ["--lines"]])
def test_the_program_gives_an_unreachable_broker_up_in_time(tmp_path, unreachable_port, arguments):
    """Importing the driver is part of the first publish, and of its time."""
    program = Program(tmp_path, f"amqp://guest:hunter2@127.0.0.1:{unreachable_port}/")

    started = time.monotonic()
    done = program("orders", *arguments, "--timeout", "1", stdin=b"1\n2\n")

    assert time.monotonic() - started < 30  # it hangs for longer, or not at all
    assert done.returncode == 1, done.stderr
    assert b"hunter2" not in done.stderr + done.stdout


@pytest.mark.processes
def test_a_traceback_holds_no_password(tmp_path, unreachable_port):
    program = Program(tmp_path, f"amqp://guest:hunter2@127.0.0.1:{unreachable_port}/")

    done = program("orders", "x", "--timeout", "1", "--traceback")

    assert b"Traceback" in done.stderr
    assert b"hunter2" not in done.stderr + done.stdout


@pytest.mark.processes
def test_the_program_tells_an_unknown_outcome_by_its_exit_code(program, rabbitmq, queue):
    from tests.nodes import FaultProxy

    proxy = FaultProxy(rabbitmq.port)
    program.url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
    try:
        with program.started(queue, "--lines", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdin.write(b"1\n" * 1024)
            process.stdin.flush()
            wait_until(lambda: rabbitmq.count(queue) >= 512)
            proxy.black_hole()
            process.stdin.write(b"2\n" * 1024)
            _, stderr = process.communicate(timeout=60)
    finally:
        proxy.close()

    assert process.returncode == 3
    *_, last, end = stderr.decode().splitlines()
    first_not_sent = int(re.findall(r"[\d,]+", last.partition(":")[0])[-1].replace(",", "")) + 1
    assert end == f"CommandError: Publishing stopped: nothing from line {first_not_sent:,} on was sent."


@pytest.fixture
def closed_pipe():
    """The end of a pipe that nobody reads, as in `faststream_publish ... | true`."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["{queue}", "x"], 0), (["absent", "x"], 1), ([], 2), (["{queue}", "x", "-v0"], 0)],
)
def test_exit_code_tells_the_outcome_when_nobody_reads_the_output(
    program, rabbitmq, queue, closed_pipe, arguments, code
):
    arguments = [argument.format(queue=queue) for argument in arguments]

    with program.started(*arguments, stdout=closed_pipe, stderr=subprocess.PIPE) as process:
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == code, stderr
    assert b"Traceback" not in stderr
    assert b"BrokenPipe" not in stderr
    assert rabbitmq.count(queue) == (code == 0)

    with program.started(*arguments, stdout=closed_pipe, stderr=closed_pipe) as process:
        process.wait(timeout=60)

    assert process.returncode == code


@pytest.mark.processes
def test_a_dry_run_of_the_program_connects_to_nothing(tmp_path, counting_port):
    done = Program(tmp_path, counting_port.url)("orders", "x", "--dry-run")

    assert done.returncode == 0
    assert done.stdout.startswith(b"would publish 1 message to queue 'orders'")
    assert counting_port.count == 0


INTERRUPTED = (
    r"CommandError: Interrupted: ([\d,]+) messages were confirmed\."
    r"(?: Up to ([\d,]+) more may have been sent\.)?\n"
)


@pytest.mark.processes
def test_ctrl_c_says_how_many_were_confirmed(program, rabbitmq, queue):
    with program.started(
        queue, "--lines", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b"1\n" * 1000)
        process.stdin.flush()
        # The next chunk leaves once the first is counted.
        wait_until(lambda: rabbitmq.count(queue) > CHUNKS_UNDER_WAY * CHUNK_MESSAGES)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        stdout, stderr = process.stdout.read(), process.stderr.read()

    assert process.returncode == 130
    assert stdout == b""
    said = re.fullmatch(INTERRUPTED, stderr.decode())
    assert said, stderr
    confirmed, more = (int((number or "0").replace(",", "")) for number in said.groups())
    assert confirmed >= CHUNK_MESSAGES
    assert confirmed <= rabbitmq.count(queue) <= confirmed + more


@pytest.mark.processes
def test_lines_of_a_slow_pipe_leave_at_once(program, rabbitmq, queue):
    with program.started(
        queue, "--lines", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for count in (1, 2):
            process.stdin.write(b"1\n")
            process.stdin.flush()
            wait_until(lambda count=count: rabbitmq.count(queue) == count)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        stderr = process.stderr.read()

    assert process.returncode == 130
    assert stderr == b"CommandError: Interrupted: 2 messages were confirmed.\n"


@pytest.mark.processes
def test_ctrl_c_during_a_single_publish(tmp_path, counting_port):
    program = Program(tmp_path, counting_port.url)

    with program.started("orders", "x", "--timeout", "60", stderr=subprocess.PIPE) as process:
        counting_port.wait_for(1, timeout=20)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)

    assert process.returncode == 130
    assert b"Interrupted: 0 messages were confirmed. Up to 1 more may have been sent." in stderr


@pytest.mark.processes
def test_the_program_draws_on_a_real_terminal(program, rabbitmq, queue):
    (program.path / "lines").write_text("1\n" * 20_000)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    with program.started(
        queue, "--lines", "--file", "lines", stdin=slave, stdout=subprocess.PIPE, stderr=slave
    ) as process:
        os.close(slave)
        drawn = read_terminal(master)
        stdout, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert b" confirmed, " in drawn
    assert b"%" in drawn
    assert stdout.startswith(b"confirmed 20,000 messages")


@pytest.mark.processes
def test_the_program_holds_few_lines_in_memory(run_script):
    """Lines of 10 kB, 100 MB in all, with no more memory than a tenth of that."""
    done = run_script(
        """
        import io, resource, sys
        import django

        django.setup()
        from django.core.management import call_command

        class Input(io.RawIOBase):
            left = 10_000
            line = b'"' + b"x" * 10_000 + b'"\\n'

            def readline(self, limit=-1):
                self.left -= 1
                return self.line if self.left >= 0 else b""

            def fileno(self):
                raise OSError

        class Stdin:
            buffer = Input()

            def isatty(self):
                return False

        sys.stdin = Stdin()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call_command("faststream_publish", "orders", lines=True, dry_run=True)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
        """,
        env={"TEST_FASTSTREAM_URL": "amqp://127.0.0.1:1/"},
    )

    said, megabytes = done.stdout.splitlines()
    assert said == "would publish 10,000 messages to queue 'orders'"
    assert int(megabytes) < 10


def wait_until(condition, timeout=30):
    deadline = time.monotonic() + timeout
    pause = select.poll()
    while not condition():
        assert time.monotonic() < deadline
        pause.poll(20)


def read_terminal(master):
    drawn = b""
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            os.close(master)
            return drawn
        drawn += part
