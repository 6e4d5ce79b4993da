"""Sends every request of a Python process to one server on loopback, which plays all hosts.

Python imports a module of this name when it starts, if its folder is in PYTHONPATH. GETAM_LOOPBACK is the server's
port.
"""

import os
from urllib.parse import urlsplit

import requests

_send = requests.Session.send


def _to_loopback(session, request, **options):
    url = urlsplit(request.url)
    if url.hostname != "127.0.0.1":
        request.url = f"http://127.0.0.1:{os.environ['GETAM_LOOPBACK']}/{url.scheme}/{url.netloc}{request.path_url}"
    return _send(session, request, **options)


requests.Session.send = _to_loopback
