"""Asking a server for its pages."""

import http.client

import gevent


def ask(port, path, method="GET", host="127.0.0.1"):
    """Return the status and the body of a page."""
    return gevent.get_hub().threadpool.apply(_ask, (port, path, method, host))


def _ask(port, path, method, host):
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body
