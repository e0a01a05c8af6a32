//! What SAP AI Core, KServe and Knative refuse.

use serde_yaml_ng::Value;

use super::{PROBES, Rule, in_pods, when};
use crate::templates::command::Call;
use crate::templates::manifest::{Manifest, items, words};

pub const RULES: &[Rule] = &[
    ("metadata_is_complete", metadata_is_complete),
    ("resource_plan_is_given", resource_plan_is_given),
    ("labels_and_annotations_are_text", labels_and_annotations_are_text),
    ("app_is_first_and_has_its_name", app_is_first_and_has_its_name),
    ("only_the_app_has_a_port", only_the_app_has_a_port),
    ("ports_are_not_reserved", ports_are_not_reserved),
    ("only_the_app_has_probes", only_the_app_has_probes),
    ("only_the_app_has_hooks", only_the_app_has_hooks),
    ("no_init_container", no_init_container),
    ("no_native_sidecar", no_native_sidecar),
    ("no_shared_processes", no_shared_processes),
    ("no_pod_security_context", no_pod_security_context),
    ("no_termination_grace_period", no_termination_grace_period),
    ("no_field_of_the_pod_in_a_variable", no_field_of_the_pod_in_a_variable),
    ("user_is_that_of_the_platform", user_is_that_of_the_platform),
    ("workflow_runs_a_shell", workflow_runs_a_shell),
];

/// The user and group of every container there.
const USER: u64 = 65534;

/// Ports of Knative's and Istio's own containers.
fn is_reserved(port: u64) -> bool {
    [8008, 8012, 8013, 8022, 8112, 9090, 9091].contains(&port) || (15000..16000).contains(&port)
}

/// Without these the AI API does not find scenario and executable.
fn metadata_is_complete(manifest: &Manifest) -> Vec<String> {
    let metadata = &manifest.document["metadata"];
    let needed = [
        ("name", &metadata["name"]),
        ("scenario's name", &metadata["annotations"]["scenarios.ai.sap.com/name"]),
        ("executable's name", &metadata["annotations"]["executables.ai.sap.com/name"]),
        ("scenario's id", &metadata["labels"]["scenarios.ai.sap.com/id"]),
        ("version", &metadata["labels"]["ai.sap.com/version"]),
    ];
    let missing = needed.into_iter().filter(|(_, value)| value.as_str().is_none_or(str::is_empty));
    missing.map(|(what, _)| format!("{what} is no text")).collect()
}

fn resource_plan_is_given(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let plan = pod.labels["ai.sap.com/resourcePlan"].as_str();
        when(plan.is_none_or(str::is_empty), "no label ai.sap.com/resourcePlan")
    })
}

fn labels_and_annotations_are_text(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let maps = [&pod.labels, &pod.annotations].into_iter().filter_map(Value::as_mapping);
        let wrong = maps.flatten().filter(|(_, value)| !value.is_string());
        wrong.map(|(key, _)| format!("{key:?}")).collect()
    })
}

fn app_is_first_and_has_its_name(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let is_app = |container: &Value| container["name"] == "kserve-container";
        let is_first = items(&pod.spec["containers"]).first().is_some_and(is_app);
        when(is_serving(manifest) && !is_first, "kserve-container is not the first container")
    })
}

/// One port altogether, and not on another container.
fn only_the_app_has_a_port(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let containers = items(&pod.spec["containers"]).iter();
        let ports: Vec<_> = containers.map(|c| items(&c["ports"]).len()).collect();
        let expected = usize::from(is_serving(manifest));
        let is_right = ports.first() == Some(&expected) && ports[1..].iter().all(|n| *n == 0);
        when(!is_right, format!("ports of the containers: {ports:?}"))
    })
}

fn ports_are_not_reserved(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let of_container = |container: &Value| {
            let ports = items(&container["ports"]).iter().map(|p| p["containerPort"].as_u64());
            let metrics = Call::of_container(container).and_then(|call| call.metrics_port());
            ports.flatten().chain(metrics).collect::<Vec<_>>()
        };
        let ports = pod.containers().flat_map(of_container);
        ports.filter(|port| is_reserved(*port)).map(|port| format!("port {port}")).collect()
    })
}

fn only_the_app_has_probes(manifest: &Manifest) -> Vec<String> {
    of_other_containers(manifest, |container| {
        PROBES.iter().any(|probe| !container[*probe].is_null())
    })
}

/// `preStop`, and `postStart` with it.
fn only_the_app_has_hooks(manifest: &Manifest) -> Vec<String> {
    of_other_containers(manifest, |container| !container["lifecycle"].is_null())
}

fn no_init_container(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| when(!pod.spec["initContainers"].is_null(), "initContainers"))
}

fn no_native_sidecar(manifest: &Manifest) -> Vec<String> {
    of_containers(manifest, |container| !container["restartPolicy"].is_null())
}

fn no_shared_processes(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        when(!pod.spec["shareProcessNamespace"].is_null(), "shareProcessNamespace")
    })
}

/// `fsGroup` is a part of it.
fn no_pod_security_context(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| when(!pod.spec["securityContext"].is_null(), "securityContext"))
}

fn no_termination_grace_period(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let period = &pod.spec["terminationGracePeriodSeconds"];
        when(!period.is_null(), "terminationGracePeriodSeconds")
    })
}

fn no_field_of_the_pod_in_a_variable(manifest: &Manifest) -> Vec<String> {
    of_containers(manifest, |container| {
        let has_field = |v: &Value| !v["valueFrom"]["fieldRef"].is_null();
        items(&container["env"]).iter().any(has_field)
    })
}

/// Everything else is refused, or overridden.
fn user_is_that_of_the_platform(manifest: &Manifest) -> Vec<String> {
    of_containers(manifest, |container| {
        let context = &container["securityContext"];
        let is_other = |id: &Value| !id.is_null() && *id != USER;
        is_other(&context["runAsUser"])
            || is_other(&context["runAsGroup"])
            || context["runAsNonRoot"] == false
            || context["privileged"] == true
            || context["allowPrivilegeEscalation"] == true
            || !context["capabilities"]["add"].is_null()
    })
}

/// `command` is this and `args` is the script; the image's entry point is ignored.
fn workflow_runs_a_shell(manifest: &Manifest) -> Vec<String> {
    if is_serving(manifest) {
        return Vec::new();
    }
    of_containers(manifest, |container| {
        words(&container["command"]) != ["/bin/sh", "-c"] || words(&container["args"]).len() != 1
    })
}

fn is_serving(manifest: &Manifest) -> bool {
    manifest.kind() == "ServingTemplate"
}

fn of_containers(manifest: &Manifest, is_wrong: impl Fn(&Value) -> bool) -> Vec<String> {
    in_pods(manifest, |pod| {
        let wrong = pod.containers().filter(|container| is_wrong(container));
        wrong.map(|container| format!("container {:?}", container["name"])).collect()
    })
}

fn of_other_containers(manifest: &Manifest, is_wrong: impl Fn(&Value) -> bool) -> Vec<String> {
    in_pods(manifest, |pod| {
        let wrong = items(&pod.spec["containers"]).iter().skip(1).filter(|c| is_wrong(c));
        wrong.map(|container| format!("container {:?}", container["name"])).collect()
    })
}
