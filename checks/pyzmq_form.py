"""A pytest plugin that puts a form of green sockets under pyzmq's own tests.

`pyzmq_suites` runs them with it. ``FORM`` names the form, and ``OUTCOMES`` the file for what became
of each test.
"""

import importlib
import json
import os
import sys

import pytest

FORM = os.environ["FORM"]

if FORM in ("patched", "gevent"):
    import gevent.monkey

    gevent.monkey.patch_all()

if FORM == "patched":
    import gzmqsource.monkey

    gzmqsource.monkey.patch_zmq()

import zmq
import zmq.auth  # pyzmq's tests take it from `zmq`, whatever `zmq` is
import zmq.green

GREEN = {"drop-in": "gzmqsource.green", "zmq.green": "zmq.green"}

if FORM in GREEN:
    green = sys.modules["zmq.green"] = zmq.green = importlib.import_module(GREEN[FORM])


def is_about_sockets(item):
    """Return whether a test uses what the drop-in replaces: the decorators make plain sockets."""
    base = sys.modules["zmq_test_utils"].BaseZMQTestCase
    in_cases = item.cls is not None and issubclass(item.cls, base)
    return (in_cases and item.path.name != "test_decorators.py") or "green" in item.nodeid


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Let all tests of sockets say ``import zmq.green as zmq``; the others do not run."""
    if FORM not in GREEN:
        return
    utils = importlib.import_module("zmq_test_utils")
    utils.BaseZMQTestCase.green = True
    chosen = [item for item in items if is_about_sockets(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
    for module in {utils, *(item.module for item in items)}:
        if vars(module).get("zmq") is zmq:
            module.zmq = green


def note(nodeid, outcome):
    with open(os.environ["OUTCOMES"], "a") as outcomes:
        print(json.dumps([nodeid, outcome]), file=outcomes)


def pytest_runtest_logstart(nodeid):
    note(nodeid, "hung")


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        note(report.nodeid, report.outcome)
