"""The console, `GET /`: one page for who steers the look-alikes and for who is on call.

It is text alone: what it shows it asks over the documented calls, with a key that whoever looks at it types in.  Its
style and script stand in it; a content policy names them by their hashes, so that nothing else runs or is loaded, also
where a title of the catalog tries.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from aiohttp import web

from streams.web.server import Web

PAGES = Path(__file__).with_name("pages")


class Console:
    """The page and its headers, put together once."""

    def __init__(self) -> None:
        style, page = ((PAGES / name).read_text(encoding="utf-8") for name in ("console.css", "console.html"))
        parts = sorted(PAGES.glob("console-*.js"))  # one after the other they are one module
        script = "\n".join(part.read_text(encoding="utf-8") for part in parts)
        self._body = page.replace("/* style */", style).replace("/* script */", script).encode()
        policy = {
            "default-src": "'none'",
            "style-src": _hash(style),
            "script-src": _hash(script),
            "connect-src": "'self'",
            "img-src": "https: http: data: blob:",  # links of the catalog; blob: are those that a call gave
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        self.headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
            "Server": "kindred",
        }

    def register(self, web: Web) -> None:
        """Add the page to the web server."""
        web.add("GET", "/", self.page)

    async def page(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """The page; it tells nothing of the catalog, so it wants no key."""
        return web.Response(body=self._body, headers=self.headers)


def _hash(text: str) -> str:
    """How a content policy names an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
