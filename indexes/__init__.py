"""Where an item is found: shards, segments, columns, checkpoints.  Knows no Kafka."""
