"""What becomes of requests when servers stop, stick and die, and callers leave."""
