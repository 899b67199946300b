"""The recipes in docs/how-to/deploy-worker.md: they can be read, and their commands do what the page says."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.waiting import wait_until
from tests.worker.commands import ROOT

PAGE = (ROOT / "docs" / "how-to" / "deploy-worker.md").read_text()


def recipe(language, text):
    """Return the block of code in this language that has the text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return next(block for block in blocks if text in block)


def arguments_of(command):
    """Return the arguments for faststream_worker."""
    words = shlex.split(command) if isinstance(command, str) else command
    return words[words.index("faststream_worker") + 1 :]


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(recipe("ini", "ExecStart"))
    return parser


@pytest.fixture
def pod():
    manifest = yaml.safe_load(recipe("yaml", "kind: Deployment"))
    assert manifest["spec"]["selector"]["matchLabels"] == manifest["spec"]["template"]["metadata"]["labels"]
    return manifest["spec"]["template"]["spec"]


def test_unit_runs_the_worker(unit, start_worker, rabbitmq, queues):
    service = unit["Service"]
    worker = start_worker(rabbitmq.url(), *arguments_of(service["ExecStart"]))
    worker.wait_for("Consuming", count=2)

    assert worker.stop() == 0
    assert int(service["TimeoutStopSec"]) > 10  # SHUTDOWN_TIMEOUT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="There is no systemd.")
def test_systemd_takes_the_unit(tmp_path):
    """Here there are neither a user `shop` nor its site."""
    source = recipe("ini", "ExecStart").replace("/srv/shop/.venv/bin/python", sys.executable)
    path = tmp_path / "shop-worker.service"
    path.write_text(source.replace("User=shop\n", "").replace("/srv/shop", str(tmp_path)))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert [line for line in done.stderr.splitlines() if path.name in line] == []
    broken = path.with_name("broken.service")
    broken.write_text(path.read_text().replace("RestartSec=1", "RestartSek=1"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", broken],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "RestartSek" in done.stderr


def test_compose_runs_the_worker(start_worker, rabbitmq, queues):
    service = yaml.safe_load(recipe("yaml", "services:"))["services"]["worker"]
    worker = start_worker(rabbitmq.url(), *arguments_of(service["command"]))
    worker.wait_for("Consuming", count=2)

    assert worker.stop() == 0


def test_probes_of_the_pod_tell_how_the_worker_is(pod, start_worker, rabbitmq, queues, tmp_path):
    (container,) = pod["containers"]
    arguments = arguments_of(container["command"])
    file = tmp_path / "worker"
    named = Path(arguments[arguments.index("--liveness") + 1])

    def probe(name):
        command = [word.replace(str(named), str(file)) for word in container[name]["exec"]["command"]]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0

    assert not any(map(probe, ["startupProbe", "livenessProbe", "readinessProbe"]))
    worker = start_worker(rabbitmq.url(), *(file if each == str(named) else each for each in arguments))
    wait_until(lambda: probe("readinessProbe"))
    assert probe("startupProbe")
    assert probe("livenessProbe")

    rabbitmq.kill()
    wait_until(lambda: not probe("readinessProbe"))
    assert probe("livenessProbe")

    assert worker.stop() == 0


def test_liveness_probe_of_the_pod_finds_a_file_that_is_old(pod, tmp_path):
    (_, _, script) = pod["containers"][0]["livenessProbe"]["exec"]["command"]
    file = tmp_path / "worker"
    file.write_text("ready\n")
    script = script.replace("/tmp/worker", str(file))

    def probe(age):
        subprocess.run(["touch", "-d", f"{age} seconds ago", file], check=True)
        return subprocess.run(["sh", "-c", script], check=False).returncode

    assert (probe(25), probe(35)) == (0, 1)


@pytest.mark.parametrize(
    "command", re.findall(r"^\$ python manage.py faststream_worker(.*)$", PAGE, re.MULTILINE)
)
def test_commands_of_the_page_are_understood(command):
    from faststream_django.management.commands.faststream_worker import Command

    Command().create_parser("manage.py", "faststream_worker").parse_args(shlex.split(command))
