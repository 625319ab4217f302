"""The links of the types in signatures, by the names that projects document.

A signature has a type by the module that defines it, which is often a private one.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext import intersphinx

#: The full name under which a short name is documented.
DOCUMENTED = {
    "AsyncResult": "gevent.event.AsyncResult",
    "Group": "gevent.pool.Group",
    "Submitted": "gevent.event.AsyncResult",
    "_KeyRule": "gzmqsource.auth.Rule",
    "_PasswordRule": "gzmqsource.auth.Rule",
    "gzmqsource._socket.view.SourceSocket": "zmq.Socket",
    "gzmqsource._source.registry.Registered": "gzmqsource.Source",
    "gzmqsource.green._device._DeviceContext": "zmq.Context",
    "zmq.backend.cython._zmq.Frame": "zmq.Frame",
    "zmq.error.ZMQError": "zmq.ZMQError",
    "zmq.sugar.context.Context": "zmq.Context",
    "zmq.sugar.frame.Frame": "zmq.Frame",
    "zmq.sugar.socket.Socket": "zmq.Socket",
    "zmq.sugar.tracker.MessageTracker": "zmq.MessageTracker",
}

#: The names of variables of types, which are shown without a link.
VARIABLES = {"FrameT", "_ContextT", "_T", "_Uncopied"}


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Node | None:
    """Return the link to a name that no page and no inventory has; None if it is unknown."""
    target = node.get("reftarget", "")
    name = target.rpartition(".")[2]
    if name in VARIABLES:
        return nodes.Text(name.removeprefix("_"))
    documented = DOCUMENTED.get(target)
    if documented is None or node.get("refdomain") != "py":
        return None
    known = node.copy()
    known["reftarget"] = documented
    known["refexplicit"] = True
    text = nodes.inline("", documented.rpartition(".")[2])
    if documented.startswith("gzmqsource."):
        python = env.domains.python_domain
        return python.resolve_xref(env, node["refdoc"], app.builder, "obj", documented, known, text)
    return intersphinx.missing_reference(app, env, known, text)
