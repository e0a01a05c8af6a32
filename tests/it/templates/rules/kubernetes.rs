//! What the templates for plain Kubernetes promise: the restricted pod security standard, and a
//! sidecar that starts before the app.

use serde_yaml_ng::Value;

use super::{Rule, in_pods, when};
use crate::templates::command::{Call, probes};
use crate::templates::manifest::{Manifest, Pod, items, words};

pub const RULES: &[Rule] = &[
    ("selector_matches_the_labels", selector_matches_the_labels),
    ("all_containers_have_one_user", all_containers_have_one_user),
    ("privileges_are_dropped", privileges_are_dropped),
    ("sidecar_starts_before_the_app", sidecar_starts_before_the_app),
    ("sidecar_writes_to_nothing_but_its_socket", sidecar_writes_to_nothing_but_its_socket),
    ("sidecar_asks_for_little", sidecar_asks_for_little),
    ("annotations_point_to_the_metrics", annotations_point_to_the_metrics),
    ("signals_find_the_process", signals_find_the_process),
];

fn selector_matches_the_labels(manifest: &Manifest) -> Vec<String> {
    let spec = &manifest.document["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    let is_same = spec["selector"]["matchLabels"] == *labels && labels.is_mapping();
    when(!is_same, "the selector does not match the labels of the pod")
}

fn all_containers_have_one_user(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let context = &pod.spec["securityContext"];
        let is_one = context["runAsUser"] == 65534_u64
            && context["runAsGroup"] == 65534_u64
            && context["runAsNonRoot"] == true
            && pod.containers().all(|c| c["securityContext"]["runAsUser"].is_null());
        when(!is_one, "not every container runs as 65534")
    })
}

fn privileges_are_dropped(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let profile = &pod.spec["securityContext"]["seccompProfile"]["type"];
        let mut wrong = when(*profile != "RuntimeDefault", "seccompProfile");
        let is_free = |container: &&Value| {
            let context = &container["securityContext"];
            context["allowPrivilegeEscalation"] != false
                || words(&context["capabilities"]["drop"]) != ["ALL"]
                || !context["capabilities"]["add"].is_null()
        };
        wrong.extend(pod.containers().filter(is_free).map(|c| format!("{:?}", c["name"])));
        wrong
    })
}

fn sidecar_starts_before_the_app(manifest: &Manifest) -> Vec<String> {
    of_sidecar(manifest, |_, sidecar, _| {
        let is_asked = probes(sidecar).len() == 2 && !sidecar["startupProbe"].is_null();
        sidecar["restartPolicy"] == "Always" && is_asked
    })
}

fn sidecar_writes_to_nothing_but_its_socket(manifest: &Manifest) -> Vec<String> {
    of_sidecar(manifest, |_, sidecar, _| {
        let mounts = items(&sidecar["volumeMounts"]).iter();
        let writable = mounts.filter(|mount| mount["readOnly"] != true).count();
        sidecar["securityContext"]["readOnlyRootFilesystem"] == true && writable == 1
    })
}

/// A few MiB, and no limit of processor time, which would only delay a rotation.
fn sidecar_asks_for_little(manifest: &Manifest) -> Vec<String> {
    of_sidecar(manifest, |_, sidecar, _| {
        let resources = &sidecar["resources"];
        let memory = |kind: &str| {
            let amount = resources[kind]["memory"].as_str().and_then(|m| m.strip_suffix("Mi"));
            amount.and_then(|amount| amount.parse::<u64>().ok())
        };
        resources["requests"]["cpu"] == "10m"
            && resources["limits"]["cpu"].is_null()
            && memory("requests").is_some_and(|mib| (4..=16).contains(&mib))
            && memory("limits").is_some_and(|mib| (16..=32).contains(&mib))
    })
}

fn annotations_point_to_the_metrics(manifest: &Manifest) -> Vec<String> {
    of_sidecar(manifest, |pod, sidecar, call| {
        let annotation = |name: &str| pod.annotations[format!("prometheus.io/{name}")].as_str();
        let port = call.metrics_port();
        port.is_some()
            && annotation("scrape") == Some("true")
            && annotation("path") == Some("/metrics")
            && annotation("port").and_then(|text| text.parse().ok()) == port
            && items(&sidecar["ports"]).iter().any(|p| p["containerPort"].as_u64() == port)
            && call.values("metrics-addr").iter().all(|addr| addr.starts_with("0.0.0.0:"))
    })
}

/// A process of another container can be found, and signalled, only in a shared namespace.
fn signals_find_the_process(manifest: &Manifest) -> Vec<String> {
    of_sidecar(manifest, |pod, _, call| {
        let is_shared = pod.spec["shareProcessNamespace"] == true;
        is_shared != call.values("notify-process").is_empty()
    })
}

/// The one sidecar of each pod.
fn of_sidecar(manifest: &Manifest, is_right: impl Fn(&Pod, &Value, &Call) -> bool) -> Vec<String> {
    in_pods(manifest, |pod| {
        let calls = pod.init_containers().iter().filter_map(|c| Some((c, Call::of_container(c)?)));
        match calls.collect::<Vec<_>>().as_slice() {
            [(sidecar, call)] => when(!is_right(pod, sidecar, call), "the sidecar"),
            sidecars => vec![format!("{} sidecars instead of one", sidecars.len())],
        }
    })
}
