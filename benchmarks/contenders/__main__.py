"""Run one contender once, in this process: ``python -m contenders NAME QUESTION CELL``.

The result is printed as JSON. An exit status other than 0 means that there is no figure.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from functools import partial
from typing import Any

from contenders.common import Cell
from contenders.operations import OPERATIONS

#: Name: module (if the question has none of its own), suffix of its functions, further arguments.
CONTENDERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "C": ("c", "", {}),
    "pyzmq": ("blocking", "", {"module": "zmq"}),
    "pyzmq, copy=False": ("blocking", "", {"module": "zmq", "copy": False}),
    "zmq.green": ("blocking", "", {"module": "zmq.green"}),
    "gzmqsource.green": ("blocking", "", {"module": "gzmqsource.green"}),
    "eventlet": ("blocking", "", {"module": "eventlet.green.zmq"}),
    "zerorpc": ("blocking", "", {"module": "zerorpc.gevent_zmq"}),
    "zmq.asyncio": ("coroutines", "", {}),
    "ZMQStream": ("callbacks", "_stream", {}),
    "aiozmq": ("callbacks", "_aiozmq", {}),
    "Source": ("source", "", {}),
    "Source, copy=False": ("source", "", {"copy": False}),
    "Source, pulled": ("source", "_pulled", {}),
}

#: Questions with a module of their own: the suffixes of the contenders' functions.
QUESTIONS = {
    "idle": {"Source": "", "zmq.green": "_green"},
    "fairness": {
        "Source": "",
        "Source, unbounded": "_unbounded",
        "zmq.green": "_green",
        "zmq.asyncio": "_asyncio",
    },
    "pressure": {"Source": "", "zmq.green": "_green"},
    "busy": {"Source": "", "zmq.green": "_green"},
    "workers": {"Requester": "", "zmq.green": "_green", "zerorpc": "_zerorpc"},
    "outstanding": {"Requester": ""},
    "proxy": {"Proxy": "", "C program": "_c"},
    "many": {
        "handler": "_handler",
        "spawn=20": "_workers",
        "Pool(20)": "_pool",
        "pulled": "_pulled",
        "green recv": "_green",
    },
    "peers": {"Source": "", "gzmqsource.green": "_green", "Responder": "_responder"},
    "bad": {"Source": ""},
    "pools": {"Source": "", "Responder": "_responder"},
    "broker": {"Broker": "", "Proxy": "_proxy"},
    "waits": {"Broker": "", "Proxy": "_proxy"},
    "joined": {"Broker": ""},
    "scale": {name: f"_{name.replace(' ', '_')}" for name in OPERATIONS},
}

#: Questions that share a module.
MODULES = {"outstanding": "workers", "waits": "broker", "joined": "broker"}


def main(name: str, question: str, cell: str) -> None:
    arguments: dict[str, Any]
    if question in QUESTIONS:
        module = MODULES.get(question, question)
        suffix, arguments = QUESTIONS[question][name], {}
    else:
        module, suffix, arguments = CONTENDERS[name]
    answer = getattr(importlib.import_module(f"contenders.{module}"), question + suffix)
    result = partial(answer, **arguments)(Cell(**json.loads(cell)))
    print(json.dumps(result), flush=True)
    # What libzmq still holds is of no interest, and not every loop can be closed in peace.
    os._exit(0)


main(*sys.argv[1:])
