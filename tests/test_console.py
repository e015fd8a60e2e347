"""The console of a running worker, in a real browser, over a catalog that does not mean well; and its picture call."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import urllib.request
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

import pytest

from models.image import decode
from models.truth_messages import image_name
from streams.web.console import PAGES, Console
from tests.brokers import TestBroker
from tests.browsers import chromium
from tests.installation import Installation
from tests.storefront import ADMIN, ITEMS, SEARCH, item_id, storefront
from tests.waiting import wait_until, wait_until_sync

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

EVIL = '<img src=x onerror="window.harmed=1"></script><script>window.harmed=2</script>'
EVIL_ID = "\"'><script>window.harmed=3</script>&\\"
RULES = "/1/indexes/items/looking-similar/recommend/rules/"


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The catalog of the storefront, and an item of it again that is hostile wherever it can be."""
    folder = tmp_path_factory.mktemp("console")
    with storefront(broker, folder) as made:
        picture = next(path for path in sorted(folder.rglob("*.jpg")))
        embedded = "data:image/jpeg;base64," + base64.b64encode(picture.read_bytes()).decode()
        bad = {
            "title": EVIL,
            "image": [embedded, "missing.jpg"],
            "category": EVIL,
            EVIL: EVIL,
            "price": 1e308,
            "link": "javascript:window.harmed=5",
        }

        async def add() -> None:
            async with made.shop() as shop:
                await shop.catalog({EVIL_ID: bad})
                await shop.send(
                    "rule-changes",
                    EVIL,
                    {
                        "description": EVIL,
                        "condition": {"context": EVIL},
                        "consequence": {"hide": [{"objectID": EVIL}]},
                    },
                )
                request = {"objectID": item_id(0), "maxRecommendations": ITEMS + 1}
                await wait_until(lambda: there(shop.client.ask(request, 10)), 60, "the hostile item")

        async def there(asked: Any) -> bool:
            return EVIL_ID in [hit["objectID"] for hit in (await asked)["hits"]]

        asyncio.run(add())
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


class Page:
    """The console as somebody looks at it."""

    def __init__(self, browser: Chrome, installation: Installation, key: str = ADMIN, **asked: str) -> None:
        self.browser = browser
        self.address = f"http://127.0.0.1:{installation.workers[0].port}/"
        browser.get(f"{self.address}livez")
        browser.execute_script("sessionStorage.clear()")
        if key:
            browser.execute_script("sessionStorage.setItem('kindred-key', arguments[0])", key)
        browser.get(f"{self.address}?{hash(tuple(asked.items()))}#{urlencode(asked)}")

    def all(self, css: str) -> list[WebElement]:
        return self.browser.find_elements("css selector", css)

    def texts(self, css: str) -> list[str]:
        """What stands in elements, also in those that are folded."""
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
        return list(self.browser.execute_script(script, css))

    def ids(self) -> list[str]:
        """The items that are shown, in their order."""
        script = "return [...document.querySelectorAll('#hits .pick')].map(each => each.dataset.item)"
        return list(self.browser.execute_script(script))

    def until(self, condition: Any, what: str) -> Any:
        return wait_until_sync(condition, 30, lambda: f"{what}, but: {self.texts('#problem')} {self.texts('#about')}")

    def shown(self) -> list[str]:
        """The hits, once there are some, with their pictures."""
        loaded = "return [...document.querySelectorAll('#hits img')].slice(0, 4).map(each => each.naturalWidth)"
        self.until(lambda: self.ids() and all(self.browser.execute_script(loaded) or [0]), "hits with pictures")
        return self.ids()

    def unharmed(self) -> None:
        """Nothing of the catalog ran, and the policy had nothing to forbid."""
        assert self.browser.execute_script("return window.harmed ?? null") is None
        told = [entry["message"] for entry in self.browser.get_log("browser")]
        assert [] == [text for text in told if "Content Security" in text or "Uncaught" in text]


def ask(installation: Installation, path: str, body: Any = None, key: str = ADMIN) -> tuple[int, bytes, Any]:
    """Status, body and headers of a call."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{installation.workers[0].port}{path}", data, {"x-algolia-api-key": key}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(), answer.headers
    except HTTPError as error:
        return error.code, error.read(), error.headers


# The page


def test_the_page_names_all_that_may_run(installation: Installation) -> None:
    """Its policy lets its own style and script run and nothing else, and it names no other host."""
    status, body, headers = ask(installation, "/", key="")
    page = body.decode()

    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        texts = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert policy[name] == f"'sha256-{digests[0]}'"
        assert len(texts) == 1
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert not re.search(r"https?://(?!\\)[a-z]", page.replace("/^https?:\\/\\//i", ""))
    assert not re.search(r"\s(?:style|on[a-z]+)\s*=\s*[\"']", page), "the policy would forbid them"


def test_no_function_takes_the_name_of_another() -> None:
    """The files of the page become one script, in which the last of two would count without a word."""
    names = re.findall(r"^(?:async )?function (\w+)", "\n".join(path.read_text() for path in PAGES.glob("*.js")), re.M)

    assert len(names) > 30
    assert sorted(set(names)) == sorted(names)


def test_nothing_is_made_into_markup() -> None:
    """What comes from a catalog is set as text: no script of the page writes markup or follows a link."""
    script = "\n".join(part.read_text() for part in PAGES.glob("*.js"))

    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", ".href"):
        assert forbidden not in script
    assert len(Console().headers["Content-Security-Policy"]) < 1_000


def test_an_item_and_its_look_alikes(installation: Installation, browser: Chrome) -> None:
    """By id: the item beside its look-alikes, with pictures, scores and reasons, in the order of the call's answer."""
    page = Page(browser, installation, item=item_id(0))
    shown = page.shown()
    request = {"objectID": item_id(0), "maxRecommendations": 20}
    hits = json.loads(ask(installation, "/1/indexes/*/recommendations", request)[1])["hits"]

    assert shown == [hit["objectID"] for hit in hits]
    assert [item_id(0)] == page.texts("#source-card .id")
    # As pages round: by the digits that are written, halves up.
    scores = [Decimal(str(hit["_score"])).quantize(Decimal("0.1"), ROUND_HALF_UP) for hit in hits]
    assert [f"looks {score}".removesuffix(".0") for score in scores] == page.texts("#hits .scores span")
    assert len(page.texts("#hits details summary")) == len(hits)
    on_top = """const place = document.querySelector('#hits .rank'); place.scrollIntoView({ block: 'center' });
        const { x, y, width, height } = place.getBoundingClientRect();
        return document.elementFromPoint(x + width / 2, y + height / 2)?.textContent"""
    assert "1" == browser.execute_script(on_top), "its place is seen above its picture"
    assert any("looks like" in text for text in page.texts("#hits details li"))
    assert "ready" in page.texts("#health li")[0]
    page.until(lambda: any("catalog" in text for text in page.texts("#health li")), "how fresh it is")
    page.until(lambda: "track" in "".join(page.texts("#lag-rows")), "what waits")
    assert f"{ITEMS + 1}items in answers" in page.texts("#facts div")
    page.unharmed()


def test_a_shelf_to_pick_from(installation: Installation, browser: Chrome) -> None:
    """Without an item some of the catalog are shown; one is picked by keyboard or by chance, and remembered."""
    page = Page(browser, installation)
    shelf = page.shown()
    assert page.texts("#hits-title") == ["Pick an item"]

    browser.execute_script("document.querySelector('#hits .pick').focus()")
    browser.switch_to.active_element.send_keys("\ue007")  # Enter
    page.until(lambda: page.texts("#source-card .id") == shelf[:1], "the item that was picked")
    page.until(lambda: shelf[0] not in page.ids(), "its look-alikes")
    assert f"#{urlencode({'item': shelf[0]})}" in browser.current_url

    page.all("#random")[0].click()
    page.until(lambda: page.texts("#source-card .id")[0] != shelf[0] or page.ids(), "one by chance")
    browser.back()
    page.until(lambda: "/item" in "".join(page.texts("#source-card .id")) or page.ids(), "the one before")
    page.unharmed()


def test_a_mistake_in_a_filter_is_shown_where_it_is(installation: Installation, browser: Chrome) -> None:
    """The text from the mistake on is marked, the reason stands below it, and both go with the mistake."""
    page = Page(browser, installation, item=item_id(0))
    page.shown()
    box = page.all("#filters")[0]
    box.send_keys("price < 10 price > 3")
    page.until(lambda: page.texts("#filter-error mark") == ["price > 3"], "the mark")

    assert ["price < 10 price > 3"] == page.texts("#filter-error code")
    assert "expected AND or OR" in page.texts("#filter-error")[0]
    assert "true" == box.get_attribute("aria-invalid")
    assert page.ids(), "the answer before stays"

    box.clear()
    box.send_keys("price < 10")
    page.until(lambda: not page.all("#filter-error")[0].is_displayed() and len(page.ids()) == 9, "the filter's answer")
    assert "price < 10" in "".join(page.texts("#removed-rows"))
    page.unharmed()


def test_a_hostile_catalog_is_text(installation: Installation, browser: Chrome) -> None:
    """Titles, ids, attributes and rules that are markup stand there as text; no `javascript:` link is followed."""
    page = Page(browser, installation, item=EVIL_ID, contexts=EVIL)
    page.shown()

    assert [EVIL] == page.texts("#source-card .name")
    assert [EVIL_ID] == page.texts("#source-card .id")
    assert EVIL in page.texts("#source-card dt")
    page.until(lambda: EVIL in "".join(page.texts("#rules-list")), "the hostile rule")
    page.until(lambda: EVIL in page.texts("#about")[0], "the rule to be named, since it applies")
    assert "applied here" in "".join(page.texts(".rule.applies"))
    assert page.browser.execute_script("return document.querySelector('#source-card img').src").startswith("blob:")
    assert [] == [each for each in page.all("script, img") if "javascript" in (each.get_attribute("src") or "")]

    evil = Page(browser, installation, item=EVIL)
    evil.until(lambda: "is not known" in evil.texts("#problem")[0], "what is wrong")
    evil.unharmed()


def test_a_rule_is_seen_and_what_it_does(installation: Installation, browser: Chrome) -> None:
    """A page that stays open shows a rule that was written meanwhile, and its hits follow."""
    page = Page(browser, installation, item=item_id(1))
    first = page.shown()[0]
    rule = {"objectID": "hide-first", "description": "not this one", "consequence": {"hide": [{"objectID": first}]}}
    try:
        assert 200 == ask(installation, RULES + "batch", [rule])[0]
        page.until(lambda: first not in page.ids(), "the hit to go")
        page.until(lambda: "not this one" in "".join(page.texts(".rule.applies")), "the rule")
        named = [heading.removesuffix("applied here") for heading in page.texts(".rule h3")]
        assert ["default", "hide-first"] == [name for name in named if name in ("default", "hide-first")], "steers"
        assert "hide-first" in "".join(page.texts("#removed-rows"))
        page.until(lambda: "others: rule hide-first hide" in "".join(page.texts("#hits details li")), "why hits moved")
    finally:
        ask(installation, RULES + "batch?clearExistingRules=true", [])
    page.unharmed()


def test_keys(installation: Installation, browser: Chrome) -> None:
    """Without a key the page asks for one; with the search key it shows look-alikes and says what shows the rules."""
    page = Page(browser, installation, key="", item=item_id(0))
    page.until(lambda: page.all("#key-dialog")[0].is_displayed(), "the page to ask for a key")
    assert page.ids() == []

    page.all("#key")[0].send_keys("wrong\ue007")
    page.until(lambda: "Invalid" in page.texts("#key-why")[0], "the wrong key to be refused")
    page.all("#key")[0].clear()
    page.all("#key")[0].send_keys(SEARCH + "\ue007")
    page.shown()
    page.until(lambda: "admin key" in page.texts("#rules-about")[0], "what is missing")
    assert not page.all("#key-dialog")[0].is_displayed()
    assert SEARCH not in browser.current_url
    page.unharmed()


# Its pictures


def picture(installation: Installation, item: str, name: str | None = None, key: str = SEARCH) -> tuple[int, bytes]:
    query = "" if name is None else f"?name={quote(name, safe='')}"
    path = f"/1/indexes/items/looking-similar/picture/{quote(item, safe='')}{query}"
    return ask(installation, path, key=key)[:2]


def test_pictures_of_items(installation: Installation) -> None:
    """An item's own picture, by name or its first, as a small JPEG; nothing else, whatever is named."""
    hit = json.loads(
        ask(installation, "/1/indexes/*/recommendations", {"objectID": item_id(1), "maxRecommendations": ITEMS})[1]
    )["hits"]
    names = {each["objectID"]: each["_matchedImage"] for each in hit}

    status, jpeg = picture(installation, item_id(0), names[item_id(0)])
    assert (status, jpeg[:2]) == (200, b"\xff\xd8")
    assert decode(jpeg, 64).any()
    assert (200, jpeg) == picture(installation, item_id(0))
    assert names[EVIL_ID].startswith("data:")
    assert 200 == picture(installation, EVIL_ID, names[EVIL_ID])[0]

    others = ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd", names[item_id(2)], "javascript:window.harmed=4"]
    others += ["http://127.0.0.1:1/x.jpg", image_name("data:,x"), "\x00"]
    assert {404} == {picture(installation, item_id(0), name)[0] for name in others}
    assert 404 == picture(installation, "nobody")[0]
    assert 422 == picture(installation, EVIL_ID, "missing.jpg")[0]
    assert 403 == picture(installation, item_id(0), key="wrong")[0]
    assert 404 == ask(installation, f"/1/indexes/other/looking-similar/picture/{quote(item_id(0), safe='')}")[0]
