"""Rules tried on recorded requests before they are published: the call, who asks it, and what it came to."""
