"""A WSGI app that reads its password once per worker: a reload of the server is what renews it."""

import os


def load():
    with open(os.environ.get("PASSWORD_FILE", "/tmp/db/password")) as file:
        return file.read()


PASSWORD = load()


def app(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    # An example shows what it has; a real app would connect with it.
    return [f"connected with {PASSWORD}\n".encode()]
