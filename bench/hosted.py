"""Contenders of the index in processes of their own, so that each has its memory and its clock for itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from typing import Any

from bench.contenders import CONTENDERS, Ids
from bench.meter import memory_bytes


class Host:
    """A contender in a process of its own."""

    def __init__(self, name: str, pipe: Pipe) -> None:
        self.name = name
        self._pipe = pipe

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method of the contender returns; raises what it raises."""
        self._pipe.send((method, arguments))
        found = self._pipe.recv()
        if isinstance(found, BaseException):
            raise found
        return found

    def timed(self, *arguments: Any) -> tuple[Ids, float]:
        """Answers of `search`, and the CPU seconds they took over there."""
        ids, seconds = self.call("timed", *arguments)
        return ids, seconds


@contextlib.contextmanager
def hosted(name: str) -> Iterator[Host]:
    """A process with a contender, ended at the end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(name, theirs), daemon=False)
    process.start()
    theirs.close()
    try:
        yield Host(name, ours)
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _serve(name: str, pipe: Pipe) -> None:
    contender = CONTENDERS[name]()
    begin_bytes = memory_bytes()
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if method == "memory":
                found: Any = memory_bytes() - begin_bytes
            elif method == "timed":
                begin = time.process_time()
                ids = contender.search(*arguments)
                found = (ids, time.process_time() - begin)
            else:
                found = getattr(contender, method)(*arguments)
        except Exception as error:
            found = error
        pipe.send(found)
