"""The demo: a catalog of drawn pictures, a tour over the topics, and a page that shows it."""
