"""A process of the demo's: it runs a module of ours, hears no Ctrl-C of the terminal, and does not outlive the demo."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from streams.parent_death import dying_with_parent


def start_module(
    arguments: Sequence[str],
    *,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m` with these arguments, in a session of its own: a Ctrl-C is for the demo, which then ends it."""
    return subprocess.Popen(
        [*dying_with_parent(signal.SIGTERM), sys.executable, "-m", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def stop(child: subprocess.Popen[bytes], grace_s: float) -> bool:
    """Ask a child to end, and kill it when it has not after `grace_s`; whether it ended by itself."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return False
    return True
