"""Every metric once: its kind, what it counts, what to do when it moves.

One registry a worker, so that tests can run several in one process.  `/metrics` prints it.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streams.durations import Durations

REQUEST_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The metrics of one worker."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        self.events = Counter(
            "kindred_events", "Events handled, by stage and topic.", ["stage", "topic"], registry=registry
        )
        self.events_late = Counter(
            "kindred_stock_levels_late", "Levels that came after a newer one; they are ignored.", registry=registry
        )
        self.events_forwarded = Counter(
            "kindred_events_forwarded", "Events that were not at their home partition.", ["topic"], registry=registry
        )
        self.reasserted = Counter(
            "kindred_truths_reasserted",
            "Messages of a late writer that were overwritten again; more than a few: workers stall.",
            ["topic"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "kindred_dead_letters",
            "Events set aside; `kindred dead-letters` shows the reasons.",
            ["stage"],
            registry=registry,
        )
        self.alerts = Counter("kindred_alerts", "Alerts sent, by kind.", ["alert"], registry=registry)
        self.lag = Gauge(
            "kindred_lag",
            "Messages that wait, by stage and topic; it should return to 0.",
            ["stage", "topic"],
            registry=registry,
        )
        self.images = Counter(
            "kindred_images",
            "Images by outcome: embedded, known (same bytes seen before), carried, refused, unavailable.",
            ["outcome"],
            registry=registry,
        )
        self.embed_seconds = Histogram(
            "kindred_embed_seconds", "Seconds of a run of the model.", registry=registry, buckets=REQUEST_BUCKETS_S
        )
        self.image_requests_waiting = Gauge(
            "kindred_image_requests_waiting", "Image requests in work in this worker.", registry=registry
        )
        self.requests = Counter("kindred_requests", "Requests answered, by status.", ["status"], registry=registry)
        self.requests_expired = Counter(
            "kindred_requests_expired", "Requests dropped because their deadline had passed.", registry=registry
        )
        self.replies_lost = Counter(
            "kindred_replies_lost",
            "Replies to a topic or partition that does not exist or is not allowed; see the log for its name.",
            registry=registry,
        )
        self.request_seconds = Durations(
            "kindred_request_seconds",
            "Seconds from a request's timestamp to its reply being sent.",
            registry=registry,
            bounds_s=REQUEST_BUCKETS_S,
        )
        self.http_requests = Counter(
            "kindred_http_requests",
            "HTTP calls of the gateway, by call and status; 429: more was asked than KINDRED_HTTP_SHARE allows.",
            ["call", "status"],
            registry=registry,
        )
        self.http_seconds = Histogram(
            "kindred_http_seconds",
            "Seconds from an HTTP call's headers to its answer, by call.",
            ["call"],
            registry=registry,
            buckets=REQUEST_BUCKETS_S,
        )
        self.watches = Gauge("kindred_watches", "Lists that this worker watches.", registry=registry)
        self.watches_waiting = Gauge(
            "kindred_watches_waiting", "Watched lists that are to be asked again.", registry=registry
        )
        self.watch_asks = Counter("kindred_watch_asks", "Watched lists that were asked again.", registry=registry)
        self.watch_pushes = Counter(
            "kindred_watch_pushes",
            "Lists written to similar-changes, by what changed them.",
            ["event"],
            registry=registry,
        )
        self.watch_seconds = Histogram(
            "kindred_watch_seconds",
            "Seconds from a change being seen to its list being acknowledged.",
            registry=registry,
            buckets=REQUEST_BUCKETS_S,
        )
        self.shard_items = Gauge("kindred_shard_items", "Items that can be recommended.", ["shard"], registry=registry)
        self.shard_rows = Gauge("kindred_shard_rows", "Vectors by place.", ["shard", "place"], registry=registry)
        self.seals = Gauge(
            "kindred_shard_seals",
            "Segments since the start by what became of them: seals, merges, seal_failures; the last should stay 0.",
            ["shard", "kind"],
            registry=registry,
        )
        self.checkpoints = Counter("kindred_checkpoints", "Checkpoints written.", ["shard"], registry=registry)
        self.checkpoint_failures = Counter(
            "kindred_checkpoint_failures",
            "Checkpoints that could not be written: is the disk of KINDRED_DATA full?",
            ["shard"],
            registry=registry,
        )
        self.rules = Gauge("kindred_rules", "Rules in force.", registry=registry)
        self.ready = Gauge("kindred_ready", "1 when the worker answers from complete shards.", registry=registry)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)
