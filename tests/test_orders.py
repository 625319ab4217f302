"""Whatever is imported and patched first: each order in a process of its own, without a warning."""

import pytest
from patching import EXCHANGE, run

pytestmark = [pytest.mark.once, pytest.mark.limit(90)]

STEPS = {
    "zmq": "import zmq",
    "zmq.green": "import zmq.green",
    "green": "import gzmqsource.green",
    "Source": "from gzmqsource import Source",
    "all": "from gevent import monkey; monkey.patch_all()",
    "all+zmq": "from gevent import monkey; monkey.patch_all(zmq=True)",
    "all+green": "from gevent import monkey; monkey.patch_all(zmq='green')",
    "patch": "from gzmqsource.monkey import patch_zmq; patch_zmq()",
    "patch green": "from gzmqsource.monkey import patch_zmq_green; patch_zmq_green()",
}

#: What `zmq` and `zmq.green` are in the end, and in which orders.
ORDERS = {
    ("zmq", "all", "patch"): "both",
    ("all", "zmq", "patch"): "both",
    ("zmq", "patch", "all"): "both",
    ("patch", "all", "zmq"): "both",
    ("all+zmq", "zmq", "zmq.green"): "both",
    ("zmq.green", "zmq", "all+zmq"): "both",
    ("Source", "zmq.green", "all+zmq"): "both",
    ("green", "all", "patch", "patch green"): "both",
    ("patch green", "patch", "all"): "both",
    ("all+green", "zmq", "Source"): "green",
    ("zmq.green", "all", "patch green"): "green",
    ("Source", "zmq", "all"): "none",
    ("all", "zmq.green", "green"): "none",
}

CHECK = f"""
import gevent, gzmqsource.green, zmq.green
from gzmqsource import Source
from gzmqsource.monkey import is_patched

assert (zmq.Context is gzmqsource.green.Context) == is_patched()
assert (zmq.green.Context is gzmqsource.green.Context) == is_patched("zmq.green")
print({{(True, True): "both", (False, True): "green", (False, False): "none"}}[
    is_patched(), is_patched("zmq.green")
])
with Source.open(zmq.PULL, bind="inproc://source") as pull:
    with Source.open(zmq.PUSH, context=pull.socket.context, connect="inproc://source") as push:
        gevent.spawn_later(0.01, push.send, b"a source")
        assert pull.recv(timeout=10) == [b"a source"]
{EXCHANGE}
if is_patched():
    exchange()
"""


@pytest.mark.parametrize("order", list(ORDERS), ids=", ".join)
def test_sources_work_and_the_patch_is_whole_in_every_order(order):
    program = "\n".join(STEPS[step] for step in order)
    exchanged = ["cooperative"] if ORDERS[order] == "both" else []
    assert run(f"{program}\n{CHECK}") == [ORDERS[order], *exchanged]
