//! Mounts of volumes and folders.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::Power;
use crate::checker::Checker;
use located_yaml::{Node, Value};

/// The mounts of a service, each as a map.
pub(crate) fn mounts(checker: &mut Checker<'_>, node: &Node, key: &str, volumes: &BTreeSet<String>) -> Json {
    let mut mounts = Vec::new();
    for (index, item) in node.items().iter().enumerate() {
        let key = format!("{key}[{index}]");
        let mount = match item.value {
            Value::Map(_) => {
                let known = ["bind", "consistency", "read_only", "source", "target", "tmpfs", "type", "volume"];
                checker.known(item, &key, &known);
                checker.json(item, &key)
            }
            _ => checker.text(item, &key).map_or(Json::Null, |text| parse(&text)),
        };
        check(checker, &mount, item, &key, volumes);
        mounts.push(mount);
    }
    mounts.into()
}

fn check(checker: &mut Checker<'_>, mount: &Json, item: &Node, key: &str, volumes: &BTreeSet<String>) {
    let source = mount["source"].as_str();
    match (mount["type"].as_str(), source) {
        (Some("volume"), Some(source)) => checker.declared(volumes, source, item.place, key, "volumes"),
        (Some("volume" | "tmpfs"), _) | (None, None) => {}
        (_, Some(source)) if !source.starts_with('/') => {
            let message = format!("`{source}` is a folder or file beside the file, which isn't part of the release");
            let help = "declare a file below `configs`, which makes its text a part of the release; use a named volume for data; \
                        or name a folder of the machine by its absolute path";
            checker.refuse(item.place, key, message, help);
        }
        (Some("bind"), _) => {
            let what = format!("`{}` is a folder, file or socket of the machine", source.unwrap_or_default());
            checker.need(Power::HostMounts, item.place, key, &what);
        }
        (kind, _) => {
            let message = format!("mounts of type `{}` aren't supported", kind.unwrap_or_default());
            checker.refuse(item.place, key, message, "use `volume`, `bind` or `tmpfs`");
        }
    }
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn parse(text: &str) -> Json {
    let mut parts = text.splitn(3, ':');
    let (first, second, options) = (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
    let Some(target) = second else { return json!({ "type": "volume", "target": first }) };
    let kind = if first.starts_with(['/', '.', '~']) { "bind" } else { "volume" };
    let mut mount = json!({ "type": kind, "source": first, "target": target });
    if options.split(',').any(|option| option == "ro") {
        mount["read_only"] = true.into();
    }
    if options.split(',').any(|option| option == "nocopy") {
        mount["volume"] = json!({ "nocopy": true });
    }
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_with_a_path_is_a_folder() {
        assert_eq!(parse("/data"), json!({ "type": "volume", "target": "/data" }));
        assert_eq!(
            parse("data:/data:ro,z"),
            json!({ "type": "volume", "source": "data", "target": "/data", "read_only": true })
        );
        for source in ["/etc", "./config", "../x", "~/x"] {
            assert_eq!(parse(&format!("{source}:/x"))["type"], "bind", "{source}");
        }
    }
}
