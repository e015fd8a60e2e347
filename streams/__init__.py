"""When things happen: topics, stages, worker, commands.  The only place that knows Kafka."""
