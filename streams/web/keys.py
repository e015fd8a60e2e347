"""Who may do what over HTTP: the search key reads, the admin key reads and writes.

As Algolia's clients send it, the key is a header or a query parameter, `x-algolia-api-key`; both are public names.  The
application id is not looked at.  Without any key configured, which is allowed on loopback only, everything is open, but
a page of another site that a browser on this machine happens to show may not write.
"""

from __future__ import annotations

import hmac

from aiohttp import web

from models.errors import BadRequest
from streams.settings import Settings
from streams.web.cors import from_loopback

KEY = "x-algolia-api-key"


class Keys:
    """The keys of one worker.  Each check raises BadRequest 403."""

    def __init__(self, settings: Settings) -> None:
        self._admin = settings.admin_key.encode() if settings.admin_key else None
        search = settings.search_key.encode() if settings.search_key else None
        self._readers = [key for key in (search, self._admin) if key]
        self._loopback = settings.web_is_loopback

    def check_read(self, request: web.BaseRequest) -> None:
        """Either key."""
        if self._readers and not _is_one_of(_key(request), self._readers):
            raise _unknown()

    def check_rules(self, request: web.BaseRequest) -> None:
        """The admin key: rules are the merchant's, and the search key is in every visitor's browser."""
        if not self._readers:
            origin = request.headers.get("Origin")
            if origin is not None and not from_loopback(origin):
                raise BadRequest(
                    f"a page of {origin[:100]} may not touch rules while no key is set: set KINDRED_ADMIN_KEY", 403
                )
            return
        key = _key(request)
        if self._admin is None or not _is_one_of(key, [self._admin]):
            if _is_one_of(key, self._readers):
                raise BadRequest("this API key may not touch rules: the admin key may (KINDRED_ADMIN_KEY)", 403)
            raise _unknown()

    def check_page(self, request: web.BaseRequest) -> None:
        """Nothing on loopback; elsewhere the admin key, which may also be a bearer token, as Prometheus sends one."""
        if self._loopback:
            return
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if self._admin is None or not _is_one_of(bearer or _key(request), [self._admin]):
            raise BadRequest("this page wants the admin key: x-algolia-api-key, or Authorization: Bearer", 403)


def _unknown() -> BadRequest:
    return BadRequest("Invalid Application-ID or API key", 403)


def _key(request: web.BaseRequest) -> str:
    return request.headers.get(KEY) or request.rel_url.query.get(KEY) or ""


def _is_one_of(key: str, known: list[bytes]) -> bool:
    """Compared in a time that does not tell how much of it was right."""
    given = key.encode("utf-8", "surrogateescape")
    return any(hmac.compare_digest(given, one) for one in known)
