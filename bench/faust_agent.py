"""Baseline of the track stage: a plain Faust agent that keeps stock levels in a table.

`python -m bench.faust_agent JSON`.  With linger 0 it is what the first page of Faust's documentation shows; `linger_s`
is the one setting that helps it most.  It tells events, wall and CPU seconds, without those of the warm-up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import faust
from faust.worker import Worker

from bench.bare import tell
from streams.connection import REQUEST_BYTES_MAX

WARM_UP = 500


def run(broker: str, app_id: str, topic: str, partitions: int, events: int, linger_s: float, folder: str) -> None:
    """Handle `events` events, then end."""
    app = faust.App(
        app_id,
        broker=f"kafka://{broker}",
        store="memory://",
        datadir=folder,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=REQUEST_BYTES_MAX,
        producer_linger=linger_s,
        web_enabled=False,
        broker_session_timeout=30.0,
        broker_heartbeat_interval=3.0,
    )
    levels = app.Table("levels", partitions=partitions, default=float)
    changes = app.topic(topic, key_type=str, value_type=bytes, key_serializer="raw", value_serializer="json")
    seen, wall_s, cpu_s = 0, 0.0, 0.0

    @app.agent(changes)
    async def keep(stream: faust.StreamT) -> None:
        nonlocal seen, wall_s, cpu_s
        async for item_id, change in stream.items():
            levels[item_id] = change["quantity"]
            seen += 1
            if seen == WARM_UP:
                wall_s, cpu_s = time.perf_counter(), time.process_time()
            if seen == events:
                tell(
                    events=events - WARM_UP,
                    wall_s=time.perf_counter() - wall_s,
                    cpu_s=time.process_time() - cpu_s,
                )
                os.kill(os.getpid(), signal.SIGTERM)

    worker = Worker(app, loglevel="warn", quiet=True, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))
