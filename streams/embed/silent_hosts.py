"""Hosts that let fetches run into their time limit: after some in a row such a host is left alone for a while.

A fetch that waits for a silent host has a place among those in work for as long as a fetch may take.  Without this a
few hundred pictures of one dead host keep those of all others waiting for minutes.

* A host that rests is not asked: `HostRests`, at once, which says when to come again.
* After its rest one fetch tries it.  The others come again when it is known what came of that: the first that was told
  so at the end of the rest, and all further ones spread over as long a time again, so that they do not come at once.
* An answer of any kind, an error too, ends it.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from models.errors import BadEvent, Unavailable

SILENCES_MAX = 8
"""In a row; as many as are asked of one host at once."""
REST_S_MAX = 60.0
"""So long a host that is back may go unnoticed."""
HOSTS_MAX = 10_000
"""The one that was silent first is forgotten first."""
SPREAD = (math.sqrt(5) - 1) / 2
"""The golden ratio: fractions of its multiples lie about evenly between 0 and 1, however many they are."""


class HostSilent(Unavailable):
    """A fetch that ran into its time limit."""


class HostRests(Unavailable):
    """A host that was not asked, because it has not answered lately."""


@dataclass
class _Host:
    silences: int = 0
    rest_s: float = 0.0
    until: float = 0.0
    turned_away: int = 0
    """Fetches that were told to come again, in this rest."""


class SilentHosts:
    """What is known of hosts that did not answer lately, by name and port."""

    def __init__(self, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`rest_s`: of the first rest, and as long as it may take to try a host; later rests are twice as long."""
        self._first_rest_s = min(rest_s, REST_S_MAX)
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    @contextmanager
    def asking(self, host: str, whole: bool = True) -> Iterator[None]:
        """Around one fetch.  HostRests: it must not begin.

        `whole`: it has its time for itself; else most of that went to hosts before it, and silence says nothing of it.
        """
        if known := self._hosts.get(host):
            left_s = known.until - self._clock()
            if left_s > 0:
                again_s = left_s + known.turned_away * SPREAD % 1 * known.rest_s
                known.turned_away += 1
                raise HostRests(f"{host} has not answered lately, and is not asked for {left_s:.0f} s", again_s)
            if known.rest_s:
                known.until = self._clock() + self._first_rest_s
        try:
            yield
        except HostSilent:
            if whole:
                self._silent(host)
            raise
        except (BadEvent, Unavailable):
            self._hosts.pop(host, None)
            raise
        self._hosts.pop(host, None)

    def _silent(self, host: str) -> None:
        known = self._hosts.setdefault(host, _Host())
        known.silences += 1
        if known.silences >= SILENCES_MAX:
            known.rest_s = min(2 * known.rest_s or self._first_rest_s, REST_S_MAX)
            known.until = self._clock() + known.rest_s
            known.turned_away = 0
        if len(self._hosts) > HOSTS_MAX:
            self._hosts.popitem(last=False)
