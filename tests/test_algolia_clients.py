"""Algolia's own clients and widget, unmodified, against a running worker: from Node, and in a real browser.

What they need lies in tests/algolia; each test is skipped with a line that says what is missing.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.brokers import TestBroker
from tests.browsers import chromium
from tests.installation import Installation
from tests.node_packages import Missing, node_packages
from tests.storefront import ADMIN, ITEMS, SEARCH, item_id, storefront
from tests.waiting import wait_until_sync

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FOLDER = Path(__file__).parent / "algolia"


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder with the packages of package-lock.json installed; they are kept between runs."""
    try:
        return node_packages(FOLDER)
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def installation(
    packages: Path, broker: TestBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with storefront(broker, tmp_path_factory.mktemp("algolia")) as installation:
        yield installation


def gateway(installation: Installation) -> str:
    return f"127.0.0.1:{installation.workers[0].port}"


def clients(installation: Installation, scenario: str) -> Any:
    """What came of a scenario of clients.mjs."""
    environment = os.environ | {"GATEWAY": gateway(installation), "SEARCH_KEY": SEARCH, "ADMIN_KEY": ADMIN}
    command = ["node", "clients.mjs", scenario]
    ended = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


# From Node


def test_the_lite_client_asks(installation: Installation) -> None:
    """One result an entry, in order, also for unknown items; keys as headers or in the URL; the search call."""
    came = clients(installation, "lite")

    first, unknown, filtered = came["several"]["results"]
    assert len(first["hits"]) == 5
    assert all(hit["objectID"] and 0 <= hit["_score"] <= 100 for hit in first["hits"])
    assert ([], 404) == (unknown["hits"], unknown["status"])
    assert all(hit["price"] < 10 for hit in filtered["hits"])
    assert first["hits"] == came["inUrl"]["results"][0]["hits"] == came["array"]["results"][0]["hits"]
    assert came["unknown"]["results"][0]["hits"] == []
    assert "nobody" in came["unknown"]["results"][0]["message"]
    assert ([], 3, "items") == tuple(came["search"]["results"][0][name] for name in ("hits", "hitsPerPage", "index"))


def test_a_packed_body(installation: Installation) -> None:
    """With `compression: "gzip"` the client packs its bodies, and unpacks the answers."""
    assert [5] * 30 == [len(result["hits"]) for result in clients(installation, "packed")["results"]]


def test_mistakes_reach_the_caller(installation: Installation) -> None:
    """Each is an error with status and message at once, never "Unreachable hosts"."""
    came = clients(installation, "mistakes")

    expected = {"filter": 400, "key": 403, "index": 404, "searchKeyOnRules": 403, "rule": 400, "noRule": 404}
    assert expected == {name: came[name]["error"]["status"] for name in expected}
    assert {"ApiError"} == {came[name]["error"]["name"] for name in expected}
    assert "position" in came["filter"]["error"]["message"]
    assert "condition.filters" in came["rule"]["error"]["message"]
    bad, good = came["mixed"]["results"]
    assert ([], 400) == (bad["hits"], bad["status"])
    assert len(good["hits"]) == 5


def test_rules_written_and_seen(installation: Installation) -> None:
    """batch, status, search, get, delete, clear: as the client's methods promise, and steering the next answer."""
    came = clients(installation, "rules")

    def ids(name: str) -> list[str]:
        return [hit["objectID"] for hit in came[name]["results"][0]["hits"]]

    assert came["inForce"]
    assert ids("before")[0] not in ids("after")
    assert ids("before")[1:] == ids("after")[:4]
    assert ids("before") == ids("restored")
    assert [came["rule"]["objectID"]] == [rule["objectID"] for rule in came["found"]["hits"]]
    assert (1, 0, 1) == tuple(came["found"][name] for name in ("nbHits", "page", "nbPages"))
    assert came["rule"] == {name: value for name, value in came["one"].items() if name != "_metadata"}
    for write, moment in {
        "written": "updatedAt",
        "deleted": "deletedAt",
        "cleared": "updatedAt",
        "none": "updatedAt",
    }.items():
        assert 0 < came[write]["taskID"] < 2**53
        assert came[write][moment]


def test_version_4(installation: Installation) -> None:
    """The client of the recommend-js and recommend-react widgets: a form's content type, and the same answers."""
    came = clients(installation, "v4")

    assert len(came["similar"]["results"][0]["hits"]) == 5
    assert (403, "ApiError") == (came["key"]["error"]["status"], came["key"]["error"]["name"])


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


class Pages(http.server.SimpleHTTPRequestHandler):
    """Serves tests/algolia without a word."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages(packages: Path) -> Iterator[str]:
    """The origin of the page: another port, which is another origin to a browser."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=str(packages)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/page.html"
    server.shutdown()
    thread.join()


HITS = "return [...document.querySelectorAll('.hit')].map(hit => [hit.dataset.id, hit.innerText])"
ANSWERED = "return performance.getEntriesByType('resource').some(entry => entry.name.includes('/recommendations'))"


class Shown:
    """What the page shows in the end."""

    def __init__(self, browser: Chrome, pages: str, installation: Installation, **asked: Any) -> None:
        query = {"gateway": gateway(installation), "key": SEARCH} | asked
        browser.get(f"{pages}?{urlencode(query, doseq=True)}")

        def told() -> str:
            return str(browser.execute_script("return document.querySelector('#outcome').textContent"))

        def settled() -> bool:
            if browser.execute_script(HITS) or any(word in told() for word in ("error", "unhandled", "uncaught")):
                return True
            return (
                bool(browser.execute_script(ANSWERED)) and "nothing alike" in browser.find_element("id", "alike").text
            )

        wait_until_sync(settled, 30, lambda: f"the widget to render, but: {told()}")
        self.hits: dict[str, str] = dict(browser.execute_script(HITS))
        self.text = browser.find_element("id", "alike").text
        self.told = told()


def test_a_widget_in_a_browser(installation: Installation, browser: Chrome, pages: str) -> None:
    """InstantSearch's lookingSimilar on a page of another origin shows the hits, with their highlighted titles."""
    shown = Shown(browser, pages, installation, id=item_id(0))

    assert len(shown.hits) == 4
    assert item_id(0) not in shown.hits
    assert all("no. " in title for title in shown.hits.values()), "Highlight has its text"
    assert "error" not in shown.told
    assert "unhandled" not in shown.told


def test_a_widget_of_several_items(installation: Installation, browser: Chrome, pages: str) -> None:
    """One entry an item in one call, among them one that is not there; the page shows what the others are like."""
    shown = Shown(browser, pages, installation, id=[item_id(0), "nobody", item_id(1)])

    assert len(shown.hits) >= 4
    assert "error" not in shown.told


def test_a_widget_beside_a_search_widget(installation: Installation, browser: Chrome, pages: str) -> None:
    """With a search widget on the page its own call is answered too, or both would fail."""
    shown = Shown(browser, pages, installation, id=item_id(0), search="1")

    assert len(shown.hits) == 4
    assert "error" not in shown.told
    assert "unhandled" not in shown.told


def test_a_widget_with_preflights(installation: Installation, browser: Chrome, pages: str) -> None:
    """With the key in a header every call is preflighted, without the key."""
    assert len(Shown(browser, pages, installation, id=item_id(0), auth="WithinHeaders").hits) == 4


def test_a_widget_of_an_unknown_item(installation: Installation, browser: Chrome, pages: str) -> None:
    """The page says that there is nothing, and nothing fails."""
    shown = Shown(browser, pages, installation, id="nobody")

    assert "nothing alike" in shown.text
    assert "error" not in shown.told


def test_a_widget_with_a_wrong_key(installation: Installation, browser: Chrome, pages: str) -> None:
    """The page is told why: the message of the 403, not "Unreachable hosts"."""
    shown = Shown(browser, pages, installation, id=item_id(0), key="wrong")

    assert "Invalid Application-ID or API key" in shown.told
    assert not shown.hits


def test_a_widget_with_a_mistake_in_its_filter(installation: Installation, browser: Chrome, pages: str) -> None:
    """The page is told where in the filter the mistake is."""
    shown = Shown(browser, pages, installation, id=item_id(0), filters="price <")

    assert "filters" in shown.told
    assert ITEMS > len(shown.hits) == 0
