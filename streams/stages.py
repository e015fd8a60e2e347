"""The stages that a worker runs: all of them, or those that `--stage` names."""

STAGES = ("track", "embed", "index", "serve")
