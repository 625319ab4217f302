"""Boxes in which diagrams and screens of a terminal scroll on a narrow page."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx


def wrap(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put each picture of docs/pictures/ into a box. Those of docs/benchmarks/ are narrow."""
    for image in list(doctree.findall(nodes.image)):
        if image["uri"].startswith("pictures/"):
            box = nodes.container("", image.copy(), classes=["picture"])
            image.replace_self(box)
