"""The HTTP gateway: what Algolia's own clients ask, answered without Kafka."""
