"""Takes the pods out of templates for AI Core, as AI Core would: parameters replaced as text, then
read as YAML. Usage: pods.py DIRECTORY TEMPLATE…

Writes each pod to DIRECTORY, as NAME-0.yaml with the defaults of the parameters, and once for each of
the values that YAML 1.1 (which Kubernetes' tools read) takes for something else where they are not
quoted.
"""

import json
import os
import sys

import yaml

HOSTILE = ["yes", "off", "012", "1:30", "1e3", "~", "a: b", "a #b", "{a", "- a", "2026-01-01"]


def fill(text, values):
    for name, value in values.items():
        text = text.replace("{{inputs.parameters.%s}}" % name, value)
    if "{{" in text:
        raise SystemExit("a placeholder is left: " + text[text.index("{{") :][:60])
    return text


def serving(document, values):
    template = document["spec"]["template"]
    labels = yaml.safe_load(fill(template["metadata"]["labels"], values))
    predictor = yaml.safe_load(fill(template["spec"], values))["predictor"]
    for name in ("minReplicas", "maxReplicas"):
        if not isinstance(predictor.pop(name), int):
            raise SystemExit(name + " is no number")
    return labels, predictor


def workflow(text, values):
    spec = yaml.safe_load(fill(text, values))["spec"]
    (step,) = spec["templates"]
    container = dict(step["container"], name="main")
    return step["metadata"]["labels"], {"containers": [container], "volumes": step["volumes"]}


def texts(value):
    """Every text in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def pods(text):
    document = yaml.safe_load(text)
    is_serving = document["kind"] == "ServingTemplate"
    inputs = document["spec"]["inputs" if is_serving else "arguments"]
    defaults = {p["name"]: p["default"] for p in inputs["parameters"]}
    for value in [None, *HOSTILE]:
        values = {n: value for n in defaults} if value else defaults
        labels, spec = serving(document, values) if is_serving else workflow(text, values)
        for expected in set(values.values()):
            found = sum(expected in found for found in texts([labels, spec]))
            if found < (len(values) if value else 1):
                raise SystemExit("%r does not come through as text" % expected)
        yield labels, spec


def main(directory, templates):
    for path in templates:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for number, (labels, spec) in enumerate(pods(text)):
            name = "%s-%d" % (os.path.basename(path).removesuffix(".yaml"), number)
            pod = {"apiVersion": "v1", "kind": "Pod"}
            pod.update(metadata={"name": name, "labels": labels}, spec=spec)
            with open(os.path.join(directory, name + ".yaml"), "w", encoding="utf-8") as file:
                # JSON is YAML, and leaves no doubt about what is text.
                json.dump(pod, file)


main(sys.argv[1], sys.argv[2:])
