"""The built pages, for the tests that read them."""

import html
import os
import pathlib
import re
import subprocess
import sys

PROJECT = pathlib.Path(__file__).parent.parent

#: Where a page's own text is, without the navigation around it.
_ARTICLE = re.compile(r'<article role="main"[^>]*>(.*?)</article>', re.DOTALL)

#: Sphinx, and no collector, which takes 10 s to go through the trees of all pages again and again.
SPHINX = """
import gc, sys
gc.disable()
from sphinx.cmd.build import main
sys.exit(main(sys.argv[1:]))
"""


class Pages:
    """The pages as a reader gets them, in a directory of their own."""

    def __init__(self, directory):
        command = [sys.executable, "-c", SPHINX, "-W", "--keep-going", "-q", "-b", "html"]
        #: The process that has built them.
        self.built = subprocess.run(
            [*command, PROJECT / "docs", directory], capture_output=True, text=True, check=False
        )
        self.directory = directory

    def __iter__(self):
        for path in sorted(self.directory.rglob("*.html")):
            if not path.name.startswith(("genindex", "search", "py-modindex")):
                yield str(path.relative_to(self.directory))

    def article(self, name):
        """Return what is on a page, as HTML."""
        found = _ARTICLE.search((self.directory / name).read_text())
        assert found is not None, name
        return found[1]

    def links(self, name):
        """Return the addresses that a page's own text links to."""
        return [html.unescape(link) for link in re.findall(r'href="([^"]+)"', self.article(name))]

    def anchors(self, name):
        """Return what can be linked to on a page."""
        return set(re.findall(r'\bid="([^"]+)"', (self.directory / name).read_text()))

    def inventory(self):
        """Return what the pages document, by kind: the name, and the address."""
        from sphinx.util.inventory import InventoryFile

        with (self.directory / "objects.inv").open("rb") as file:
            return InventoryFile.load(file, "", os.path.join)
