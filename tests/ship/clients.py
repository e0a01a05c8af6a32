"""Puts each client under examples/clients through the life of a sidecar; see clients.sh.

What a client uses is seen by what it prints (a version and a size, no value) or answers, and by
what it has adopted. The size of each password is another one, so the right version with the wrong
password is seen as well.
"""

import base64
import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

# What is waited for here takes seconds, back-off included; past this something is broken.
DEADLINE = 60
PAUSE = 0.05
BINARY, WORK = Path(sys.argv[1]), Path(sys.argv[2])
CLIENTS = Path(__file__).parents[2] / "examples" / "clients"


def until(what, look, about=lambda: ""):
    """Waits until `look()` is true, and gives it back."""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            sys.exit(f"clients: FAILED: not within {DEADLINE} s: {what}\n{about()}")
        time.sleep(PAUSE)


def check(what, is_so, about=""):
    if not is_so:
        sys.exit(f"clients: FAILED: {what}\n{about}")


class Request(http.client.HTTPConnection):
    """A request of the test's own, over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Sidecar:
    """A real sidecar on a simulated mount that it may outlive, and its token."""

    def __init__(self, directory):
        self.mount, self.socket = directory / "db", directory / "sw.sock"
        self.token_file = directory / "token"
        self.process = None
        self.version = 0
        self.passwords = []
        self.change_token()

    def change_token(self):
        self.token = secrets.token_hex(8)
        self.token_file.write_text(self.token + "\n")

    def start(self):
        settings = {"--volume": f"db={self.mount}", "--socket": self.socket}
        settings |= {"--token-file": self.token_file, "--log-level": "error"}
        command = [BINARY, "serve", *(word for pair in settings.items() for word in pair)]
        self.process = subprocess.Popen(command)
        until("the sidecar answers", self.is_live)

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait(DEADLINE)

    def is_live(self):
        try:
            return self.ask("/livez")[0] == 200
        except OSError:
            return False

    def ask(self, path):
        with closing(Request(self.socket)) as request:
            request.request("GET", path, headers={"authorization": f"Bearer {self.token}"})
            answer = request.getresponse()
            return answer.status, answer.read()

    def adoptions(self):
        status, body = self.ask("/v1/adoptions/db")
        check(f"adoptions are answered with 200, not {status}", status == 200)
        return json.loads(body)

    def rotate(self, with_password=True):
        self.version += 1
        data = {"user": "app", "secretwatch.version": str(self.version)}
        if with_password:
            # Of a size of its own, and with what a client could stumble over.
            password = f'{secrets.token_hex(12)} "\\\n%é' + "x" * self.version
            self.passwords.append(password)
            data["password"] = password
        payload = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        command = [BINARY, "simulate", self.mount, "--stdin"]
        line = json.dumps(payload) + "\n"
        subprocess.run(command, input=line, text=True, stdout=subprocess.DEVNULL, check=True)

    def serves_last(self):
        [volume] = json.loads(self.ask("/v1/secrets")[1])["secrets"]
        return volume.get("version") == str(self.version)

    def size(self):
        return len(self.passwords[-1].encode())


class Program:
    """A client that prints what it uses."""

    ends_with = 0
    directory = None

    def __init__(self, name, command, sidecar, directory, **environment):
        self.name, self.sidecar = name, sidecar
        self.output = directory / "output"
        settings = {"SECRETWATCH_SOCKET": sidecar.socket, "SECRETWATCH_TOKEN_FILE": sidecar.token_file}
        environment = os.environ | {key: str(value) for key, value in (settings | environment).items()}
        with self.output.open("wb") as output:
            # A group of its own, so that its children can be ended with it.
            streams = {"stdout": output, "stderr": output, "start_new_session": True}
            self.process = subprocess.Popen(command, env=environment, cwd=self.directory, **streams)

    def printed(self):
        return self.output.read_text()

    def is_alive(self):
        return self.process.poll() is None

    def wait_until(self, what, look):
        until(f"{self.name}: {what}", lambda: not self.is_alive() or look(), self.printed)
        check(f"{self.name} goes on", self.is_alive(), self.printed())

    def troubles(self, version):
        return self.printed().count(f"still using version {version}, again in")

    def wait_for_trouble(self, version, more_than=0):
        what = f"says that it still uses version {version}"
        self.wait_until(what, lambda: self.troubles(version) > more_than)

    def wait_until_current(self):
        until("the sidecar serves the last rotation", self.sidecar.serves_last)
        self.wait_until("has adopted what is current", self.has_adopted)
        self.check_use(self.sidecar.version, self.sidecar.size())

    def has_adopted(self):
        return [self.name] == [
            each["consumer"] for each in self.sidecar.adoptions()["consumers"] if each["is_current"]
        ]

    def uses(self):
        return re.findall(r"using version (\S+), a password of (\d+) bytes", self.printed())

    def check_use(self, version, size):
        last = self.uses()[-1:]
        check(f"{self.name} uses version {version}, not {last}", last == [(str(version), str(size))])

    def end(self):
        self.process.terminate()
        status = self.process.wait(DEADLINE)
        check(f"{self.name} ends with {self.ends_with}, not {status}", status == self.ends_with)
        check(f"{self.name} says that it ends", self.printed().endswith("stopped\n"), self.printed())

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all have ended


class Java(Program):
    ends_with = 128 + signal.SIGTERM  # as every JVM that is asked to end


class Shell(Program):
    def wait_for_trouble(self, version, more_than=0):
        # `secretwatch wait` waits for a sidecar that is away, and says nothing.
        if version == "none" or self.sidecar.is_live():
            super().wait_for_trouble(version, more_than)


class Web(Program):
    """A server with several workers, each a consumer."""

    WORKERS = 2
    directory = CLIENTS / "python-fastapi"

    def __init__(self, name, command, sidecar, directory):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = {"BIND": f"127.0.0.1:{self.port}", "PYTHONPATH": CLIENTS / "python"}
        super().__init__(name, command, sidecar, directory, **settings)

    def consumers(self):
        return self.sidecar.adoptions()["consumers"]

    def has_adopted(self):
        consumers = self.consumers()
        return len(consumers) == self.WORKERS and all(each["is_current"] for each in consumers)

    def uses(self):
        return []

    def check_use(self, version, size):
        for _ in range(20):
            status, body = self.get("/")
            check(f"{self.name} answers with 200, not {status}", status == 200, self.printed())
            answer = json.loads(body)
            found = answer["version"], answer["password_bytes"]
            check(f"{self.name} uses version {version}, not {found}", found == (str(version), size))

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def lose_worker(self):
        lost = self.consumers()[0]["consumer"]
        os.kill(int(lost.removeprefix("web-")), signal.SIGKILL)
        self.wait_until(
            "has another worker in place of a killed one",
            lambda: self.has_adopted() and lost not in str(self.consumers()),
        )

    def end(self):
        self.process.terminate()
        status = self.process.wait(DEADLINE)
        check(f"{self.name} ends with 0, not {status}", status == 0, self.printed())
        check(f"{self.name} leaves no consumer behind", self.consumers() == [])


def scenario(client, sidecar):
    # The client is there before the sidecar, and the sidecar before the mount.
    client.wait_for_trouble("none")
    troubles = client.troubles("none")
    sidecar.start()
    client.wait_for_trouble("none", troubles)
    for _ in range(3):
        sidecar.rotate()
        client.wait_until_current()

    # Killed, and rotated together with its token while it is away.
    was, size = sidecar.version, sidecar.size()
    sidecar.end(signal.SIGKILL)
    client.wait_for_trouble(was)
    client.check_use(was, size)
    sidecar.rotate()
    sidecar.change_token()
    sidecar.start()
    client.wait_until_current()

    # Ended in order, and nothing rotated: another revision of the same values.
    uses = client.uses()
    sidecar.end(signal.SIGTERM)
    sidecar.start()
    client.wait_until_current()
    check(f"{client.name} does not connect anew for the same values", client.uses() == uses)

    # Contents that the client cannot use.
    was, troubles = sidecar.version, client.troubles(sidecar.version)
    sidecar.rotate(with_password=False)
    client.wait_for_trouble(was, troubles + 1)
    client.check_use(was, sidecar.size())
    behind = [each["is_current"] for each in sidecar.adoptions()["consumers"]]
    check(f"{client.name} has not adopted what it cannot use", behind and not any(behind))

    # In quick succession: the last one counts.
    for _ in range(5):
        sidecar.rotate()
    client.wait_until_current()
    if isinstance(client, Web):
        client.lose_worker()
        sidecar.rotate()
        client.wait_until_current()
    client.end()

    printed = client.printed()
    for password in sidecar.passwords:
        encoded = base64.b64encode(password.encode()).decode()
        for form in (password[:24], encoded):
            check(f"{client.name} prints no value", form not in printed)
    check(f"{client.name} prints no token", sidecar.token not in printed)


KINDS = {
    "python": (Program, ["python3", CLIENTS / "python/app.py", "db", "python"]),
    "node": (Program, ["node", CLIENTS / "node/app.js", "db", "node"]),
    "go": (Program, [WORK / "go-client", "db", "go"]),
    "java": (Java, ["java", "-cp", WORK / "java", "App", "db", "java"]),
    "shell": (Shell, ["sh", CLIENTS / "shell/app.sh", "db", "shell"]),
    "python-fastapi": (Web, [WORK / "venv/bin/gunicorn", "app:app"]),
}


def main(names):
    for name in names or KINDS:
        begin = time.monotonic()
        kind, command = KINDS[name]
        directory = WORK / f"run-{name}"
        directory.mkdir()
        sidecar = Sidecar(directory)
        client = kind(name, command, sidecar, directory)
        try:
            scenario(client, sidecar)
        finally:
            client.kill()
            if sidecar.process is not None:
                sidecar.end(signal.SIGKILL)
        seconds = time.monotonic() - begin
        print(f"clients: {name}: ok, {sidecar.version} rotations, {seconds:.0f} s", flush=True)


main(sys.argv[3:])
