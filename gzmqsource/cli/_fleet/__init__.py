"""``serve --workers``: a master that holds the endpoint, and processes that answer for it."""
