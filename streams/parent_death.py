"""Child processes that do not outlive the one that started them, however that ended."""

from __future__ import annotations

import shutil
import threading
from signal import Signals


def dying_with_parent(number: Signals) -> list[str]:
    """A prefix for a child's command that has the kernel send it this signal when its starter is gone.

    Empty where there is no `setpriv`.  The kernel means the starting *thread*, so it is empty off the main thread, too.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG")]
