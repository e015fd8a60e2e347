"""Brokers to start: an embedded one with nothing to install, and Apache Kafka without Docker."""
