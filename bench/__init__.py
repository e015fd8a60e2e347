"""Benchmarks: every part of Kindred beside the barest thing that could do its work, in the same run."""
