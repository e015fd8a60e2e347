"""The index stage: the truths turned into shards."""
