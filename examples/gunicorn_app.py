"""A WSGI application under gunicorn whose workers each have one Requester, made after the fork.

Start ``backend.py`` as described there, then::

    gunicorn --config gunicorn_conf.py gunicorn_app:app
    curl http://127.0.0.1:5558/double/21

``gunicorn_conf.py`` makes the requester of a worker and stops it. A request that a backend loses is
sent to another one, or again; one that takes too long is a 504.
"""

from __future__ import annotations

import os

from flask import Flask, abort

from gzmqsource.workers import PeerLost, RemoteError, Requester, RequestTimeout

#: The servers, separated by spaces.
BACKENDS = os.environ.get("BACKENDS", "tcp://127.0.0.1:5557").split()

app = Flask(__name__)
requester: Requester | None = None


def open_requester() -> None:
    global requester
    requester = Requester.open(BACKENDS)


def stop_requester() -> None:
    if requester is not None:
        requester.stop(5)


@app.get("/double/<int:number>")
def double(number: int) -> str:
    assert requester is not None, "gunicorn_conf.py opens it"
    try:
        (reply,) = requester.request(b"%d" % number, timeout=5, retries=2)
    except RequestTimeout:
        abort(504)
    except (PeerLost, RemoteError) as error:
        abort(502, str(error))
    return bytes(reply).decode() + "\n"
