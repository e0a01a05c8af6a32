//! Each rule, broken once: a rule that cannot be broken would check nothing.

use std::collections::BTreeSet;

use super::manifest::Manifest;
use super::rules::{self, broken};
use super::{rules_for, text};

/// A rule, and a change to a template that breaks it: this text is replaced by that.
type Break = (&'static str, &'static str, &'static str, &'static str);

const SUPERVISOR: &str = "ai-core/serving-supervisor.yaml";
const SIDECAR: &str = "ai-core/serving-sidecar.yaml";
const WORKFLOW: &str = "ai-core/workflow.yaml";
const NATIVE: &str = "kubernetes/native-sidecar.yaml";
const SHARED: &str = "kubernetes/shared-process.yaml";
const PROJECTED: &str = "kubernetes/projected.yaml";

const PARAMETERS: [Break; 11] = [
    ("parameters_are_strings", SUPERVISOR, "type: string", "type: integer"),
    ("parameters_are_strings", SUPERVISOR, "default: starter", "default: 1"),
    ("parameters_are_strings", WORKFLOW, r#"default: "10""#, "default: 10"),
    ("parameters_are_declared_and_used", SIDECAR, "- name: secretwatchImage", "- name: other"),
    ("parameters_are_declared_and_used", SIDECAR, "parameters.image}}", "artifacts.image}}"),
    (
        "parameters_are_quoted",
        SUPERVISOR,
        r#""{{inputs.parameters.secretName}}""#,
        "{{inputs.parameters.secretName}}",
    ),
    (
        "parameters_are_quoted",
        SUPERVISOR,
        r#""--require=db:{{inputs.parameters.requiredKey}}""#,
        "--require=db:{{inputs.parameters.requiredKey}}",
    ),
    (
        "parameters_are_quoted",
        SUPERVISOR,
        r#"resourcePlan: "{{inputs.parameters.resourcePlan}}""#,
        "resourcePlan: {{inputs.parameters.resourcePlan}}",
    ),
    ("no_parameter_is_in_a_script", WORKFLOW, r#""$EPOCHS""#, r#""{{inputs.parameters.epochs}}""#),
    ("blocks_are_text", SIDECAR, "spec: |\n", "spec:\n"),
    ("blocks_are_text", SIDECAR, "labels: |\n", "labels:\n"),
];

const PLATFORM: [Break; 27] = [
    (
        "metadata_is_complete",
        SUPERVISOR,
        "scenarios.ai.sap.com/name:",
        "scenarios.ai.sap.com/title:",
    ),
    ("metadata_is_complete", WORKFLOW, r#"ai.sap.com/version: "1.0""#, "ai.sap.com/version: 1.0"),
    ("resource_plan_is_given", SUPERVISOR, "ai.sap.com/resourcePlan:", "ai.sap.com/plan:"),
    ("resource_plan_is_given", WORKFLOW, "resourcePlan: starter", r#"resourcePlan: """#),
    ("labels_and_annotations_are_text", SUPERVISOR, r#"target: "10""#, "target: 10"),
    ("app_is_first_and_has_its_name", SIDECAR, "name: kserve-container", "name: app"),
    (
        "only_the_app_has_a_port",
        SUPERVISOR,
        "- containerPort: 8080\n",
        "- containerPort: 9180\n              - containerPort: 8080\n",
    ),
    (
        "only_the_app_has_a_port",
        SIDECAR,
        "            command:\n",
        "            ports: [{containerPort: 9180}]\n            command:\n",
    ),
    ("ports_are_not_reserved", SUPERVISOR, "containerPort: 8080", "containerPort: 8012"),
    ("ports_are_not_reserved", SUPERVISOR, "127.0.0.1:9180", "127.0.0.1:9090"),
    ("ports_are_not_reserved", SIDECAR, "127.0.0.1:9180", "127.0.0.1:15020"),
    (
        "only_the_app_has_probes",
        SIDECAR,
        "            command:\n",
        "            livenessProbe: {exec: {command: [a]}}\n            command:\n",
    ),
    (
        "only_the_app_has_hooks",
        SIDECAR,
        "            command:\n",
        "            lifecycle: {preStop: {exec: {command: [a]}}}\n            command:\n",
    ),
    (
        "no_init_container",
        SIDECAR,
        "        volumes:\n",
        "        initContainers: [{name: a, image: b}]\n        volumes:\n",
    ),
    (
        "no_native_sidecar",
        SIDECAR,
        "            command:\n",
        "            restartPolicy: Always\n            command:\n",
    ),
    (
        "no_shared_processes",
        SIDECAR,
        "        volumes:\n",
        "        shareProcessNamespace: true\n        volumes:\n",
    ),
    (
        "no_pod_security_context",
        SIDECAR,
        "        volumes:\n",
        "        securityContext: {fsGroup: 65534}\n        volumes:\n",
    ),
    (
        "no_termination_grace_period",
        SUPERVISOR,
        "        volumes:\n",
        "        terminationGracePeriodSeconds: 60\n        volumes:\n",
    ),
    (
        "no_field_of_the_pod_in_a_variable",
        SIDECAR,
        "            env:\n",
        "            env:\n              - {name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n",
    ),
    ("user_is_that_of_the_platform", SIDECAR, "readOnlyRootFilesystem: true", "runAsUser: 1000"),
    ("user_is_that_of_the_platform", SIDECAR, "readOnlyRootFilesystem: true", "runAsGroup: 0"),
    (
        "user_is_that_of_the_platform",
        SIDECAR,
        "readOnlyRootFilesystem: true",
        "runAsNonRoot: false",
    ),
    ("user_is_that_of_the_platform", SIDECAR, "readOnlyRootFilesystem: true", "privileged: true"),
    (
        "user_is_that_of_the_platform",
        SIDECAR,
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: true",
    ),
    (
        "user_is_that_of_the_platform",
        SIDECAR,
        "readOnlyRootFilesystem: true",
        "capabilities: {add: [KILL]}",
    ),
    (
        "workflow_runs_a_shell",
        WORKFLOW,
        r#"["/bin/sh", "-c"]"#,
        r#"["/usr/local/bin/secretwatch"]"#,
    ),
    (
        "workflow_runs_a_shell",
        WORKFLOW,
        "          - exec ",
        "          - set -e\n          - exec ",
    ),
];

const MOUNTS: [Break; 15] = [
    (
        "volume_names_are_dns_labels",
        SUPERVISOR,
        "          - name: socket\n            emptyDir",
        "          - name: my.socket\n            emptyDir",
    ),
    (
        "volume_names_are_dns_labels",
        WORKFLOW,
        "        - name: secret\n          secret:",
        "        - name: MY_SECRET\n          secret:",
    ),
    (
        "volume_names_are_dns_labels",
        NATIVE,
        "        - name: socket\n          emptyDir",
        "        - name: -socket\n          emptyDir",
    ),
    (
        "mounts_refer_to_volumes",
        SIDECAR,
        "          - name: socket\n            emptyDir",
        "          - name: other\n            emptyDir",
    ),
    (
        "mounts_refer_to_volumes",
        PROJECTED,
        "        - name: secrets\n          projected",
        "        - name: other\n          projected",
    ),
    (
        "volumes_are_used",
        NATIVE,
        "      volumes:\n",
        "      volumes:\n        - {name: other, emptyDir: {}}\n",
    ),
    (
        "secrets_are_mounted_whole",
        SUPERVISOR,
        "readOnly: true",
        "readOnly: true\n                subPath: key",
    ),
    (
        "secrets_are_mounted_whole",
        PROJECTED,
        "readOnly: true",
        "readOnly: true\n              subPathExpr: key",
    ),
    ("secrets_are_mounted_whole", NATIVE, "readOnly: true", "readOnly: false"),
    (
        "watched_directories_are_mounted_secrets",
        SUPERVISOR,
        "--volume=db=/etc/my-generic-secret",
        "--volume=db=/etc/other",
    ),
    (
        "watched_directories_are_mounted_secrets",
        WORKFLOW,
        "value: db=/etc/my-generic-secret",
        "value: db=/etc/my-generic-secret/",
    ),
    (
        "watched_directories_are_mounted_secrets",
        NATIVE,
        "--volume=db=/etc/my-generic-secret",
        "--volume=db=/run/secretwatch",
    ),
    ("socket_is_on_an_empty_dir_in_memory", SUPERVISOR, "- --signal=HUP", "- --socket=/var/s.sock"),
    ("socket_is_on_an_empty_dir_in_memory", SIDECAR, "medium: Memory", "medium: Disk"),
    (
        "socket_is_on_an_empty_dir_in_memory",
        NATIVE,
        "              mountPath: /run/secretwatch\n",
        "              mountPath: /run/secretwatch\n              readOnly: true\n",
    ),
];

const KUBERNETES: [Break; 22] = [
    (
        "selector_matches_the_labels",
        NATIVE,
        "app.kubernetes.io/name: my-app\n  template",
        "app.kubernetes.io/name: other\n  template",
    ),
    ("all_containers_have_one_user", NATIVE, "runAsUser: 65534", "runAsUser: 1000"),
    (
        "all_containers_have_one_user",
        SHARED,
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: true\n            runAsUser: 0",
    ),
    ("all_containers_have_one_user", PROJECTED, "runAsNonRoot: true", "runAsNonRoot: false"),
    ("privileges_are_dropped", NATIVE, "type: RuntimeDefault", "type: Unconfined"),
    ("privileges_are_dropped", NATIVE, "drop: [ALL]", "drop: [CHOWN]"),
    ("privileges_are_dropped", SHARED, "drop: [ALL]", "drop: [ALL]\n              add: [KILL]"),
    (
        "privileges_are_dropped",
        PROJECTED,
        "allowPrivilegeEscalation: false",
        "allowPrivilegeEscalation: true",
    ),
    ("sidecar_starts_before_the_app", NATIVE, "restartPolicy: Always", "restartPolicy: Never"),
    ("sidecar_starts_before_the_app", NATIVE, "startupProbe:", "readinessProbe:"),
    (
        "sidecar_starts_before_the_app",
        NATIVE,
        "[/secretwatch, healthcheck]",
        "[/bin/sh, -c, healthcheck]",
    ),
    (
        "sidecar_writes_to_nothing_but_its_socket",
        NATIVE,
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
    ),
    ("sidecar_writes_to_nothing_but_its_socket", SHARED, "readOnly: true", "readOnly: false"),
    ("sidecar_asks_for_little", NATIVE, "memory: 16Mi", "memory: 64Mi"),
    ("sidecar_asks_for_little", SHARED, "memory: 32Mi", "memory: 128Mi"),
    ("sidecar_asks_for_little", PROJECTED, "memory: 32Mi", "memory: 32Mi\n              cpu: 10m"),
    ("annotations_point_to_the_metrics", NATIVE, r#"port: "9180""#, r#"port: "9181""#),
    ("annotations_point_to_the_metrics", SHARED, "containerPort: 9180", "containerPort: 9181"),
    ("annotations_point_to_the_metrics", PROJECTED, "0.0.0.0:9180", "127.0.0.1:9180"),
    ("annotations_point_to_the_metrics", PROJECTED, "path: /metrics", "path: /"),
    (
        "signals_find_the_process",
        SHARED,
        "shareProcessNamespace: true",
        "shareProcessNamespace: false",
    ),
    (
        "signals_find_the_process",
        NATIVE,
        "automountServiceAccountToken",
        "shareProcessNamespace: true\n      automountServiceAccountToken",
    ),
];

fn breaks() -> impl Iterator<Item = Break> {
    PARAMETERS.into_iter().chain(PLATFORM).chain(MOUNTS).chain(KUBERNETES)
}

#[test]
fn broken_template_breaks_the_rule_that_is_about_it() {
    for (rule, path, from, to) in breaks() {
        let original = text(path);
        let at = original.find(from).unwrap_or_else(|| panic!("{path} has no {from:?}"));
        let changed = format!("{}{to}{}", &original[..at], &original[at + from.len()..]);
        let found = match Manifest::parse(&changed) {
            Ok(manifest) => broken(&rules_for(path), &manifest),
            Err(error) => panic!("{path} with {to:?}: {error}"),
        };
        let is_found = found.iter().any(|(name, _)| *name == rule);
        assert!(is_found, "{path} with {to:?} does not break {rule}, but {found:?}");
    }
}

#[test]
fn every_rule_is_broken_once() {
    let tables = [
        rules::parameter::RULES,
        rules::ai_core::RULES,
        rules::mount::RULES,
        rules::kubernetes::RULES,
    ];
    let all: BTreeSet<_> = tables.into_iter().flatten().map(|(name, _)| *name).collect();
    let broken: BTreeSet<_> = breaks().map(|(name, ..)| name).collect();
    assert_eq!(broken, all);
}
