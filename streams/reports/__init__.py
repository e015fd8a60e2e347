"""What commands show: read from the topics, written as tables, sheets and lines."""
