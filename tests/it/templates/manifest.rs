//! A template as the platform reads it: parameters filled in as text, then YAML, then pods.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

/// What a value may be that somebody gives for a parameter: text that YAML would take for something
/// else where the placeholder is not quoted.
pub const HOSTILE: [&str; 9] =
    ["12", "1e3", "true", "~", "a: b", "a #b", "[a", "*a", " - yes, 'no' & {more} "];

/// Where one parameter goes: text with placeholders.
pub struct Block {
    pub name: &'static str,
    pub text: String,
}

/// One pod of a template, however deep it is in there.
pub struct Pod {
    pub labels: Value,
    pub annotations: Value,
    /// With `containers`, `volumes` and so on.
    pub spec: Value,
}

impl Pod {
    /// The containers that run all the time, and those before them.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        self.init_containers().iter().chain(items(&self.spec["containers"]))
    }

    pub fn init_containers(&self) -> &[Value] {
        items(&self.spec["initContainers"])
    }

    pub fn volume(&self, name: &Value) -> Option<&Value> {
        items(&self.spec["volumes"]).iter().find(|volume| volume["name"] == *name)
    }
}

/// One document of a template.
pub struct Manifest {
    pub text: String,
    pub document: Value,
}

impl Manifest {
    /// The only document of a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let documents: Result<Vec<_>, _> =
            Deserializer::from_str(text).map(Value::deserialize).collect();
        match documents.map_err(|error| error.to_string())?.as_slice() {
            [document] => Ok(Self { text: text.to_owned(), document: document.clone() }),
            documents => Err(format!("{} documents instead of one", documents.len())),
        }
    }

    pub fn kind(&self) -> &str {
        self.document["kind"].as_str().unwrap_or_default()
    }

    /// The declared parameters, as they stand there.
    pub fn parameters(&self) -> &[Value] {
        let inputs = match self.kind() {
            "WorkflowTemplate" => &self.document["spec"]["arguments"],
            _ => &self.document["spec"]["inputs"],
        };
        items(&inputs["parameters"])
    }

    /// The texts that the platform replaces placeholders in.
    pub fn blocks(&self) -> Vec<Block> {
        let template = &self.document["spec"]["template"];
        let metadata = &template["metadata"];
        let block = |name, text: &str| Block { name, text: text.to_owned() };
        match self.kind() {
            "ServingTemplate" => [
                ("labels", &metadata["labels"]),
                ("annotations", &metadata["annotations"]),
                ("spec", &template["spec"]),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some(block(name, value.as_str()?)))
            .collect(),
            "WorkflowTemplate" => vec![block("workflow", &self.text)],
            _ => Vec::new(),
        }
    }

    /// The pods, with the default of every parameter.
    pub fn pods(&self) -> Result<Vec<Pod>, String> {
        let defaults: BTreeMap<_, _> = self
            .parameters()
            .iter()
            .filter_map(|p| Some((p["name"].as_str()?, p["default"].as_str()?)))
            .collect();
        self.pods_with(|name| defaults.get(name).copied().unwrap_or_default())
    }

    fn pods_with<'a>(&self, value: impl Fn(&str) -> &'a str) -> Result<Vec<Pod>, String> {
        let mut blocks = BTreeMap::new();
        for block in self.blocks() {
            let parsed = read(&fill(&block.text, &value));
            blocks.insert(block.name, parsed.map_err(|e| format!("{}: {e}", block.name))?);
        }
        let mut take = |name| blocks.remove(name).unwrap_or_default();
        Ok(match self.kind() {
            "ServingTemplate" => vec![Pod {
                labels: take("labels"),
                annotations: take("annotations"),
                spec: take("spec")["predictor"].clone(),
            }],
            "WorkflowTemplate" => steps(&take("workflow")["spec"]),
            _ => {
                let template = &self.document["spec"]["template"];
                vec![Pod {
                    labels: template["metadata"]["labels"].clone(),
                    annotations: template["metadata"]["annotations"].clone(),
                    spec: template["spec"].clone(),
                }]
            }
        })
    }
}

/// The pods of a workflow: one for each template with a container.
fn steps(workflow: &Value) -> Vec<Pod> {
    let steps = items(&workflow["templates"]).iter().filter(|step| !step["container"].is_null());
    steps
        .map(|step| {
            let mut spec = step.clone();
            let containers = std::iter::once(&step["container"]).chain(items(&step["sidecars"]));
            spec["containers"] = Value::Sequence(containers.cloned().collect());
            Pod {
                labels: step["metadata"]["labels"].clone(),
                annotations: step["metadata"]["annotations"].clone(),
                spec,
            }
        })
        .collect()
}

/// Replaces every placeholder, as text.
pub fn fill<'a>(text: &str, value: impl Fn(&str) -> &'a str) -> String {
    let mut filled = text.to_owned();
    for name in placeholders(text) {
        filled = filled.replace(&format!("{{{{inputs.parameters.{name}}}}}"), value(&name));
    }
    filled
}

/// The names between `{{inputs.parameters.` and `}}`.
pub fn placeholders(text: &str) -> Vec<String> {
    let parts = text.split("{{inputs.parameters.").skip(1);
    parts.map(|part| part.split("}}").next().unwrap_or_default().to_owned()).collect()
}

pub fn read(text: &str) -> Result<Value, String> {
    serde_yaml_ng::from_str(text).map_err(|error| error.to_string())
}

/// The elements of a list, none where there is no list.
pub fn items(value: &Value) -> &[Value] {
    value.as_sequence().map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub fn words(value: &Value) -> Vec<String> {
    items(value).iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}
