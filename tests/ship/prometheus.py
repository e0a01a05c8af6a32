"""Rules and dashboard with a real Prometheus and running sidecars: see prometheus.sh."""

import re
import sys
from pathlib import Path

from dashboard import Dashboard
from stage import EXAMPLES, Pod, Prometheus, Stage, eventually, run

DASHBOARD = Path("examples/grafana/dashboard.json")
CERTIFICATE = "secretwatch_certificate_not_after_timestamp_seconds"
READMES = [Path("examples/prometheus/README.md"), Path("examples/grafana/README.md")]
# Queries of the READMEs that ask who is not there yet. For volume db, everybody is.
NOBODY = ["unless on (namespace, pod) secretwatch_secret_info"]

WELL = """
[[volume]]
path = "../db-0"
name = "db"
[[volume]]
path = "../tls-0"
name = "tls"
require = ["tls.crt", "tls.key"]
[[volume]]
path = "../api-0"
name = "api"
[[volume]]
path = "../busy"
[[target]]
name = "web"
http = "http://{app}/-/reload"
"""
TROUBLED = """
token_file = "token"
max_connections = 2
poll_interval = "200ms"
[[volume]]
path = "../db-1"
name = "db"
[[volume]]
path = "../tls-1"
name = "tls"
require = ["tls.crt", "tls.key"]
[[volume]]
path = "../api-1"
name = "api"
[[volume]]
path = "../ahead"
[[volume]]
path = "../again"
[[volume]]
path = "../late"
[[target]]
name = "web"
http = "http://127.0.0.1:1/-/reload"
retry_max = "1s"
[[target]]
name = "nginx"
pid_file = "../nginx.pid"
signal = "HUP"
"""
GONE = '[[volume]]\npath = "../db-0"\n name = "db"\n'

# Every alert, each for a reason that `disturb` gives.
EXPECTED = {
    "SecretwatchAccessDenied pod=app-1 reason=token",
    "SecretwatchClockAhead pod=app-1 volume=ahead",
    "SecretwatchDown pod=app-2",
    "SecretwatchHoldingLastGood pod=app-1 volume=tls",
    "SecretwatchNotAdopted pod=app-1 volume=db",
    "SecretwatchNotReady pod=app-1 volume=late",
    "SecretwatchNotScraped pod=app-9",
    "SecretwatchReloadFailing pod=app-1 target=web",
    "SecretwatchReloadPending pod=app-1 target=nginx",
    "SecretwatchReloadPending pod=app-1 target=web",
    "SecretwatchRotatesTooOften pod=app-0 volume=busy",
    "SecretwatchSignalDeferred pod=app-1 target=nginx",
    "SecretwatchSnapshotBehind pod=app-1 volume=api",
    "SecretwatchTooManyClients pod=app-1 reason=connections",
    "SecretwatchVersionsDiffer volume=api",
    "SecretwatchWatchDown pod=app-1 volume=again",
    "SecretwatchWatchErrors kind=other pod=app-1 volume=again",
}
EXPECTED_OF_CERTIFICATES = {
    "SecretwatchCertificateExpiring key=tls.crt volume=tls",
    "SecretwatchCertificateExpiryImminent key=tls.crt volume=tls",
}
# What ends once `heal` has put things right.
HEALED = {
    "SecretwatchHoldingLastGood pod=app-1 volume=tls",
    "SecretwatchNotAdopted pod=app-1 volume=db",
    "SecretwatchNotReady pod=app-1 volume=late",
}


def say(what):
    print(f"-- {what}", flush=True)


def fail(what):
    raise SystemExit(f"FAILED: {what}")


def prepare(stage):
    """The volumes before anything is rotated, and a process that handles no signal."""
    certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    certificate += ["-nodes", "-days", "1", "-subj", "/CN=shop", "-keyout", "tls.key", "-out", "tls.crt"]
    run(certificate, cwd=stage.path)
    pair = ["--file", f"tls.crt={stage.path}/tls.crt", "--file", f"tls.key={stage.path}/tls.key"]
    for at in "01":
        stage.simulate(f"db-{at}", "password=fake-1", "secretwatch.version=1")
        stage.simulate(f"tls-{at}", *pair)
    stage.simulate("busy", "k=1")
    # Written long ago, so that a rotation that does not get there shows.
    for at in "01":
        stage.craft(f"api-{at}", "2026_01_31_10_00_00", **{"secretwatch.version": "1"})
    stage.craft("ahead", "2099_01_31_10_00_00", k="1")
    nginx = stage.start("nginx", ["sleep", "3600"])
    (stage.path / "nginx.pid").write_text(f"{nginx.pid}\n")


def start(stage):
    well = Pod(stage, "app-0", WELL.replace("{app}", stage.server.address))
    troubled = Pod(stage, "app-1", TROUBLED)
    gone = Pod(stage, "app-2", GONE)
    # The same directory twice: inotify has one watch for it, so the second volume is polled.
    (stage.path / "again").symlink_to("db-1")
    well.adopt("db")
    troubled.adopt("db", "--token-file", "token")
    return well, troubled, gone


def rotate(stage, well, troubled):
    """A rotation that reaches both pods; one app takes it up, and one does not."""
    for at in "01":
        stage.simulate(f"db-{at}", "password=fake-2", "secretwatch.version=2")
    for pod in (well, troubled):
        pod.until('secretwatch_secret_info{version="2",volume="db"} 1')
    well.adopt("db")


def disturb(stage, well, troubled, gone):
    """Whatever an alert is about. Returns connections that keep others out."""
    stage.simulate("tls-1", "--remove", "tls.key")
    for count in range(8):
        stage.simulate("busy", f"k={count + 2}")
        well.until(f'secretwatch_generation{{volume="busy"}} {count + 2}')
    rotate_crafted(stage.path / "api-0", "2026_02_01_10_00_00")
    well.until('secretwatch_generation{volume="api"} 2')
    gone.process.kill()
    troubled.until('secretwatch_holding_last_good{volume="tls"} 1')
    return [troubled.connect() for _ in range(2)]


def rotate_crafted(volume, written):
    """What the kubelet does, with a time of its own."""
    data = volume / f"..{written}.1"
    data.mkdir()
    (data / "secretwatch.version").write_text("2")
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")


def refused(pod, count):
    """Clients that are refused: without a token, or (where others sit there) without a place."""
    for _ in range(count):
        with pod.connect() as client:
            try:
                client.sendall(b"GET /v1/secrets HTTP/1.1\r\nhost: localhost\r\n\r\n")
                client.recv(1)
            except (BrokenPipeError, ConnectionResetError):
                pass


def check_alerts(prometheus, expected, keep_up):
    def as_expected():
        keep_up()
        as_expected.last = prometheus.firing()
        return as_expected.last == expected

    try:
        eventually("the alerts are as expected", as_expected)
    except SystemExit:
        missing, extra = expected - as_expected.last, as_expected.last - expected
        fail(f"alerts\n  do not fire: {sorted(missing)}\n  fire: {sorted(extra)}")
    say(f"{len(expected)} alerts fire, and no other")


def substituted(expression, **values):
    values = {"namespace": ".*", "job": ".*", "pod": ".*", "volume": ".*"} | values
    values |= {"__rate_interval": "5m", "__range": "5m"}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def check_dashboard(prometheus, dashboard, may_be_empty):
    count = 0
    for where, expression in dashboard.expressions():
        # All of them, and some by name as Grafana writes them.
        for values in ({}, {"namespace": "shop", "pod": "(app-0|app-1)", "job": "app"}):
            found = prometheus.query(substituted(expression, **values))
            if not found and not may_be_empty(expression):
                fail(f"{where} shows nothing:\n{substituted(expression, **values)}")
        count += 1
    for panel in dashboard.panels():
        if panel["type"] == "table":
            check_columns(prometheus, panel, may_be_empty)
    say(f"{count} expressions of the dashboard have data")


def check_columns(prometheus, panel, may_be_empty):
    """Every label that a table gives a name is one of the answers."""
    if any(may_be_empty(target["expr"]) for target in panel["targets"]):
        return
    answers = [prometheus.query(substituted(t["expr"])) for t in panel["targets"]]
    labels = {label for answer in answers for sample in answer for label in sample["metric"]}
    for name in panel["transformations"][-1]["options"]["renameByName"]:
        if not name.startswith("Value") and name not in labels:
            fail(f"table {panel['title']!r} has no label {name}, only {sorted(labels)}")
    wide = [panel["targets"][at]["refId"] for at, answer in enumerate(answers)
            if len({tuple(sorted(s["metric"].items())) for s in answer}) != len(answer)]
    if wide:
        fail(f"table {panel['title']!r} has a line twice in {wide}")


def check_variables(prometheus, dashboard):
    for variable in dashboard.variables():
        if variable["type"] != "query":
            continue
        series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()
        if not prometheus.api(f"label/{label}/values", **{"match[]": substituted(series)}):
            fail(f"variable {variable['name']} has nothing to choose from")


def check_values(prometheus, dashboard, expected, **values):
    """What the numbers at the top say."""
    panels = {panel["title"]: panel["targets"][0]["expr"] for panel in dashboard.panels()}
    for title, value in expected.items():
        found = prometheus.query(substituted(panels[title], **values))
        if [sample["value"][1] for sample in found] != [value]:
            fail(f"{title!r} is not {value}: {found}")


def check_names(texts, metrics, may_be_absent):
    """Every metric that is written down somewhere is one that the sidecar has."""
    known = set(re.findall(r"^# TYPE (\w+)", metrics, re.M))
    known |= {name + end for name in known for end in ("_bucket", "_sum", "_count")}
    for where, text in texts.items():
        for name in sorted(set(re.findall(r"(?<![\w:/])secretwatch_[a-z_]+(?![\w.:])", text)) - known):
            if not may_be_absent(name):
                fail(f"{where} speaks of {name}, which there is not")


def check_readmes(prometheus, may_be_empty):
    for readme in READMES:
        for query in re.findall(r"```promql\n(.*?)```", readme.read_text(), re.S):
            found, is_nobody = prometheus.query(query), any(part in query for part in NOBODY)
            if is_nobody and found:
                fail(f"{readme}: this should be nobody, and is {found}:\n{query}")
            if not is_nobody and not found and not may_be_empty(query):
                fail(f"{readme} has a query without an answer:\n{query}")


def heal(stage, troubled):
    stage.simulate("tls-1", "--file", f"tls.key={stage.path}/tls.key")
    stage.simulate("late", "k=1")
    troubled.adopt("db", "--token-file", "token")


def check(stage, prometheus, dashboard, pods, crowd):
    well, troubled, _ = pods
    has_certificates = CERTIFICATE in well.metrics()
    expected = EXPECTED | (EXPECTED_OF_CERTIFICATES if has_certificates else set())

    def may_be_empty(text):
        return not has_certificates and CERTIFICATE in text

    check_alerts(prometheus, expected, lambda: refused(troubled, 1))
    for client in crowd:
        client.close()
    check_variables(prometheus, dashboard)
    check_dashboard(prometheus, dashboard, may_be_empty)
    check_values(prometheus, dashboard, {
        "Rotation complete": "0", "Pods scraped": "2", "Not on the newest version": "6",
        "Held or waiting": "2", "Targets not told": "2", "Consumers behind": "1",
        "Alerts": str(len(expected)),
    })
    check_values(prometheus, dashboard, {"Rotation complete": "1"}, pod="app-0", volume="db")
    check_readmes(prometheus, may_be_empty)
    files = [DASHBOARD, EXAMPLES / "alerts.yaml", EXAMPLES / "records.yaml", *READMES]
    check_names({file: file.read_text() for file in files}, troubled.metrics(), may_be_empty)
    for pod in (well, troubled):
        run(["promtool", "check", "metrics"], input=pod.metrics())
    say("the metrics are as promtool wants them, and those of the examples are all there")
    heal(stage, troubled)
    check_alerts(prometheus, expected - HEALED, lambda: None)
    if not has_certificates:
        print(f"!! NOT CHECKED: this binary has no {CERTIFICATE}; its alerts and panels are empty")


def main(binary):
    dashboard = Dashboard(DASHBOARD)
    with Stage(binary) as stage:
        prepare(stage)
        pods = start(stage)
        # A pod that has ended, and one that does not ask to be scraped.
        over = pods[0].target() | {"pod_name": "over", "pod_phase": "Succeeded"}
        other = {"pod_name": "other", "pod_ip": "127.0.0.1", "pod_phase": "Running"}
        prometheus = Prometheus(stage, [*(pod.target() for pod in pods), over, other])
        eventually("three pods are scraped", lambda: len(prometheus.query("secretwatch_build_info")) == 3)
        scraped = {sample["metric"]["pod"] for sample in prometheus.query('up{job="app"}')}
        if scraped != {"app-0", "app-1", "app-2"}:
            fail(f"scrape.yaml finds {sorted(scraped)}")
        say("a rotation, with whatever can go wrong")
        rotate(stage, *pods[:2])
        refused(pods[1], 3)
        check(stage, prometheus, dashboard, pods, disturb(stage, *pods))
    print("all is well")


if __name__ == "__main__":
    main(sys.argv[1])
