"""Kafka read and written: batches of events, compacted topics, messages on their way out, Faust's shell."""
