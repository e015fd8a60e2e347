"""The embed stage: pictures fetched, and vectors made of them."""
