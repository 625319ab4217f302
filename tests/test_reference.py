"""The built pages: no warning, no dead link, and a reference that holds every public name."""

import ast
import importlib
import inspect
import pkgutil
import posixpath
import re
from collections import defaultdict

import click
import inventories
import pytest
from optional import needs
from pages import PROJECT, Pages

import gzmqsource

pytestmark = [
    pytest.mark.once,
    pytest.mark.limit(300),
    needs("sphinx", "furo", "sphinx_click", "sphinx_copybutton", "sphinx_design", extra="docs"),
]

#: Objects of these classes come from calls of others.
MADE_HERE = {"Request", "Sender", "Stats"}

#: What a page defines, by its name.
DEFINITION = re.compile(r'<dt [^>]*id="(gzmqsource\.[\w.]+)">(.*?)</dt>', re.DOTALL)

SOURCES = "https://github.com/gzmqsource/gzmqsource/blob/"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return Pages(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def reference(pages):
    """The Python names that the pages document."""
    kinds = pages.inventory().items()
    return {name for kind, names in kinds if kind.startswith("py:") for name in names}


def public_modules():
    """Return the names of the modules that have a public path; the command is not for imports."""
    found = [gzmqsource.__name__]
    for module in pkgutil.walk_packages(gzmqsource.__path__, "gzmqsource."):
        if "._" not in module.name and not module.name.startswith("gzmqsource.cli"):
            found.append(module.name)
    return [name for name in found if hasattr(importlib.import_module(name), "__all__")]


def public_objects():
    """Return the objects that public modules export, each with all its names."""
    names = defaultdict(set)
    for public in map(importlib.import_module, public_modules()):
        # The drop-in's other names are pyzmq's.
        for name in getattr(public, "REPLACED", public.__all__):
            full_name = f"{public.__name__}.{name}"
            value = getattr(public, name)
            is_named = isinstance(value, type) or inspect.isfunction(value)
            names[value if is_named else full_name].add(full_name)
    return names


def public_members(cls):
    """Return the names of what this package defines in a class and its bases, for its users."""
    return {
        name
        for base in cls.__mro__
        if base.__module__.startswith("gzmqsource")
        for name in {*vars(base), *inspect.get_annotations(base)}
        if not name.startswith("_") or name == "__iter__"
    }


def public_classes():
    return [each for each in public_objects() if isinstance(each, type)]


def test_the_pages_build_without_a_warning(pages):
    assert (pages.built.returncode, pages.built.stderr) == (0, "")


def test_the_reference_holds_every_public_name(reference):
    missing = []
    objects = public_objects()
    for value, names in list(objects.items()):
        if not names & reference:
            missing.append(min(names))
        elif isinstance(value, type):
            owners = set().union(*(objects.get(cls, ()) for cls in value.__mro__))
            for member in public_members(value):
                if not any(f"{owner}.{member}" in reference for owner in owners):
                    missing.append(f"{min(names)}.{member}")
    assert missing == []
    source = {"recv", "recv_many", "__iter__", "handle", "send", "stop", "stats", "max_batch"}
    assert {f"gzmqsource.Source.{name}" for name in source} <= reference


def test_the_reference_describes_every_field_of_a_snapshot(pages, reference):
    snapshots = [cls for cls in public_classes() if cls.__name__.endswith(("Stats", "Event"))]
    assert len(snapshots) >= 9
    for cls in snapshots:
        for field in inspect.get_annotations(cls):
            assert f"{cls.__module__}.{cls.__name__}.{field}" in reference
    for page in pages:  # what Python says of a field without a description
        assert "Alias for field number" not in pages.article(page)


def test_the_reference_names_nothing_private(pages, reference):
    classes = {
        node.name
        for path in (PROJECT / "gzmqsource").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    elsewhere = {each.name for name in inventories.NAMES for each in inventories.entries(name)}
    known = {name.rpartition(".")[2] for name in elsewhere} | set(pages.inventory()["py:type"])
    private = classes - {cls.__name__ for cls in public_classes()} - known
    words = re.compile(rf"gzmqsource[.\w]*\._\w+|(?<![.\w])(?:{'|'.join(private)})\b")
    found = set()
    for page in pages:
        if page.startswith("api/"):
            for code in re.findall(r"<(code|dt)\b.*?>(.*?)</\1>", pages.article(page), re.DOTALL):
                found.update(words.findall(re.sub("<.*?>", "", code[1])))
    assert found == set()
    assert not [name for name in reference if "._" in name.replace(".__iter__", "")]


def test_each_module_has_a_heading_and_is_in_the_overview(pages):
    documented = pages.inventory()["py:module"]
    overview = pages.article("api/index.html")
    for module in public_modules():
        page, _, anchor = documented[module].uri.partition("#")
        assert re.search(rf"<h2>{re.escape(module)}<", pages.article(page)), module
        assert f"{posixpath.relpath(page, 'api')}#{anchor}" in overview, module


def parameters_of(docstring):
    """Return the names in the section of the parameters."""
    section = re.search(r"\n *Parameters\n *-+\n(.*?)(\n\n *\w+\n *-+\n|\Z)", docstring, re.DOTALL)
    lines = [] if section is None else inspect.cleandoc(section[1]).split("\n")
    heads = [line.partition(" : ")[0] for line in lines if line and not line.startswith(" ")]
    return {name.lstrip("*") for head in heads for name in head.split(", ")}


def makers():
    """Return the functions that make public objects, by name, each with its docstring."""
    for cls in public_classes():
        if cls.__module__ == "gzmqsource.green":  # they take what pyzmq's do
            continue
        is_made = not issubclass(cls, (tuple, Exception)) and cls.__name__ not in MADE_HERE
        if is_made and str(getattr(cls.__init__, "__module__", "")).startswith("gzmqsource"):
            yield pytest.param(cls, cls.__doc__, id=cls.__name__)
        for name in {"open", "join"} & set(dir(cls)):
            make = getattr(cls, name)
            if inspect.ismethod(make):
                yield pytest.param(make, make.__doc__, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize(("make", "docstring"), [*makers()])
def test_each_parameter_of_a_constructor_is_described(make, docstring):
    if "those of the constructor" not in docstring:
        assert set(inspect.signature(make).parameters) <= parameters_of(docstring)


def test_types_are_in_signatures_and_link_to_their_projects(pages):
    links = set(pages.links("api/source.html"))
    assert {
        "https://docs.python.org/3/library/functions.html#int",
        "https://docs.python.org/3/library/collections.abc.html#collections.abc.Iterator",
        "https://docs.python.org/3/glossary.html#term-callable",
        "https://pyzmq.readthedocs.io/en/latest/api/zmq.html#zmq.Socket",
        "https://www.gevent.org/api/gevent.timeout.html#gevent.Timeout",
        "https://www.gevent.org/api/gevent.queue.html#gevent.queue.Empty",
        "index.html#Endpoints",
    } <= links


def test_source_links_lead_to_the_code(pages, reference):
    linked = 0
    for page in pages:
        for name, shown in DEFINITION.findall(pages.article(page)):
            for link in re.findall(rf'href="({SOURCES}[^"]+)"', shown):
                linked += 1
                where = re.fullmatch(rf"{SOURCES}v[\d.]+/(\S+)#L(\d+)-L(\d+)", link)
                assert where is not None, link
                path, first, last = where.groups()
                lines = (PROJECT / path).read_text().splitlines()[int(first) - 1 : int(last)]
                *_, cls, member = name.split(".")
                assert re.search(rf"\b({member}|class {cls})\b", lines[0]), (name, link)
    assert linked > 300


def test_the_page_on_the_command_has_the_variable_of_each_option(pages):
    from gzmqsource.cli._command import gzmqsource as command

    shown = pages.article("command.html")
    context = click.Context(command)
    for name in command.list_commands(context):
        verb = command.get_command(context, name)
        assert verb is not None
        for option in verb.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert f">{option.envvar}<" in shown


def test_no_link_within_the_pages_is_dead(pages):
    anchors = {page: pages.anchors(page) for page in pages}
    assert len(anchors) > 40
    for page in anchors:
        for link in pages.links(page):
            if re.match(r"\w+:|_", link):
                continue
            path, _, anchor = link.partition("#")
            target = (
                posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            )
            if target.endswith(".html"):
                assert target in anchors, (page, link)
                assert not anchor or anchor in anchors[target], (page, link)


def test_the_inventories_are_what_their_script_writes(tmp_path):
    for project in inventories.NAMES:
        path = tmp_path / f"{project}.inv"
        inventories.write(project, path)
        assert path.read_bytes() == (PROJECT / "docs" / "inventories" / path.name).read_bytes()
