"""What the pages list is what the code has: loggers, variables, metrics, verbs, exit statuses."""

import ast
import csv
import json
import re
import signal

import click
import pytest
import yaml
from click.testing import CliRunner
from optional import needs
from pages import PROJECT

from gzmqsource.cli._command import gzmqsource as command

pytestmark = pytest.mark.once

DOCS = PROJECT / "docs"
DEPLOY = PROJECT / "examples" / "deploy"

#: What a WSGI server puts into what is called ``environ``, too.
OF_WSGI = {"PATH_INFO", "REQUEST_METHOD"}

#: What click reads for a command of this name.
OF_CLICK = {"_GZMQSOURCE_COMPLETE"}


def code():
    """Yield the modules of the package, and what builds it, each with its tree."""
    for path in [PROJECT / "setup.py", *sorted((PROJECT / "gzmqsource").rglob("*.py"))]:
        module = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        yield module.removesuffix(".__init__"), ast.parse(path.read_text())


def calls(tree, *names):
    """Yield the arguments of calls of functions, or methods, with these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name in names and node.args:
                yield node, node.args[0]


def text(page, title=None):
    """Return a page's source, or its section with a title, or with the label before it."""
    content = (DOCS / page).read_text()
    return content if title is None else content.partition(title)[2]


def first_cells(source):
    """Return what is between double backticks at the beginning of a row of a list-table."""
    return set(re.findall(r"^   \* - ``(\w[\w.]*)``$", source, re.MULTILINE))


def test_the_page_on_logging_lists_each_logger():
    loggers = set()
    for module, tree in code():
        for _, name in calls(tree, "getLogger", "Reports"):
            if isinstance(name, ast.Constant):
                loggers.add(name.value)
            elif isinstance(name, ast.Name) and name.id == "__name__":
                loggers.add(module)
    assert len(loggers) > 10
    listed = text("logging.rst", "\nLoggers\n").partition("\nAt most one line")[0]
    assert first_cells(listed) == loggers


#: What the page on troubleshooting quotes of warnings and errors.
QUOTED = [
    "has messages, and its handler is not called",
    "gets nothing, for it subscribes to nothing",
    "has a handler, which receives all messages",
    "a frame is bytes, got the str",
    "belongs to the hub of another thread",
    "a reply could not be delivered",
    "nothing came from",
    "the connection to",
    "was started again",
    "was ended or lost",
    "too many were sent again recently",
    "a socket is bound to this path",
    "another file is there",
    "it has no transport",
    "it has no port",
    "* is all interfaces",
    "is a name, and bind takes an address or an interface",
    "its stop has lost messages",
    "still block the whole hub",
    "missed edge",
]


def test_the_page_on_troubleshooting_quotes_texts_of_the_code():
    page = " ".join(text("troubleshooting.rst").split())
    nodes = (node for _, tree in code() for node in ast.walk(tree))
    texts = [str(node.value) for node in nodes if isinstance(node, ast.Constant)]
    for quoted in QUOTED:
        assert quoted in page
        assert any(quoted in each for each in texts), quoted


def variables_of_the_code():
    """Return the variables that the code reads without click."""
    found = set()
    for _, tree in code():
        for node, name in calls(tree, "get", "getenv"):
            owner = ast.unparse(getattr(node.func, "value", node.func))
            if owner in ("environ", "os.environ", "os") and isinstance(name, ast.Constant):
                found.add(name.value)
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
                found.add(ast.literal_eval(node.slice))
    return found - OF_WSGI


def test_the_page_on_the_environment_lists_each_variable():
    of_all_verbs = {"GZMQSOURCE_PLAIN_PASSWORD"}
    of_the_command = {each.envvar for each in command.params if isinstance(each, click.Option)}
    listed = first_cells(text("environment.rst"))
    of_options = (of_the_command | of_all_verbs) - {None}
    assert listed == variables_of_the_code() | of_options | OF_CLICK


@pytest.mark.parametrize("verb", command.list_commands(click.Context(command)))
def test_the_variable_of_an_option_is_spelled_as_the_option_is(verb):
    found = command.get_command(click.Context(command), verb)
    assert found is not None
    options = [each for each in found.params if isinstance(each, click.Option) and not each.hidden]
    for each in options:
        words = each.opts[0].removeprefix("--").upper().replace("-", "_")
        shared = "GZMQSOURCE_PLAIN_PASSWORD"
        assert each.envvar in {f"GZMQSOURCE_{verb.upper()}_{words}", shared}


def test_an_option_whose_parameter_has_another_name_is_taken_from_its_variable():
    wrong = {"GZMQSOURCE_SEND_TYPE": "nonsense"}
    result = CliRunner().invoke(command, ["send", "--connect", "inproc://x", "y"], env=wrong)
    assert result.exit_code == 2
    assert "GZMQSOURCE_SEND_TYPE" in result.output


def test_the_list_of_metrics_is_the_code_s():
    import metrics_page

    tables = metrics_page.tables()
    for kind, rows in tables.items():
        with (DOCS / "metrics" / f"{kind}.csv").open(newline="") as file:
            assert [*csv.reader(file)] == rows
        assert f":file: metrics/{kind}.csv" in text("metrics.rst")
    assert {path.stem for path in (DOCS / "metrics").iterdir()} == set(tables)


def test_the_page_on_the_command_lists_each_verb_and_its_exit_statuses():
    verbs = set(command.list_commands(click.Context(command)))
    page = text("command.rst")
    assert set(re.findall(r"^   \* - :ref:`(\w+) <command-\w+>`$", page, re.MULTILINE)) == verbs
    statuses = page.partition(".. list-table:: Statuses 0 and 1")[2]
    assert first_cells(statuses) == verbs


def numbers_of(node):
    """Return the statuses that an expression may be; what it compares is none."""
    if isinstance(node, ast.IfExp):
        return numbers_of(node.body) | numbers_of(node.orelse)
    try:
        value = eval(ast.unparse(node), {"signal": signal})  # such as 128 + signal.SIGPIPE
    except (NameError, AttributeError):
        return set()
    return {int(value)} if isinstance(value, int) else set()


def test_no_verb_has_an_exit_status_that_the_page_does_not_list():
    statuses = {0, click.ClickException.exit_code, click.UsageError.exit_code}
    for module, tree in code():
        if module.startswith("gzmqsource.cli"):
            for _, value in calls(tree, "Exit", "SystemExit", "exit", "_exit"):
                statuses |= numbers_of(value)
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign) and "exit_code" in ast.unparse(node.targets[0]):
                    statuses |= numbers_of(node.value)
    assert {0, 1, 2} <= statuses
    listed = text("command.rst", "\nExit status\n").partition("Statuses 0 and 1")[0]
    assert statuses <= set(map(int, first_cells(listed)))


@pytest.mark.parametrize("verb", command.list_commands(click.Context(command)))
def test_a_wrong_option_is_status_2(verb):
    result = CliRunner().invoke(command, [verb, "--no-such-option"])
    assert result.exit_code == 2


def test_a_wrong_option_of_the_command_is_status_2():
    assert CliRunner().invoke(command, ["--no-such-option"]).exit_code == 2


@pytest.fixture(scope="module")
def series():
    """Return the type and the labels of each series that a server has, by its name."""
    import metrics_page

    known = {}
    for family in metrics_page.families():
        labels = {*metrics_page.labels_of(family), "job", "instance", "worker"}
        suffixes = {"counter": ["_total"], "info": ["_info"], "gauge": [""]}
        for suffix in suffixes.get(family.type, ["_bucket", "_sum", "_count"]):
            extra = {"le"} if suffix == "_bucket" else set()
            known[family.name + suffix] = (family.type, labels | extra)
    return known


def alerts():
    content = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
    for group in content["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert {"alert", "expr", "labels", "annotations"} <= set(rule)
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            yield pytest.param(rule["expr"], id=rule["alert"])


def queries():
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            name = f"{panel['title']}-{target['refId']}"
            yield pytest.param(target["expr"], id=name)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert found is not None
            inner, label = found.groups()
            yield pytest.param(f"sum by ({label}) ({inner})", id=variable["name"])


@needs("prometheus_client", extra="metrics")
@pytest.mark.parametrize("query", [*alerts(), *queries()])
def test_each_query_asks_for_what_there_is(query, series):
    plain = re.sub(r'"[^"]*"', "", query)
    for opening, closing in ("()", "{}", "[]"):
        assert plain.count(opening) == plain.count(closing)
    names = re.findall(r"gzmqsource_\w+", plain)
    assert names
    assert set(names) <= set(series)
    labels = set().union(*(series[name][1] for name in names))
    for group in re.findall(r"\bby \(([\w, ]+)\)", plain):
        assert set(group.split(", ")) <= labels
    for selector in re.findall(r"\{([^}]*)\}", plain):
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector)) <= labels
    counted = set(re.findall(r"\b(?:rate|increase)\(\s*(\w+)", plain))
    is_counter = {name for name in names if series[name][0] in ("counter", "histogram")}
    assert counted == is_counter, "a counter is for rate and increase, and only a counter is"
    for name in names:
        if "histogram_quantile" not in plain:
            assert series[name][0] != "histogram"


def test_no_two_panels_are_in_one_place():
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
