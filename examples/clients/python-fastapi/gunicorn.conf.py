"""gunicorn reads this by itself: gunicorn app:app"""

import os

from secretwatch_client import SecretClient

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = 2
control_socket_disable = True  # it would need a home directory that can be written to
worker_class = "uvicorn_worker.UvicornWorker"


def child_exit(server, worker):
    """A worker that is gone, killed or not, is a consumer that nobody has to wait for."""
    SecretClient(os.environ.get("VOLUME", "db"), consumer=f"web-{worker.pid}").leave()
