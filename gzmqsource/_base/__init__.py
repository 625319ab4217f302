"""Waiting without a socket, and what greenlets share with native threads and forked children."""
