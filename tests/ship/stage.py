"""Sidecars as pods, and a Prometheus that scrapes them: started here, and ended by their handles."""

import http.server
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

DEADLINE = 60
EXAMPLES = Path("examples/prometheus")


def eventually(what, check, deadline=DEADLINE):
    """Waits until `check` returns something true, and returns that."""
    end, last = time.monotonic() + deadline, None
    while time.monotonic() < end:
        try:
            found = check()
            if found:
                return found
        except (OSError, urllib.error.URLError) as error:
            last = error
        time.sleep(0.05)
    raise SystemExit(f"not within {deadline} s: {what}" + (f" ({last})" if last else ""))


class Stage:
    """A directory and the processes in it; leaving it ends them all."""

    def __init__(self, binary):
        self.binary, self.processes = binary, []

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="secretwatch-prometheus-")
        self.path = Path(self.temporary.name)
        self.server = Cluster()
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process)
        self.server.stop()
        self.temporary.cleanup()

    def start(self, name, command, **more):
        log = open(self.path / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
        self.processes.append(process)
        return process

    def simulate(self, directory, *what):
        run([self.binary, "simulate", self.path / directory, *what])

    def craft(self, directory, written, **keys):
        """A volume as a kubelet leaves it, written at another time: `2026_01_31_10_00_00`."""
        data = self.path / directory / f"..{written}.1"
        data.mkdir(parents=True)
        for key, value in keys.items():
            (data / key).write_text(value)
            (self.path / directory / key).symlink_to(f"..data/{key}")
        (self.path / directory / "..data").symlink_to(data.name)


class Pod:
    """A running sidecar."""

    def __init__(self, stage, name, config):
        self.stage, self.name, self.home = stage, name, stage.path / name
        self.home.mkdir(exist_ok=True)
        (self.home / "token").write_text("fake-token")
        head = 'socket = "sw.sock"\nmetrics_addr = "127.0.0.1:0"\nlog_format = "json"\n'
        (self.home / "config.toml").write_text(head + config)
        command = [stage.binary, "serve", "--config", "config.toml"]
        self.process = stage.start(name, command, cwd=self.home)
        self.address = eventually(f"{name} listens", self.listens)

    def listens(self):
        log = (self.stage.path / f"{self.name}.log").read_text()
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} has ended:\n{log}")
        lines = (json.loads(line) for line in log.splitlines(keepends=True) if line.endswith("\n"))
        return next((line["metrics_addr"] for line in lines if "metrics_addr" in line), None)

    def metrics(self):
        return get(f"http://{self.address}/metrics")

    def client(self, *arguments, **more):
        command = [self.stage.binary, *arguments, "--socket", "sw.sock"]
        return subprocess.run(command, cwd=self.home, capture_output=True, text=True, **more)

    def adopt(self, volume, *more):
        """Says that the app uses what is served once that is the newest."""
        output = self.client("adopted", volume, "--consumer", "app", *more)
        if output.returncode:
            raise SystemExit(f"{self.name} cannot adopt {volume}: {output.stderr}")

    def until(self, line):
        """Waits for a line of the metrics."""
        eventually(f"{self.name}: {line}", lambda: line in self.metrics().splitlines())

    def connect(self):
        """A connection that asks for nothing."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(DEADLINE)
        client.connect(os.fspath(self.home / "sw.sock"))
        return client

    def target(self):
        """What Kubernetes would say of the pod."""
        address, port = self.address.rsplit(":", 1)
        return {
            "namespace": "shop",
            "pod_name": self.name,
            "pod_ip": address,
            "pod_phase": "Running",
            "pod_label_app_kubernetes_io_name": "app",
            "pod_annotation_secretwatch_port": port,
        }


class Cluster:
    """The rest of the cluster: an app that can be told, and what kube-state-metrics would say."""

    RUNNING = 'kube_pod_container_status_running{namespace="shop",pod="app-9",container="secretwatch"} 1\n'

    def __init__(self):
        answers = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(answers.RUNNING.encode())

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.answer(b"")

            def answer(self, body):
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class Prometheus:
    """A Prometheus with the scrape job and the rules of the examples, in seconds for minutes."""

    def __init__(self, stage, targets):
        self.home = stage.path / "prometheus"
        self.home.mkdir()
        (self.home / "alerts.yaml").write_text(hurried((EXAMPLES / "alerts.yaml").read_text()))
        (self.home / "records.yaml").write_text((EXAMPLES / "records.yaml").read_text())
        scrape = with_targets((EXAMPLES / "scrape.yaml").read_text(), targets)
        (self.home / "prometheus.yaml").write_text(
            "global: { scrape_interval: 1s, evaluation_interval: 1s }\n"
            "rule_files: [alerts.yaml, records.yaml]\n"
            f"{scrape}"
            "  - job_name: kube-state-metrics\n    honor_labels: true\n    static_configs:\n"
            f"      - targets: ['{stage.server.address}']\n"
        )
        run(["promtool", "check", "config", self.home / "prometheus.yaml"])
        self.address = f"127.0.0.1:{free_port()}"
        self.process = stage.start("prometheus.out", [
            "prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
            f"--web.listen-address={self.address}", "--log.level=warn",
        ], cwd=self.home)
        eventually("Prometheus is ready", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"prometheus has ended:\n{(self.home.parent / 'prometheus.out.log').read_text()}")
        return get(f"http://{self.address}/-/ready")

    def api(self, path, **query):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            return json.loads(get(url))["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{query}\n{error.read().decode()}") from None

    def query(self, expression):
        return self.api("query", query=expression)["result"]

    def firing(self):
        """The labels of every alert that fires, without those that all of them have."""
        common = {"severity", "namespace", "job", "instance", "container"}
        alerts = [a["labels"] for a in self.api("alerts")["alerts"] if a["state"] == "firing"]
        return {
            " ".join([a["alertname"], *(f"{k}={a[k]}" for k in sorted(a) if k not in common | {"alertname"})])
            for a in alerts
        }


def hurried(rules):
    """The alerts with seconds for minutes, so that the test does not take an hour."""
    rules = re.sub(r"for: \d+m", "for: 1s", rules)
    for long, short in [("[1h:30s]", "[1h:1s]"), ("lag_seconds > 900", "lag_seconds > 1")]:
        if rules.count(long) != 1:
            raise SystemExit(f"alerts.yaml has {long!r} {rules.count(long)} times and not once")
        rules = rules.replace(long, short)
    return rules


def with_targets(scrape, targets):
    """The scrape job with its relabelling, for targets that no cluster has to find."""
    found = "    kubernetes_sd_configs:\n      - role: pod\n"
    if scrape.count(found) != 1:
        raise SystemExit("scrape.yaml does not find pods as it used to")
    static = "    static_configs:\n" + "".join(
        "      - targets: ['127.0.0.1:1']\n        labels: "
        + json.dumps({f"__meta_kubernetes_{k}": v for k, v in target.items()}) + "\n"
        for target in targets
    )
    return scrape.replace(found, static).replace("scrape_interval: 30s", "scrape_interval: 1s")


def get(url):
    # No proxy: everything is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return answer.read().decode()


def run(command, **more):
    output = subprocess.run(command, capture_output=True, text=True, **more)
    if output.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{output.stdout}{output.stderr}")
    return output.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end(process):
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
