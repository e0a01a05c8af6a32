"""An ASGI app with a handler for HUP: uvicorn has none, and would end of the signal."""

import os
import signal

password = ""


def load(*_):
    global password
    with open(os.environ.get("PASSWORD_FILE", "/tmp/db/password")) as file:
        password = file.read()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        load()
        signal.signal(signal.SIGHUP, load)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    # An example shows what it has; a real app would connect with it.
    await send({"type": "http.response.body", "body": f"connected with {password}\n".encode()})
