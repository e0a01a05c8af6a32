"""The Grafana dashboard: whether it is whole, and what it asks Prometheus."""

import json
import re
import sys
from pathlib import Path

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What Grafana itself defines.
BUILT_IN = {"__rate_interval", "__range", "__interval"}
COLUMNS = 24


class Dashboard:
    def __init__(self, path):
        self.json = json.loads(Path(path).read_text())

    def panels(self):
        """Every panel but the rows, also those inside of collapsed rows."""
        return [p for p in self.all() if p["type"] != "row"]

    def all(self):
        for panel in self.json["panels"]:
            yield panel
            yield from panel.get("panels", [])

    def variables(self):
        return self.json["templating"]["list"]

    def expressions(self):
        """(where, expression) of every query but those of the variables."""
        for panel in self.panels():
            for target in panel["targets"]:
                yield f"{panel['title']}/{target['refId']}", target["expr"]
        for annotation in self.json["annotations"]["list"]:
            yield f"annotation {annotation['name']}", annotation["expr"]

    def faults(self):
        yield from self.faults_of_panels()
        yield from self.faults_of_grid()
        yield from self.faults_of_variables()

    def faults_of_panels(self):
        ids = [panel["id"] for panel in self.all()]
        for twice in {i for i in ids if ids.count(i) > 1}:
            yield f"id {twice} is used more than once"
        titles = [panel["title"] for panel in self.all()]
        for twice in {t for t in titles if titles.count(t) > 1}:
            yield f"title {twice!r} is used more than once"
        for panel in self.panels():
            name = f"panel {panel['title']!r}"
            if len(panel.get("description", "")) < 20:
                yield f"{name} has no description"
            if not panel.get("targets"):
                yield f"{name} asks nothing"
            for where in [panel, *panel["targets"]]:
                if where.get("datasource") != DATA_SOURCE:
                    yield f"{name} has a data source of its own: {where.get('datasource')}"
            defaults = panel["fieldConfig"]["defaults"]
            if panel["type"] != "table" and not defaults.get("unit"):
                yield f"{name} has no unit"
            if panel["type"] == "table":
                yield from faults_of_table(name, panel)
        for annotation in self.json["annotations"]["list"]:
            if annotation.get("datasource") != DATA_SOURCE:
                yield f"annotation {annotation['name']!r} has a data source of its own"

    def faults_of_grid(self):
        taken = {}
        for panel in self.all():
            x, y, w, h = (panel["gridPos"][side] for side in "xywh")
            if x < 0 or x + w > COLUMNS:
                yield f"panel {panel['title']!r} leaves the grid"
            for cell in ((c, r) for c in range(x, x + w) for r in range(y, y + h)):
                if cell in taken:
                    yield f"panels {panel['title']!r} and {taken[cell]!r} overlap"
                    break
                taken[cell] = panel["title"]

    def faults_of_variables(self):
        defined = {variable["name"] for variable in self.variables()}
        for variable in self.variables():
            if variable["type"] == "query" and variable.get("datasource") != DATA_SOURCE:
                yield f"variable {variable['name']} has a data source of its own"
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(self.json))) - {"__all"}
        for name in sorted(used - defined - BUILT_IN):
            yield f"variable {name} is used and not defined"
        for name in sorted(defined - used):
            yield f"variable {name} is defined and not used"


def faults_of_table(name, panel):
    """Overrides, sorting and order speak of columns by name, and a wrong name does nothing."""
    organize = panel["transformations"][-1]["options"]
    shown = set(organize["renameByName"].values())
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] not in shown:
            yield f"{name} formats {override['matcher']['options']!r}, which is no column"
    for sort in panel["options"]["sortBy"]:
        if sort["displayName"] not in shown:
            yield f"{name} sorts by {sort['displayName']!r}, which is no column"
    for column in organize["renameByName"].keys() ^ organize["indexByName"].keys():
        yield f"{name} has no name or no place for {column!r}"


if __name__ == "__main__":
    dashboard = Dashboard(sys.argv[1])
    found = list(dashboard.faults())
    print("\n".join(found) or f"{len(dashboard.panels())} panels, nothing to complain of")
    sys.exit(1 if found else 0)
