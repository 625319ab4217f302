"""A Flask application as it was written for threads: plain ``import zmq``, a REQ for each request.

Start ``backend.py`` as described there, then this program, patched and otherwise unchanged::

    python -m gzmqsource.monkey flask_app.py 127.0.0.1:5558
    curl http://127.0.0.1:5558/double/21

Each request waits a tenth of a second for the backend. Without the patch it holds up all others;
with the patch, they wait concurrently. ``BACKEND`` in the environment is the backend's endpoint.
"""

from __future__ import annotations

import os
import sys

import zmq
from flask import Flask, abort
from gevent.pywsgi import WSGIServer

BACKEND = os.environ.get("BACKEND", "tcp://127.0.0.1:5557")

app = Flask(__name__)
context = zmq.Context()


@app.get("/double/<int:number>")
def double(number: int) -> str:
    # A socket for each request is cheap, and cannot mix up replies after a timeout.
    with context.socket(zmq.REQ) as socket:
        socket.rcvtimeo = 5000
        socket.linger = 0
        socket.connect(BACKEND)
        socket.send(b"%d" % number)
        try:
            return socket.recv().decode() + "\n"
        except zmq.Again:
            abort(504)


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    WSGIServer((host, int(port)), app, log=None).serve_forever()
