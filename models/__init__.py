"""What an item is, looks like and is worth.  Knows no Kafka, no clock of its own, no global."""
