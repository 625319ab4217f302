"""The handler that the deployments beside this file serve."""

from __future__ import annotations


def answer(request: list[bytes]) -> list[bytes]:
    """Reply with a greeting."""
    return [b"hello", *request]
