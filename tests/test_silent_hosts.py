"""Hosts that do not answer: when they are left alone, how long, and what ends it.  A clock of its own, no network."""

from __future__ import annotations

import itertools

import pytest

from models.errors import BadEvent, Unavailable
from streams.embed.silent_hosts import HOSTS_MAX, REST_S_MAX, SILENCES_MAX, HostRests, HostSilent, SilentHosts

REST_S = 10.0


class Hosts(SilentHosts):
    """With a clock that a test moves."""

    def __init__(self, rest_s: float = REST_S) -> None:
        self.now = 1000.0
        super().__init__(rest_s, lambda: self.now)

    def ask(self, host: str = "shop.test:80", outcome: Exception | None = None) -> None:
        with self.asking(host):
            if outcome:
                raise outcome

    def silence(self, times: int = 1, host: str = "shop.test:80") -> None:
        for _ in range(times):
            with pytest.raises(HostSilent):
                self.ask(host, HostSilent("nothing came"))

    def rests_s(self, host: str = "shop.test:80") -> float:
        """For how long it is not asked."""
        with pytest.raises(HostRests) as refused:
            self.ask(host)
        return refused.value.retry_after_s or 0.0


def test_only_silences_in_a_row_count() -> None:
    """An answer of any kind begins anew: a picture, a refusal, an error of the host's."""
    hosts = Hosts()
    for answer in (None, BadEvent("not found"), Unavailable("a fault")):
        hosts.silence(SILENCES_MAX - 1)
        if answer:
            with pytest.raises(type(answer)):
                hosts.ask(outcome=answer)
        else:
            hosts.ask()

    hosts.silence(SILENCES_MAX)

    assert hosts.rests_s() == REST_S


def test_others_are_asked_meanwhile() -> None:
    """A host is told by its name and port."""
    hosts = Hosts()
    hosts.silence(SILENCES_MAX)

    hosts.ask("other.test:80")
    hosts.ask("shop.test:8080")


def test_one_tries_it_after_its_rest() -> None:
    """The others are told to come again when it is known what came of that."""
    hosts = Hosts()
    hosts.silence(SILENCES_MAX)
    hosts.now += REST_S

    with hosts.asking("shop.test:80"):
        hosts.now += REST_S / 2
        assert hosts.rests_s() == REST_S / 2

    hosts.ask()


def test_those_turned_away_do_not_come_at_once() -> None:
    """The first comes when the rest is over, the others spread over as long again, however many they are."""
    hosts = Hosts()
    hosts.silence(SILENCES_MAX)
    for _ in range(2):
        rest_s = hosts.rests_s()
        for count in (10, 100, 1_000):
            moments = sorted(hosts.rests_s() for _ in range(count))
            pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]

            assert rest_s < moments[0] < rest_s * (1 + 2 / count)
            assert rest_s * (2 - 3 / count) < moments[-1] < 2 * rest_s
            assert max(pauses) < 2 * rest_s / count

        hosts.now += rest_s
        hosts.silence()


def test_rests_grow_up_to_a_bound_until_it_answers() -> None:
    """A host that is away for long is tried once a minute; one that was back begins anew."""
    hosts = Hosts()
    hosts.silence(SILENCES_MAX)
    rests = [hosts.rests_s()]
    while rests[-1] < REST_S_MAX:
        hosts.now += rests[-1]
        hosts.silence()
        rests.append(hosts.rests_s())
    assert rests == [10, 20, 40, 60]

    hosts.now += REST_S_MAX
    hosts.ask()
    hosts.silence(SILENCES_MAX)

    assert hosts.rests_s() == REST_S


def test_a_try_that_was_broken_off_says_nothing() -> None:
    """It is tried again when its answer would have been there."""
    hosts = Hosts()
    hosts.silence(SILENCES_MAX)
    hosts.now += REST_S
    with pytest.raises(KeyboardInterrupt), hosts.asking("shop.test:80"):
        raise KeyboardInterrupt

    assert hosts.rests_s() == REST_S
    hosts.now += REST_S
    hosts.ask()
    hosts.ask()


def test_as_many_hosts_as_are_known_at_most() -> None:
    """The one that was silent first is forgotten first."""
    hosts = Hosts()
    hosts.silence(SILENCES_MAX)
    for number in range(HOSTS_MAX):
        hosts.silence(host=f"{number}.test:80")

    hosts.ask()
