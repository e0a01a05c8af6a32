"""Requests that never pause for a rotation: load.py PORT SUMMARY

Several users at once send one request after the other until SIGTERM or the bound. SUMMARY is a file
that is replaced all the time: how many there were, how many have failed, and how many were answered
for which user over which connection.
"""

import collections
import http.client
import json
import os
import signal
import sys
import threading

# More than the app has connections, so that some always wait for one.
USERS = 16
MAX_REQUESTS_PER_USER = 20_000
# Between the requests of a user, so that the machine has time for the rest.
PAUSE = 0.005
TIMEOUT = 60

is_over = threading.Event()
lock = threading.Lock()
answers = collections.Counter()
failed = []


def use(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    for _ in range(MAX_REQUESTS_PER_USER):
        if is_over.is_set():
            return
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise http.client.HTTPException(f"status {answer.status}")
            whom = json.loads(body)
            with lock:
                answers[f"{whom['user']} {whom['connection']}"] += 1
        except Exception as error:  # none is expected, so each counts
            connection.close()
            with lock:
                failed.append(repr(error))
        is_over.wait(PAUSE)


def write_summary(path):
    with lock:
        summary = {"requests": answers.total() + len(failed), "failed": len(failed)}
        summary |= {"first_failure": failed[:1], "answers": dict(answers)}
    with open(f"{path}.new", "w") as file:
        json.dump(summary, file)
    os.replace(f"{path}.new", path)


def main(port, path):
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    users = [threading.Thread(target=use, args=[int(port)]) for _ in range(USERS)]
    for user in users:
        user.start()
    while any(user.is_alive() for user in users):
        write_summary(path)
        is_over.wait(0.05)
    write_summary(path)


main(*sys.argv[1:])
