"""An app that goes on when its credential rotates: python3 app.py [VOLUME [CONSUMER]]"""

import signal
import sys
import threading

from secretwatch_client import SecretClient


def connect(snapshot):
    """Stands for opening a connection pool: raise where the new credential does not work."""
    size = len(snapshot.bytes("password"))
    print(f"using version {snapshot.version}, a password of {size} bytes", flush=True)


def main(volume="db", consumer="python"):
    is_over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_over.set())

    secret = SecretClient(volume, consumer, on_change=connect)
    secret.start()
    is_over.wait()  # an app does its work here, and takes secret.current() once per request
    secret.stop()
    print("stopped", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
