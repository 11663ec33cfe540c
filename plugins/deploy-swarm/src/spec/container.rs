//! The container of a task, and what surrounds it.

use serde_json::{Map, Value as Json, json};

use super::values::{bytes, mode, nanos, number, text};
use super::{Desired, Ids, NAMESPACE};

/// The `ContainerSpec`.
pub(super) fn specification(desired: &Desired<'_>, service: &Json, ids: &Ids) -> Json {
    let environment = service["environment"].as_object();
    let variables: Option<Vec<String>> = environment.map(|environment| {
        environment.iter().map(|(name, value)| format!("{name}={}", text(value).unwrap_or_default())).collect()
    });
    let file = |reference: &Json, known: &str, kind: &str, default: String| {
        json!({
            format!("{kind}ID"): ids.get(known),
            format!("{kind}Name"): known,
            "File": {
                "Name": text(&reference["target"]).unwrap_or(default),
                "UID": text(&reference["uid"]).unwrap_or_else(|| "0".to_owned()),
                "GID": text(&reference["gid"]).unwrap_or_else(|| "0".to_owned()),
                "Mode": mode(&reference["mode"]).unwrap_or(0o444),
            },
        })
    };
    let source = |reference: &Json| text(&reference["source"]).unwrap_or_default();
    let configs = list(&service["configs"], |config| {
        let name = source(config);
        file(config, &desired.config_name(&name), "Config", format!("/{name}"))
    });
    let secrets = list(&service["secrets"], |secret| {
        let name = source(secret);
        file(secret, &desired.secret_name(&name), "Secret", name.clone())
    });
    json!({
        "Image": service["image"],
        "Command": service["entrypoint"],
        "Args": service["command"],
        "Env": variables,
        "Labels": service["labels"].as_object().cloned().unwrap_or_default(),
        "Hostname": service["hostname"],
        "User": text(&service["user"]),
        "Dir": service["working_dir"],
        "Init": service["init"],
        "ReadOnly": service["read_only"],
        "StopSignal": service["stop_signal"],
        "StopGracePeriod": nanos(&service["stop_grace_period"]),
        "Healthcheck": healthcheck(&service["healthcheck"]),
        "Hosts": hosts(&service["extra_hosts"]),
        "Mounts": list(&service["volumes"], |mount| self::mount(desired, mount)),
        "Configs": configs,
        "Secrets": secrets,
        "CapabilityAdd": service["cap_add"],
        "CapabilityDrop": service["cap_drop"],
    })
}

fn list(values: &Json, convert: impl Fn(&Json) -> Json) -> Json {
    values.as_array().map_or(Json::Null, |values| values.iter().map(convert).collect())
}

fn healthcheck(check: &Json) -> Json {
    if check.is_null() {
        return Json::Null;
    }
    let test = if check["disable"] == true { json!(["NONE"]) } else { check["test"].clone() };
    json!({
        "Test": test,
        "Interval": nanos(&check["interval"]),
        "Timeout": nanos(&check["timeout"]),
        "StartPeriod": nanos(&check["start_period"]),
        "StartInterval": nanos(&check["start_interval"]),
        "Retries": number(&check["retries"]),
    })
}

/// Names of hosts, which the engine wants as lines of `/etc/hosts`.
fn hosts(extra: &Json) -> Json {
    let line = |name: &str, address: &str| Json::String(format!("{} {}", address.trim(), name.trim()));
    match extra {
        Json::Object(map) => map.iter().map(|(name, address)| line(name, &text(address).unwrap_or_default())).collect(),
        Json::Array(items) => items
            .iter()
            .filter_map(Json::as_str)
            .filter_map(|item| item.split_once('=').or_else(|| item.split_once(':')))
            .map(|(name, address)| line(name, address))
            .collect(),
        _ => Json::Null,
    }
}

fn mount(desired: &Desired<'_>, mount: &Json) -> Json {
    let source = text(&mount["source"]);
    match text(&mount["type"]).as_deref() {
        Some("volume") => {
            let declared = source.as_deref().map(|source| desired.volume(source)).unwrap_or_default();
            let mut labels: Map<String, Json> = declared["labels"].as_object().cloned().unwrap_or_default();
            labels.insert(NAMESPACE.to_owned(), desired.stack.into());
            let driver = text(&declared["driver"]);
            let driver = (driver.is_some() || !declared["driver_opts"].is_null()).then(
                || json!({ "Name": driver.unwrap_or_else(|| "local".to_owned()), "Options": declared["driver_opts"] }),
            );
            json!({
                "Type": "volume",
                "Source": source.map(|source| desired.volume_name(&source)),
                "Target": mount["target"],
                "ReadOnly": mount["read_only"],
                "VolumeOptions": { "NoCopy": mount["volume"]["nocopy"], "Labels": labels, "DriverConfig": driver },
            })
        }
        kind => json!({
            "Type": kind,
            "Source": source,
            "Target": mount["target"],
            "ReadOnly": mount["read_only"],
            "TmpfsOptions": (kind == Some("tmpfs")).then(|| json!({ "SizeBytes": bytes(&mount["tmpfs"]["size"]) })),
        }),
    }
}

/// Limits and reservations.
pub(super) fn resources(resources: &Json) -> Json {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "processors are a small positive number"
    )]
    let processors = |table: &Json| super::values::ratio(&table["cpus"]).map(|count| (count * 1e9) as u64);
    let of = |table: &Json| match table.is_null() {
        true => Json::Null,
        false => json!({
            "NanoCPUs": processors(table), "MemoryBytes": bytes(&table["memory"]), "Pids": number(&table["pids"]),
        }),
    };
    match resources.is_null() {
        true => Json::Null,
        false => json!({ "Limits": of(&resources["limits"]), "Reservations": of(&resources["reservations"]) }),
    }
}

/// What happens when a task ends.
pub(super) fn restart_policy(policy: &Json) -> Json {
    if policy.is_null() {
        return Json::Null;
    }
    json!({
        "Condition": policy["condition"],
        "Delay": nanos(&policy["delay"]),
        "MaxAttempts": number(&policy["max_attempts"]),
        "Window": nanos(&policy["window"]),
    })
}

/// Where tasks may run.
pub(super) fn placement(placement: &Json) -> Json {
    if placement.is_null() {
        return Json::Null;
    }
    let spread = |preference: &Json| json!({ "Spread": { "SpreadDescriptor": preference["spread"] } });
    json!({
        "Constraints": placement["constraints"],
        "Preferences": list(&placement["preferences"], spread),
        "MaxReplicas": number(&placement["max_replicas_per_node"]),
    })
}

/// Where logs go.
pub(super) fn log_driver(logging: &Json) -> Json {
    if logging.is_null() {
        return Json::Null;
    }
    json!({ "Name": logging["driver"], "Options": logging["options"] })
}
