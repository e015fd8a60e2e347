"""A process of the demo's: it runs a module of ours, hears no Ctrl-C of the terminal, and does not outlive the demo."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO


def start_module(
    arguments: Sequence[str],
    *,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m` with these arguments, in a session of its own: a Ctrl-C is for the demo, which then ends it."""
    return subprocess.Popen(
        [*_dying_with_parent(), sys.executable, "-m", *arguments],
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


def _dying_with_parent() -> Sequence[str]:
    """A prefix that has the kernel stop the child when the demo is gone, however that ended.

    The kernel means the starting *thread*, so this holds for the main thread only.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", "TERM"]
