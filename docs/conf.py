"""Sphinx' settings."""

from sphinx.pycode import ModuleAnalyzer

from gzmqsource import __version__

project = "gzmqsource"
author = "the gzmqsource project's maintainers"
project_copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
# What docstrings put between single backticks is Python.
default_role = "py:obj"
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"gzmqsource {release}"


def find_comments(public: str, *private: str) -> None:
    """Have autodoc find the comments of attributes of classes that say their public module.

    It looks for them in the source of that module, and the classes are written in private ones.
    """
    analyzer = ModuleAnalyzer.for_module(public)
    analyzer.analyze()
    for name in private:
        written = ModuleAnalyzer.for_module(f"{public}.{name}")
        written.analyze()
        analyzer.attr_docs |= written.attr_docs
        analyzer.tagorder |= written.tagorder


find_comments("gzmqsource", "_source.sender", "_source.source", "_source.stats")
find_comments("gzmqsource.green", "_context", "_device", "_poll", "_socket", "_tracker")
find_comments("gzmqsource.workers", "_server", "requester", "responder")
find_comments("gzmqsource.broker", "broker")
