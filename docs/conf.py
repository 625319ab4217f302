"""Sphinx' settings."""

import pkgutil
import sys
from importlib import import_module
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from gzmqsource import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))
import definitions
import scrolling
import signatures

project = "gzmqsource"
author = "the gzmqsource project's maintainers"
project_copyright = f"2026, {author}"
release = version = __version__

REPOSITORY = "https://github.com/gzmqsource/gzmqsource"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
# What docstrings put between single backticks is Python.
default_role = "py:obj"
nitpicky = True
nitpick_ignore = [
    # Without pages that can be linked to.
    ("py:class", "prometheus_client.CollectorRegistry"),
    ("py:class", "prometheus_client.metrics_core.Metric"),
    ("py:class", "prometheus_client.registry.CollectorRegistry"),
    # pyzmq's docstrings and signatures, of methods that green.Socket only wraps.
    ("py:class", "C.int"),
    ("py:exc", "ZMQBindError"),
    ("py:obj", "_poller_class"),
    ("py:obj", "destroy"),
    ("py:obj", "max_tries"),
    ("py:obj", "socket.last_endpoint"),
    ("py:obj", "zmq_poller_fd"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = True
napoleon_type_aliases = {
    "Source": "gzmqsource.Source",
    "callable": ":term:`callable`",
    "iterable": ":term:`iterable`",
    "iterator": ":term:`iterator`",
    "mapping": ":term:`mapping`",
    "sequence": ":term:`sequence`",
}

# The names that are linked to, in files of this repository: the pages are built without a network.
# checks/inventories.py writes them.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.inv"),
    "gevent": ("https://www.gevent.org", "inventories/gevent.inv"),
    "pyzmq": ("https://pyzmq.readthedocs.io/en/latest", "inventories/pyzmq.inv"),
    "opentelemetry": (
        "https://opentelemetry-python.readthedocs.io/en/latest",
        "inventories/opentelemetry.inv",
    ),
}

# What a reader types, without what the shell or Python prints before it.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# For `make links`. A tag is there after its release, pictures link to pages that the check does not
# build, and no server is on the examples' ports.
linkcheck_ignore = [rf"{REPOSITORY}/blob/v", r"\w+\.html$", r"https?://(127\.0\.0\.1|localhost)"]
linkcheck_timeout = 20

html_theme = "furo"
html_title = f"gzmqsource {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
# furo's own underlines the names of modules.
pygments_dark_style = "github-dark"


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Return the address of the lines that define an object, in the repository at this release."""
    if domain != "py" or not info["module"]:
        return None
    found = definitions.find(info["module"], info["fullname"])
    return None if found is None else f"{REPOSITORY}/blob/v{release}/{found}"


def find_comments(public: str, folder: str) -> None:
    """Have autodoc find the comments of attributes of classes that say their public module.

    It looks for them in the source of that module, and the classes are written in the modules of a
    private folder, or in private modules beside it. Constructors are shown without overloads.
    """
    analyzer = ModuleAnalyzer.for_module(public)
    analyzer.analyze()
    package = import_module(folder)
    for module in pkgutil.iter_modules(package.__path__, f"{folder}."):
        if module.name.endswith(".native"):
            continue  # an extension, without public names
        written = ModuleAnalyzer.for_module(module.name)
        written.analyze()
        for constructor in [
            name for name in written.overloads if name.endswith((".open", ".join"))
        ]:
            # One signature says more: they differ in what type checkers infer from some arguments.
            del written.overloads[constructor]
        analyzer.attr_docs |= written.attr_docs
        analyzer.tagorder |= written.tagorder


find_comments("gzmqsource", "gzmqsource._source")
for name in "gzmqsource.green", "gzmqsource.workers", "gzmqsource.broker":
    find_comments(name, name)


def setup(app: Sphinx) -> None:
    """Connect what the pages have of their own."""
    app.connect("missing-reference", signatures.resolve)
    app.connect("doctree-resolved", scrolling.wrap)
