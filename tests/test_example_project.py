"""The example project, run as a visitor runs it."""

import contextlib
import html
import http.cookiejar
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import cached_property

import pytest

from .conftest import ROOT
from .nodes import free_port, unused_port

EXAMPLE = ROOT / "example_project"
PASSWORD = "tr0ub4dor"

pytestmark = pytest.mark.processes


class Demo:
    """demo.py in a session of its own, and a browser without JavaScript."""

    def __init__(self, *arguments, directory):
        self._left_behind = []
        self._log = directory / "output"
        with self._log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", EXAMPLE / "demo.py", "--port", "0", *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT), "SHOP_DATABASE": str(directory / "shop.sqlite3")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._browser = urllib.request.build_opener(cookies)

    @property
    def output(self):
        return self._log.read_text()

    @cached_property
    def address(self):
        deadline = time.monotonic() + 30
        while not (found := re.search(r"http://\S+/", self.output)):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)
        return found[0]

    @property
    def children(self):
        """The processes that demo.py has started and that run."""
        columns = ["ps", "-A", "-o", "pid=,ppid=,stat="]
        listed = subprocess.run(columns, capture_output=True, text=True, check=True)
        rows = [line.split() for line in listed.stdout.splitlines()]
        return [
            int(pid)
            for pid, parent, state in rows
            if int(parent) == self.process.pid and not state.startswith("Z")
        ]

    def request(self, path="", body=None):
        """Return the status and the page, after redirects."""
        try:
            with self._browser.open(self.address + path, body, timeout=20) as response:
                return response.status, html.unescape(response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, html.unescape(error.read().decode())

    def get(self, path=""):
        status, page = self.request(path)
        assert status == 200, page
        return page

    def post(self, path, **data):
        """Post a form of the page as it is; return the status and the page that follows."""
        page = self.get()
        assert f'action="/{path}"' in page
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
        return self.request(path, urllib.parse.urlencode({"csrfmiddlewaretoken": token, **data}).encode())

    def order(self, quantity=1):
        """Place an order for green tea and return its number."""
        _, page = self.post("orders/", product=1, quantity=quantity)
        return int(re.search(r"Order (\d+) \(\d x Green tea\) is placed", page)[1])

    def news(self):
        _, news = self.request("live.json")
        return json.loads(news)

    def wait_for(self, condition, timeout=20):
        """Ask for news until the condition holds, and return them."""
        deadline = time.monotonic() + timeout
        while not condition(news := self.news()):
            assert time.monotonic() < deadline, f"{news}\n{self.output}"
            time.sleep(0.02)
        return news

    def stop(self, signal_number=signal.SIGINT, timeout=20):
        self._left_behind = self.children
        self.process.send_signal(signal_number)
        self.process.wait(timeout)

    def kill(self):
        """End what a failed test left behind."""
        running = [*self.children, self.process.pid] if self.process.poll() is None else self._left_behind
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start demo.py with a database of its own, and end it after the tests of this module."""
    started = []

    def start(*arguments):
        started.append(Demo(*arguments, directory=tmp_path_factory.mktemp("shop")))
        return started[-1]

    yield start
    for demo in started:
        demo.kill()


@pytest.fixture(scope="module")
def shop(start):
    """The shop on the embedded broker, open for all tests of this module."""
    return start()


@pytest.fixture(scope="module")
def virtual_host(rabbitmq):
    """Make a virtual host and return its URL: shops must not take each other's orders."""
    numbers = itertools.count()
    rabbitmq.ctl("add_user", "shopkeeper", PASSWORD)

    def make():
        name = f"shop{next(numbers)}"
        rabbitmq.ctl("add_vhost", name)
        rabbitmq.ctl("set_permissions", "--vhost", name, "shopkeeper", ".*", ".*", ".*")
        return rabbitmq.url("shopkeeper", PASSWORD, name)

    yield make
    for number in range(next(numbers)):
        rabbitmq.ctl("delete_vhost", f"shop{number}")
    rabbitmq.ctl("delete_user", "shopkeeper")


@pytest.fixture(scope="module")
def shop_with_worker(start, virtual_host):
    """The shop on RabbitMQ, open for all tests of this module."""
    return start("--url", virtual_host())


def kinds(news, destination):
    """What the list says about a destination, the oldest first."""
    return [each["kind"] for each in news["activities"][::-1] if each["destination"] == destination]


def arrived(news):
    """The process in which messages of a queue arrived, by queue."""
    return {each["destination"]: each["process"] for each in news["activities"] if each["kind"] == "arrived"}


def is_handled(number):
    return lambda news: any(
        order["number"] == number and order["status"] == "handled" for order in news["orders"]
    )


def snippets():
    page = (EXAMPLE / "shop/templates/shop/index.html").read_text()
    found = re.findall(r'<pre [^>]*data-source="(\S+)"><code>(.*?)</code>', page, re.DOTALL)
    return [(source, html.unescape(re.sub(r"</?b>", "", code))) for source, code in found]


def test_an_order_is_handled_by_the_subscriber(shop):
    number = shop.order()

    news = shop.wait_for(is_handled(number))

    (order,) = (order for order in news["orders"] if order["number"] == number)
    assert (order["product"], order["quantity"]) == ("Green tea", 1)
    assert order["seconds"] > 0


def test_an_order_announces_the_stock_through_the_signal_and_the_topic_exchange(shop):
    stock = shop.news()["stock"]["1"]

    shop.order()

    event = f'{{"product":"Green tea","stock":{stock - 1}}}'
    shop.wait_for(
        lambda news: any(
            each["destination"] == "stock" and each["detail"] == event for each in news["activities"]
        )
    )
    # Told by the thread that sends, which a fast subscriber may overtake.
    shop.wait_for(lambda news: "published" in kinds(news, "events / stock.changed"))


def test_low_stock_is_restocked_by_the_other_subscriber(start):
    shop = start()

    for _ in range(4):
        shop.order(quantity=5)

    news = shop.wait_for(lambda news: news["stock"]["1"] == 20)
    assert '{"product":"Green tea","stock":0}' in {each["detail"] for each in news["activities"]}


def test_a_rollback_publishes_nothing(start):
    shop = start()

    _, page = shop.post("orders/declined/")
    # Messages keep their order, so a message of the rollback would be here before this one.
    number = shop.order()
    news = shop.wait_for(
        lambda news: (
            {"published", "arrived"} <= {*kinds(news, "orders.placed")}
            and "published" in kinds(news, "events / stock.changed")
        )
    )

    assert "The card was declined" in page
    assert kinds(news, "orders.placed") == ["rolled back", "published", "arrived"]
    assert kinds(news, "events / stock.changed") == ["published"]
    assert [order["number"] for order in news["orders"]] == [number]


def test_an_order_waits_in_the_outbox_while_the_broker_is_away(start):
    shop = start()

    shop.post("broker/")
    number = shop.order()

    news = shop.wait_for(lambda news: news["outbox"]["waiting"] == 2)
    assert news["broker"] == "away"
    assert [order["status"] for order in news["orders"]] == ["placed"]

    _, page = shop.post("broker/")

    assert "The broker is back" in page
    news = shop.wait_for(is_handled(number), timeout=40)
    assert shop.wait_for(lambda news: news["outbox"]["waiting"] == 0)["outbox"]["dead"] == 0


def test_a_message_that_nobody_takes_is_dead_and_in_the_admin(start):
    shop = start()

    shop.post("nobody/")

    news = shop.wait_for(lambda news: news["outbox"]["dead"] == 1, timeout=60)
    assert news["outbox"]["rows"] == [{"destination": "no.such.queue", "state": "dead", "attempts": 3}]
    login = shop.get("admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', login)[1]
    form = {"csrfmiddlewaretoken": token, "username": "demo", "password": "demo"}
    form["next"] = "/admin/faststream_outbox/outboxmessage/"
    status, page = shop.request("admin/login/", urllib.parse.urlencode(form).encode())
    assert status == 200
    assert "no.such.queue" in page


def test_a_supplier_that_fails_twice_is_asked_again_after_longer_and_longer_waits(start):
    shop = start()

    shop.post("supplies/", supplier="fails-twice")

    waits = set()

    def is_delivered(news):
        waits.update(each["waited"] for each in news["supplies"] if each["waited"] is not None)
        return [each["status"] for each in news["supplies"]] == ["delivered"]

    (supply,) = shop.wait_for(is_delivered)["supplies"]
    assert supply["attempts"] == 3
    first, second = sorted(waits)
    assert 0.4 <= first < second
    assert second >= 0.8


def test_a_supplier_that_always_fails_leaves_a_dead_letter_that_is_replayed(start):
    shop = start()

    shop.post("supplies/", supplier="always-fails")
    shop.wait_for(lambda news: news["supplies"][0]["status"] == "dead letter")

    # The handler has failed for the last time; its message is on its way to the dead letters.
    replayed = itertools.takewhile(
        lambda page: "Replayed 1 of 1 dead letters" not in page,
        (shop.post("supplies/replay/")[1] for _ in range(100)),
    )
    assert len(list(replayed)) < 100
    shop.wait_for(lambda news: news["supplies"][0]["status"] == "delivered")


def test_an_unroutable_message_shows_its_error(shop):
    _, page = shop.post("nowhere/")

    assert "MessageUnroutable" in page
    assert "no.such.queue" in page
    assert kinds(shop.news(), "no.such.queue") == ["failed"]


def test_the_async_view_awaits_the_confirmation(shop):
    _, page = shop.post("newsletters/")

    message_id = re.search(r"The broker has confirmed message (\S+)\.", page)[1]
    news = shop.wait_for(lambda news: "arrived" in kinds(news, "newsletters"))
    assert message_id in {each["message_id"] for each in news["activities"]}


def test_a_wrong_order_is_answered_with_the_reason(shop):
    status, page = shop.post("orders/", product=2, quantity=9)

    assert status == 422
    assert "less than or equal to 5" in page
    assert re.search(r'value="2" required\s+checked', page)


def test_a_post_without_the_csrf_token_is_refused(shop):
    status, _ = shop.request("orders/", b"product=1&quantity=1")

    assert status == 403


@pytest.mark.parametrize("name", ["shop.css", "shop.js", "icon.svg"])
def test_the_files_of_the_page_are_served(shop, name):
    assert f"/static/shop/{name}" in shop.get()

    assert shop.get(f"static/shop/{name}") == (EXAMPLE / "shop/static/shop" / name).read_text()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_prints_its_address_and_ends_with_a_signal(start, signal_number):
    shop = start()
    shop.wait_for(is_handled(shop.order()))

    shop.stop(signal_number)

    assert shop.process.returncode == 0
    assert shop.output == (
        f"The shop is open at {shop.address} with the embedded broker (memory://). Ctrl-C closes it.\n"
        "\nStopped.\n"
    )


def test_a_busy_port_is_named_with_the_way_out(start):
    with unused_port() as port:
        shop = start("--port", str(port))
        shop.process.wait(30)

    assert shop.process.returncode == 1
    assert f"Port {port} cannot be used" in shop.output
    assert f"make demo PORT={port + 1}" in shop.output
    assert "Traceback" not in shop.output


def test_a_wrong_url_is_explained_without_its_password(start):
    shop = start("--url", f"ampq://shopkeeper:{PASSWORD}@127.0.0.1/")
    shop.process.wait(30)

    assert shop.process.returncode == 1
    assert "FASTSTREAM['default']['URL']" in shop.output
    assert PASSWORD not in shop.output
    assert "Traceback" not in shop.output


def test_with_rabbitmq_the_worker_handles_the_order(shop_with_worker):
    number = shop_with_worker.order()

    shop_with_worker.wait_for(is_handled(number))
    news = shop_with_worker.wait_for(lambda news: {"stock", "orders.placed"} <= arrived(news).keys())
    (worker,) = shop_with_worker.children
    assert set(arrived(news).values()) == {worker}


def test_with_rabbitmq_the_errors_are_the_same(shop_with_worker):
    _, page = shop_with_worker.post("nowhere/")

    assert "MessageUnroutable" in page


def test_with_rabbitmq_the_async_view_publishes(shop_with_worker):
    _, page = shop_with_worker.post("newsletters/")

    assert "The broker has confirmed message" in page
    shop_with_worker.wait_for(lambda news: "arrived" in kinds(news, "newsletters"))


def test_the_password_is_neither_on_the_page_nor_in_the_output(shop_with_worker):
    shop_with_worker.post("nowhere/")
    pages = [shop_with_worker.request(path)[1] for path in ("", "live.json", "no/such/page")]

    assert "RabbitMQ on 127.0.0.1" in pages[0]
    assert PASSWORD not in "".join(pages) + shop_with_worker.output


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_worker_too(start, virtual_host, signal_number):
    shop = start("--url", virtual_host())
    shop.wait_for(is_handled(shop.order()))
    (worker,) = shop.children

    shop.stop(signal_number)

    assert shop.process.returncode == 0
    assert shop.output == (
        f"The shop is open at {shop.address} with RabbitMQ on 127.0.0.1 and a worker process. "
        "Ctrl-C closes it.\n\nStopped.\n"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_the_demo_ends_when_the_worker_does(start, rabbitmq):
    shop = start("--url", rabbitmq.url(password="wrong"))

    shop.process.wait(30)

    assert shop.process.returncode == 1
    assert "The worker has ended" in shop.output
    assert "Traceback" not in shop.output
    assert shop.children == []


@pytest.mark.parametrize(("source", "code"), snippets())
def test_the_code_on_the_page_is_the_code_of_the_shop(source, code):
    lines = [line.strip() for line in (EXAMPLE / "shop" / source).read_text().splitlines()]
    wanted = [line.strip() for line in textwrap.dedent(code).splitlines()]

    windows = [lines[start : start + len(wanted)] for start in range(len(lines))]
    assert wanted in windows


def test_every_button_shows_its_code():
    page = (EXAMPLE / "shop/templates/shop/index.html").read_text()

    cards = re.findall(r"<article.*?</article>", page, re.DOTALL)
    assert len(cards) == 8
    assert all("<button" in card and "<pre" in card for card in cards)


def test_the_migrations_are_complete(run_script, tmp_path):
    done = run_script(
        EXAMPLE / "manage.py",
        "makemigrations",
        "--check",
        env={"DJANGO_SETTINGS_MODULE": "settings", "SHOP_DATABASE": str(tmp_path / "shop.sqlite3")},
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_its_own_tests_pass_without_a_broker():
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "test", "--parallel=2"],
        cwd=EXAMPLE,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "settings",
            "FASTSTREAM_URL": "amqp://guest:guest@127.0.0.1:1/",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Ran 3 tests" in done.stderr


def test_an_asgi_server_serves_it(tmp_path):
    port = free_port()
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "settings",
        "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
    }
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
    subprocess.run(migrate, cwd=EXAMPLE, env=env, check=True, timeout=60)
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level=warning", "asgi:application"],
        cwd=EXAMPLE,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/no/such/page", timeout=5)
            except urllib.error.HTTPError as answer:
                answer.close()
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=20)
    finally:
        server.kill()

    assert server.returncode == -signal.SIGTERM
    assert errors == ""
