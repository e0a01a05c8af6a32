//! Volumes and mounts: what is watched has to be there, and has to change.

use serde_yaml_ng::Value;

use super::{Rule, in_pods, when};
use crate::templates::command::Call;
use crate::templates::manifest::{Manifest, Pod, items};

pub const RULES: &[Rule] = &[
    ("volume_names_are_dns_labels", volume_names_are_dns_labels),
    ("mounts_refer_to_volumes", mounts_refer_to_volumes),
    ("volumes_are_used", volumes_are_used),
    ("secrets_are_mounted_whole", secrets_are_mounted_whole),
    ("watched_directories_are_mounted_secrets", watched_directories_are_mounted_secrets),
    ("socket_is_on_an_empty_dir_in_memory", socket_is_on_an_empty_dir_in_memory),
];

/// DNS-1123: lower case, digits and hyphens; at most 63, and no hyphen at the ends.
fn volume_names_are_dns_labels(manifest: &Manifest) -> Vec<String> {
    let is_label = |name: &str| {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&name.len())
            && name.bytes().all(is_allowed)
            && !name.starts_with('-')
            && !name.ends_with('-')
    };
    in_pods(manifest, |pod| {
        let names = items(&pod.spec["volumes"]).iter().map(|volume| &volume["name"]);
        let wrong = names.filter(|name| !name.as_str().is_some_and(is_label));
        wrong.map(|name| format!("volume {name:?}")).collect()
    })
}

fn mounts_refer_to_volumes(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let mounts = mounts(pod).filter(|mount| pod.volume(&mount["name"]).is_none());
        mounts.map(|mount| format!("mount of {:?}", mount["name"])).collect()
    })
}

fn volumes_are_used(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let is_used = |volume: &&Value| mounts(pod).any(|mount| mount["name"] == volume["name"]);
        let unused = items(&pod.spec["volumes"]).iter().filter(|volume| !is_used(volume));
        unused.map(|volume| format!("volume {:?}", volume["name"])).collect()
    })
}

/// `subPath` binds one file, which never changes again; and nobody has to write to a secret.
fn secrets_are_mounted_whole(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let secrets = mounts(pod).filter(|mount| is_secret(pod, mount));
        let is_wrong = |mount: &&Value| {
            !mount["subPath"].is_null()
                || !mount["subPathExpr"].is_null()
                || mount["readOnly"] != true
        };
        secrets.filter(is_wrong).map(|mount| format!("mount {:?}", mount["mountPath"])).collect()
    })
}

fn watched_directories_are_mounted_secrets(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let calls = pod.containers().filter_map(|c| Some((c, Call::of_container(c)?)));
        let mut wrong = Vec::new();
        for (container, call) in calls {
            let directories = call.directories();
            wrong.extend(when(directories.is_empty(), "nothing is watched"));
            wrong.extend(directories.into_iter().filter(|directory| {
                let mut mounts = items(&container["volumeMounts"]).iter();
                !mounts.any(|m| m["mountPath"] == directory.as_str() && is_secret(pod, m))
            }));
        }
        wrong
    })
}

/// Elsewhere the user 65534 could not make it, or it would be on a disk.
fn socket_is_on_an_empty_dir_in_memory(manifest: &Manifest) -> Vec<String> {
    in_pods(manifest, |pod| {
        let calls = pod.containers().filter_map(|c| Some((c, Call::of_container(c)?)));
        let is_wrong = |(container, call): &(&Value, Call)| {
            let socket = call.socket();
            let directory = socket.rsplit_once('/').map_or("", |(directory, _)| directory);
            !items(&container["volumeMounts"]).iter().any(|mount| {
                let volume = pod.volume(&mount["name"]);
                mount["mountPath"] == directory
                    && mount["readOnly"] != true
                    && volume.is_some_and(|v| v["emptyDir"]["medium"] == "Memory")
            })
        };
        calls.filter(is_wrong).map(|(_, call)| call.socket()).collect()
    })
}

fn mounts(pod: &Pod) -> impl Iterator<Item = &Value> {
    pod.containers().flat_map(|container| items(&container["volumeMounts"]))
}

fn is_secret(pod: &Pod, mount: &Value) -> bool {
    let volume = pod.volume(&mount["name"]);
    volume.is_some_and(|v| !v["secret"].is_null() || !v["projected"].is_null())
}
