//! Parameters of AI Core templates: text that replaces text.

use std::collections::BTreeSet;

use serde_yaml_ng::Value;

use super::{Rule, when};
use crate::templates::manifest::{HOSTILE, Manifest, fill, placeholders, read};

pub const RULES: &[Rule] = &[
    ("parameters_are_strings", parameters_are_strings),
    ("parameters_are_declared_and_used", parameters_are_declared_and_used),
    ("parameters_are_quoted", parameters_are_quoted),
    ("no_parameter_is_in_a_script", no_parameter_is_in_a_script),
    ("blocks_are_text", blocks_are_text),
];

/// There is no other type, and a default is a text, too.
fn parameters_are_strings(manifest: &Manifest) -> Vec<String> {
    let is_typed = manifest.kind() == "ServingTemplate";
    let parameters = manifest.parameters().iter();
    parameters
        .filter(|parameter| {
            let has_type = parameter["type"] == "string";
            !parameter["default"].is_string()
                || (if is_typed { !has_type } else { !parameter["type"].is_null() })
        })
        .map(|parameter| format!("parameter {:?}", parameter["name"]))
        .collect()
}

fn parameters_are_declared_and_used(manifest: &Manifest) -> Vec<String> {
    let names = manifest.parameters().iter().filter_map(|p| p["name"].as_str().map(str::to_owned));
    let declared: BTreeSet<_> = names.collect();
    let blocks = manifest.blocks();
    let used: BTreeSet<_> = blocks.iter().flat_map(|block| placeholders(&block.text)).collect();
    let mut wrong: Vec<_> =
        declared.symmetric_difference(&used).map(|name| format!("parameter {name}")).collect();
    // Every other placeholder is a mistake: nothing would replace it.
    for block in blocks {
        let is_other = block.text.matches("{{").count() != placeholders(&block.text).len();
        wrong.extend(when(is_other, format!("{}: an unknown placeholder", block.name)));
    }
    wrong
}

/// Whatever the value, the block has the same structure, and the value is text in it.
fn parameters_are_quoted(manifest: &Manifest) -> Vec<String> {
    const MARK: &str = "mark";
    let mut wrong = Vec::new();
    for block in manifest.blocks() {
        for name in placeholders(&block.text) {
            let with = |value: &str| {
                read(&fill(&block.text, |other| if other == name { value } else { "other" }))
            };
            let marked = with(MARK).map(|document| text_of(&document)).ok();
            for value in HOSTILE {
                let expected = marked.as_ref().map(|text| text.replace(MARK, value));
                if with(value).map(|document| text_of(&document)).ok() != expected
                    || expected.is_none()
                {
                    wrong.push(format!("{}: {name} = {value:?}", block.name));
                }
            }
        }
    }
    wrong
}

/// A document in which text cannot be taken for anything else.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => format!("text({text})"),
        Value::Sequence(items) => format!("{:?}", items.iter().map(text_of).collect::<Vec<_>>()),
        Value::Mapping(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| (text_of(key), text_of(value)));
            format!("{:?}", pairs.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
    // `{:?}` of text escapes, and the values have nothing to escape but this.
    .replace('\\', "")
}

/// A value in a script is a part of the script.
fn no_parameter_is_in_a_script(manifest: &Manifest) -> Vec<String> {
    let lines = manifest.text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let is_script = |line: &&str| line.contains("exec ") || line.contains(" -c ");
    let scripts = lines.filter(is_script).filter(|line| line.contains("{{"));
    scripts.map(str::to_owned).collect()
}

/// What AI Core fills in is text, which happens to be YAML.
fn blocks_are_text(manifest: &Manifest) -> Vec<String> {
    if manifest.kind() != "ServingTemplate" {
        return Vec::new();
    }
    let template = &manifest.document["spec"]["template"];
    let metadata = &template["metadata"];
    let blocks = [
        ("spec", &template["spec"], true),
        ("labels", &metadata["labels"], true),
        ("annotations", &metadata["annotations"], false),
    ];
    let is_wrong = |(_, block, is_needed): &(&str, &Value, bool)| {
        !block.is_string() && (*is_needed || !block.is_null())
    };
    blocks.into_iter().filter(is_wrong).map(|(name, ..)| name.to_owned()).collect()
}
