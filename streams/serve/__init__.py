"""The serve stage: requests answered from the shards, and what all who answer have in common."""
