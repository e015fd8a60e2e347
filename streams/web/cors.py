"""What browsers ask for before they show a page the answer of another origin.

Algolia's clients send no cookies, so every origin may read; the key is what protects.  Easy to get wrong: errors need
the header too, or the page sees "unreachable" in place of the message, and a preflight carries no key.
"""

from __future__ import annotations

import re

from aiohttp import web

ANY_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After",
}
"""On every answer, also on errors."""

METHODS = "GET, POST, PUT, DELETE, OPTIONS"
HEADERS = "x-algolia-api-key, x-algolia-application-id, x-algolia-agent, content-type, content-encoding"
AGE_S_MAX = 7_200
"""How long a browser may remember a preflight; Chromium remembers none for longer."""

_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


def preflight(request: web.BaseRequest) -> web.Response:
    """The answer to OPTIONS: whatever headers the page wants to send it may send."""
    asked = request.headers.get("Access-Control-Request-Headers", "")
    return web.Response(
        status=204,
        headers=ANY_ORIGIN
        | {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": asked if _NAMES.fullmatch(asked) else HEADERS,
            "Access-Control-Max-Age": str(AGE_S_MAX),
            "Vary": "Access-Control-Request-Headers",
        },
    )


def from_loopback(origin: str) -> bool:
    """Whether a page of this origin came from this machine."""
    return bool(re.fullmatch(r"https?://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", origin))
