"""Keeps one secret current over the socket of secretwatch; needs nothing but the standard library.

    secret = SecretClient("db", consumer="app", on_change=reconnect)
    secret.start()
    ...
    now = secret.current()  # one snapshot per unit of work
"""

import base64
import http.client
import json
import os
import random
import socket
import sys
import threading
from contextlib import closing, suppress
from urllib.parse import quote

DEFAULT_SOCKET = "/run/secretwatch/secretwatch.sock"
# How long secretwatch may hold a request until it says that nothing has changed.
POLL_SECONDS = 30
# A sidecar that says nothing for so long after that is gone, even where the connection is not.
GRACE_SECONDS = 10
# Between attempts while the sidecar is away: doubled each time, and spread by a random half.
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0


class Snapshot:
    """All values of a volume, of one revision. It does not change, so any thread may keep it."""

    def __init__(self, document):
        self.revision = document["revision"]
        self.version = document.get("version", "-")
        self._data = {key: base64.b64decode(value) for key, value in document["data"].items()}

    def bytes(self, key):
        return self._data[key]

    def text(self, key):
        return self._data[key].decode()

    def has_values_of(self, other):
        return other is not None and self._data == other._data

    def __repr__(self):  # no values: it may end up in a log
        return f"<Snapshot {self.revision} version {self.version}>"


class Refused(Exception):
    """An answer that is neither new values nor "nothing has changed"."""

    def __init__(self, status, code, retry_after):
        super().__init__(f"{status} {code}")
        self.status = status
        self.retry_after = retry_after


class SecretClient:
    """Follows a volume in a thread of its own.

    `on_change(snapshot)` is called there before `current()` gives the snapshot: to open what the
    new credential is for. Where it raises, the last good snapshot stays, and it is called again.
    When it has returned, secretwatch is told that `consumer` has adopted the revision.
    """

    def __init__(self, volume, consumer=None, on_change=None, socket_path=None, token_file=None):
        self.volume = volume
        self.consumer = consumer
        self._on_change = on_change or (lambda snapshot: None)
        self._socket = socket_path or os.environ.get("SECRETWATCH_SOCKET", DEFAULT_SOCKET)
        self._token_file = token_file or os.environ.get("SECRETWATCH_TOKEN_FILE")
        self._current = None
        self._is_ready = threading.Event()
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()
        self._connection = None
        self._thread = threading.Thread(target=self._follow, name="secretwatch", daemon=True)

    def start(self):
        """Begins to follow; values are there a little later, see `wait`."""
        self._thread.start()

    def wait(self, timeout=None):
        """Waits for the first values; whether they are there, or it was stopped."""
        return self._is_ready.wait(timeout)

    def current(self):
        """The snapshot in use, or None before the first one. Cheap, from any thread."""
        return self._current

    def stop(self):
        """Ends the thread, in the middle of a long poll as well."""
        self._is_stopped.set()
        self._is_ready.set()
        with self._lock:
            if self._connection is not None:
                self._connection.abort()
        self._thread.join()

    def leave(self):
        """Has the consumer forgotten, so that nobody waits for it; to be called after `stop`."""
        try:
            connection = self._connect(timeout=GRACE_SECONDS)
            self._exchange(connection, "DELETE", self._adoption_path())
        except (OSError, http.client.HTTPException, Refused) as error:
            self._log(f"{describe(error)}; not forgotten as a consumer")

    def _follow(self):
        seen, delay = None, FIRST_DELAY
        while not self._is_stopped.is_set():
            try:
                seen = self._next(seen)
                self._use(seen)
                delay = FIRST_DELAY
            except Exception as error:  # whatever it is, the last good value stays
                if self._is_stopped.is_set():
                    return
                if isinstance(error, Refused):
                    delay = max(delay, error.retry_after)
                pause = delay * random.uniform(0.5, 1)
                version = self._current.version if self._current else "none"
                self._log(f"{describe(error)}; still using version {version}, again in {pause:.1f} s")
                self._is_stopped.wait(pause)
                delay = min(delay * 2, LONGEST_DELAY)

    def _next(self, seen):
        """The snapshot after the one that was seen last, or that one if nothing has changed."""
        path = f"/v1/secrets/{quote(self.volume)}"
        if seen is not None:
            # What is seen and not in use has failed: then only look whether there is a newer one.
            timeout = POLL_SECONDS if seen is self._current else 0
            path += f"?after={quote(seen.revision)}&timeout={timeout}s"
        body = self._ask("GET", path)
        return seen if body is None else Snapshot(json.loads(body))

    def _use(self, snapshot):
        # After a restart of secretwatch the same values have another revision.
        if not snapshot.has_values_of(self._current):
            self._on_change(snapshot)
        self._current = snapshot
        self._is_ready.set()
        if self.consumer is not None:
            self._adopt(snapshot.revision)

    def _adopt(self, revision):
        try:
            self._ask("PUT", self._adoption_path(), json.dumps({"revision": revision}))
        except Refused as error:
            # It has rotated on or was restarted: the next request gets what is current.
            if error.status != 409:
                raise

    def _adoption_path(self):
        return f"/v1/adoptions/{quote(self.volume)}/{quote(self.consumer)}"

    def _ask(self, method, path, body=None):
        """As `_exchange`, but `stop` ends it."""
        connection = self._connect()
        with self._lock:
            self._connection = connection
            if self._is_stopped.is_set():
                connection.abort()
        try:
            return self._exchange(connection, method, path, body)
        finally:
            with self._lock:
                self._connection = None

    def _connect(self, timeout=POLL_SECONDS + GRACE_SECONDS):
        connection = UnixConnection(self._socket, timeout)
        connection.connect()
        return connection

    def _exchange(self, connection, method, path, body=None):
        """The body of the answer; None for 304."""
        with closing(connection):
            connection.request(method, path, body, self._headers())
            answer = connection.getresponse()
            content = answer.read()  # raises where the connection ends before the body does
        if answer.status == 304:
            return None
        if answer.status >= 300:
            retry_after = float(answer.headers.get("retry-after", 0))
            raise Refused(answer.status, error_code(content), retry_after)
        return content

    def _headers(self):
        if not self._token_file:
            return {}
        with open(self._token_file) as file:  # each time: the token may rotate as well
            return {"authorization": f"Bearer {file.read().strip()}"}

    def _log(self, message):
        print(f"secretwatch: {self.volume}: {message}", file=sys.stderr, flush=True)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def abort(self):
        """Wakes the thread that reads from it."""
        with suppress(OSError, AttributeError):  # it may be closed already
            self.sock.shutdown(socket.SHUT_RDWR)


def error_code(content):
    try:
        return json.loads(content)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return "without a code"


def describe(error):
    # The text of other errors may quote what they are about, which may be a value.
    if isinstance(error, (OSError, Refused)):
        return str(error)
    return type(error).__name__
