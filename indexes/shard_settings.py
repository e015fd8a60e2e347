"""What a shard is told once: dimension, model and the thresholds of its policies.

Every threshold that the policies of `compaction.py` and `query_plan.py` compare with is here, so that tests run the
whole life of a shard with a few dozen rows.  Defaults are for 128 dimensions on one core; where they come from is said
beside them.
"""

from __future__ import annotations

import msgspec


class ShardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one shard; ValueError if one is out of its bounds."""

    dimension: int
    """Numbers of a vector, its colour's included."""
    colour: int = 0
    """How many of the last of them are its colour's (`models/parts.py`)."""
    colour_weight: float = 0.0
    """What colour counts beside the look, 0..1, unless a request says otherwise."""
    model: str
    """Model id that every embedding must carry."""
    low_stock_at: float = 5.0
    """An item runs low at or below it, unless its record says otherwise."""

    delta_rows_max: int = 40_000
    """Rows in the delta that make it due for sealing, or `segment_rows_min` if that is more."""
    segment_rows_min: int = 30_000
    """A segment with fewer live rows goes back into the delta: scanning so many exactly is as quick as trees are."""
    segments_max: int = 2
    """Segments on the path of a query."""
    merge_ratio: float = 0.5
    """Two segments become one when the smaller has this share of the larger's rows, or more."""
    tombstones_max: float = 0.3
    """Share of a segment's rows that may be dead before it is written anew."""
    mean_distance_max: float = 0.15
    """How far the catalog's mean may move from the one a segment was built with before it is built anew."""

    trees: int = 24
    """Trees of a segment's Annoy file."""
    search_k: int = 12_000
    """Nodes that Annoy inspects, at least; its own default finds about half of the nearest."""
    seed: int = 1
    """Of Annoy's random splits."""
    oversample: float = 4.0
    """Candidates that a segment is asked for, per hit that is wanted."""

    exact_share: float = 0.03
    """Below this share of matching rows an exact scan of them wins over Annoy."""
    exact_rows: int = 2_000
    """So many matching rows are always scanned exactly."""

    seal_retry_ms: int = 10_000
    """After sealing failed, it is tried again so much later."""
    clock_margin_ms: int = 600_000
    """How far clocks may be apart, plus the time to replay, when the age of a checkpoint is judged."""
    nice: int = 10
    """Added to the priority number of the sealing process: it must not take time from answers."""

    def __post_init__(self) -> None:
        low = {"dimension": 1, "delta_rows_max": 1, "segment_rows_min": 1, "segments_max": 1, "trees": 1, "search_k": 1}
        low |= {"oversample": 1, "exact_rows": 0, "clock_margin_ms": 0, "nice": 0, "mean_distance_max": 0}
        for name, bound in low.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {bound}")
        for name in ("merge_ratio", "tombstones_max", "exact_share", "colour_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")
        if not 0 <= self.colour < self.dimension:
            raise ValueError(f"colour is {self.colour}, expected 0 or more, and less than dimension {self.dimension}")
        if not self.model:
            raise ValueError("model is empty, expected the id of the model that the vectors come from")
