"""Sphinx' settings."""

from importlib import metadata

project = "gzmqsource"
author = "the gzmqsource team"
project_copyright = f"2026, {author}"
release = version = metadata.version("gzmqsource")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
# What docstrings put between single backticks is Python.
default_role = "py:obj"
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "inherited-members": False}
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"gzmqsource {release}"
