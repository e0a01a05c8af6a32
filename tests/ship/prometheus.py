"""Rules and dashboard with a real Prometheus and running sidecars: see prometheus.sh."""

import re
import signal
import sys
from pathlib import Path

import scenario
from dashboard import Dashboard
from stage import EXAMPLES, Prometheus, Stage, eventually, run

DASHBOARD = Path("examples/grafana/dashboard.json")
READMES = [Path("examples/prometheus/README.md"), Path("examples/grafana/README.md")]
# Queries of the READMEs that ask who is not there yet. For volume db, everybody is.
NOBODY = ["unless on (namespace, pod) secretwatch_secret_info"]

# Every alert, each for a reason that `scenario.disturb` gives.
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
    "SecretwatchCertificateExpiring key=tls.crt volume=tls",
    "SecretwatchCertificateExpiryImminent key=tls.crt volume=tls",
}
# What ends once `scenario.heal` has put things right.
HEALED = {
    "SecretwatchHoldingLastGood pod=app-1 volume=tls",
    "SecretwatchNotAdopted pod=app-1 volume=db",
    "SecretwatchNotReady pod=app-1 volume=late",
}


def say(what):
    print(f"-- {what}", flush=True)


def fail(what):
    raise SystemExit(f"FAILED: {what}")


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


def check_rules(prometheus):
    """Every rule can be evaluated and says what it should; every record has data."""
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    for rule in rules:
        name, query = rule["name"], rule["query"]
        if rule["health"] != "ok":
            fail(f"{name}: {rule.get('lastError')}")
        found = prometheus.query(query)
        if rule["type"] == "recording" and not found:
            fail(f"{name} records nothing")
        if rule["type"] == "alerting":
            check_alert(rule)
    documented = set(re.findall(r"^\| `(Secretwatch\w+)`", READMES[0].read_text(), re.M))
    named = {rule["name"] for rule in rules if rule["type"] == "alerting"}
    if documented != named:
        fail(f"the table of alerts and the alerts differ: {sorted(documented ^ named)}")
    say(f"{len(rules)} rules are evaluated, and each alert says what to do")


def check_alert(rule):
    name, annotations = rule["name"], rule["annotations"]
    if rule["labels"].get("severity") not in {"critical", "warning", "info"}:
        fail(f"{name} has no severity")
    if "examples/troubleshooting/README.md" not in annotations["description"]:
        fail(f"{name} does not say where to read on")
    for alert in rule["alerts"]:
        for text in (alert["annotations"]["summary"], alert["annotations"]["description"]):
            # What a template leaves that could not be filled in.
            if re.search(r"<no value>|<error|\{\{|  | in /|/ |/\.| of volume  ", text):
                fail(f"{name} says: {text}")


def substituted(expression, **values):
    values = {"namespace": ".*", "job": ".*", "pod": ".*", "volume": ".*"} | values
    values |= {"__rate_interval": "5m", "__range": "5m"}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def check_dashboard(prometheus, dashboard):
    count = 0
    for where, expression in dashboard.expressions():
        # All of them, and some by name as Grafana writes them.
        for values in ({}, {"namespace": "shop", "pod": "(app-0|app-1)", "job": "app"}):
            found = prometheus.query(substituted(expression, **values))
            if not found:
                fail(f"{where} shows nothing:\n{substituted(expression, **values)}")
        count += 1
    for panel in dashboard.panels():
        if panel["type"] == "table":
            check_columns(prometheus, panel)
    say(f"{count} expressions of the dashboard have data")


def check_columns(prometheus, panel):
    """Every label that a table gives a name is one of the answers."""
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


def check_names(texts, metrics):
    """Every metric that is written down somewhere is one that the sidecar has."""
    known = set(re.findall(r"^# TYPE (\w+)", metrics, re.M))
    known |= {name + end for name in known for end in ("_bucket", "_sum", "_count")}
    for where, text in texts.items():
        for name in sorted(set(re.findall(r"(?<![\w:/])secretwatch_[a-z_]+(?![\w.:])", text)) - known):
            fail(f"{where} speaks of {name}, which there is not")


def check_readmes(prometheus):
    for readme in READMES:
        for query in re.findall(r"```promql\n(.*?)```", readme.read_text(), re.S):
            found, is_nobody = prometheus.query(query), any(part in query for part in NOBODY)
            if is_nobody and found:
                fail(f"{readme}: this should be nobody, and is {found}:\n{query}")
            if not is_nobody and not found:
                fail(f"{readme} has a query without an answer:\n{query}")


def check(stage, prometheus, dashboard, pods, crowd):
    well, troubled, _ = pods
    check_alerts(prometheus, EXPECTED, lambda: scenario.refused(troubled, 1))
    for client in crowd:
        client.close()
    check_rules(prometheus)
    check_variables(prometheus, dashboard)
    check_dashboard(prometheus, dashboard)
    check_values(prometheus, dashboard, {
        "Rotation complete": "0", "Pods scraped": "2", "Not on the newest version": "6",
        "Held or waiting": "2", "Targets not told": "2", "Consumers behind": "1",
        "Alerts": str(len(EXPECTED)),
    })
    check_values(prometheus, dashboard, {"Rotation complete": "1"}, pod="app-0", volume="db")
    check_readmes(prometheus)
    files = [DASHBOARD, EXAMPLES / "alerts.yaml", EXAMPLES / "records.yaml", *READMES]
    check_names({file: file.read_text() for file in files}, troubled.metrics())
    for pod in (well, troubled):
        run(["promtool", "check", "metrics"], input=pod.metrics())
    say("the metrics are as promtool wants them, and those of the examples are all there")
    scenario.heal(stage, troubled)
    check_alerts(prometheus, EXPECTED - HEALED, lambda: None)


def main(binary):
    dashboard = Dashboard(DASHBOARD)
    with Stage(binary) as stage:
        scenario.prepare(stage)
        pods = scenario.start(stage)
        # A pod that has ended, and one that does not ask to be scraped.
        over = pods[0].target() | {"pod_name": "over", "pod_phase": "Succeeded"}
        other = {"pod_name": "other", "pod_ip": "127.0.0.1", "pod_phase": "Running"}
        prometheus = Prometheus(stage, [*(pod.target() for pod in pods), over, other])
        eventually("three pods are scraped", lambda: len(prometheus.query("secretwatch_build_info")) == 3)
        scraped = {sample["metric"]["pod"] for sample in prometheus.query('up{job="app"}')}
        if scraped != {"app-0", "app-1", "app-2"}:
            fail(f"scrape.yaml finds {sorted(scraped)}")
        say("a rotation, with whatever can go wrong")
        scenario.rotate(stage, *pods[:2])
        scenario.refused(pods[1], 3)
        check(stage, prometheus, dashboard, pods, scenario.disturb(stage, *pods))
    print("all is well")


if __name__ == "__main__":
    # So that what was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(sys.argv[1])
