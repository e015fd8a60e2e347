"""HTTP answers as Algolia's clients parse them: always JSON, errors as `{"message", "status"}`, packed where asked."""

from __future__ import annotations

import math
import zlib
from typing import Any

import orjson
from aiohttp import web

from models.errors import BadRequest, KindredError, Unavailable

GZIP_BYTES_MIN = 1_000
GZIP_LEVEL = 1
"""A third of the time of the usual 6, for answers 10 to 20 % larger."""
JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8", "Server": "kindred"}


class Overloaded(Unavailable):
    """More was asked than there is room for: 429, and to come again in a second."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=1.0)


def json_answer(request: web.BaseRequest, body: bytes | dict[str, Any] | list[Any], status: int = 200) -> web.Response:
    """An answer of JSON bytes, or of what becomes JSON."""
    if not isinstance(body, bytes):
        body = orjson.dumps(body)
    headers = JSON_HEADERS
    if len(body) >= GZIP_BYTES_MIN:
        headers = JSON_HEADERS | {"Vary": "Accept-Encoding"}
        if _takes_gzip(request.headers.get("Accept-Encoding", "")):
            packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, status=status, headers=headers)


def error_answer(message: str, status: int, retry_after_s: float | None = None) -> web.Response:
    """`{"message", "status"}`: what people see is the message."""
    headers = JSON_HEADERS
    if retry_after_s is not None:
        headers = JSON_HEADERS | {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    return web.Response(body=orjson.dumps({"message": message, "status": status}), status=status, headers=headers)


def answer_to(error: KindredError) -> web.Response:
    """The answer that says an error: the caller's is 4xx, ours that may pass 503, too much at once 429."""
    if isinstance(error, BadRequest):
        return error_answer(str(error), error.status)
    if isinstance(error, Overloaded):
        return error_answer(str(error), 429, error.retry_after_s)
    return error_answer(str(error), 503, 1)


def _takes_gzip(accepted: str) -> bool:
    """Whether `Accept-Encoding` names gzip, or everything, with a weight above 0."""
    if "gzip" not in accepted and "*" not in accepted:
        return False
    weights: dict[str, float] = {}
    for part in accepted.split(","):
        name, _, weight = part.partition(";")
        try:
            weights[name.strip().lower()] = float(weight.partition("=")[2]) if weight else 1.0
        except ValueError:
            weights[name.strip().lower()] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0
