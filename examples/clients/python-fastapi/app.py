"""A web app in several workers, each of which is current by itself. See gunicorn.conf.py."""

import os
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from secretwatch_client import SecretClient, Snapshot

VOLUME = os.environ.get("VOLUME", "db")


def check(credential):
    """Raises where the new credential is not usable, so that the last one stays."""
    credential.bytes("password")


@asynccontextmanager
async def lifespan(app):
    # Here and not at import: this runs in the worker, and a thread does not survive the fork.
    secret = SecretClient(VOLUME, consumer=f"web-{os.getpid()}", on_change=check)
    secret.start()
    app.state.secret = secret
    yield
    secret.stop()


app = FastAPI(lifespan=lifespan)


def snapshot(request: Request) -> Snapshot:
    """One snapshot for the whole request, also when the secret rotates meanwhile."""
    now = request.app.state.secret.current()
    if now is None:
        raise HTTPException(503, "the credential is not there yet", {"retry-after": "1"})
    return now


Credential = Annotated[Snapshot, Depends(snapshot)]


@app.get("/")
def index(credential: Credential):
    # Stands for a call with the credential.
    size = len(credential.bytes("password"))
    return {"worker": os.getpid(), "version": credential.version, "password_bytes": size}


@app.get("/readyz")
def readyz(credential: Credential):
    """For a readiness probe: this worker has a credential."""
    return {"version": credential.version}
