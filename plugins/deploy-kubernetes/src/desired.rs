//! The objects that a release consists of, ready to be applied, and without what marks them as those of one deploy.

use std::collections::BTreeMap;

use kubernetes::{Cluster, Object, Origin, Schema, containers, mark_name, rank};
use rollout::{Rolling, Strategy};
use serde_json::{Value as Json, json};
use stagewright_sdk::{Error, Result, log, secrets, workspace};

use crate::config::Config;
use crate::{beside, configuration, images, render};

/// Reads, completes and checks the objects of a release. Nothing of the cluster decides about them but its kinds.
pub(crate) fn objects(config: &Config, cluster: &Cluster) -> Result<Vec<Object>> {
    let (mut objects, mut problems) = written(config)?;
    let secrets: Vec<Object> = config.secrets.iter().map(|(name, keys)| secret(name, keys)).collect();
    objects.extend(secrets);
    problems.extend(place(&mut objects, config, cluster)?);
    problems.extend(duplicates(&objects));
    if let Some(strategy) = &config.strategy {
        problems.extend(objects.iter_mut().filter_map(|object| follow(object, strategy)));
    }
    problems.extend(objects.iter().filter_map(|object| outlasts(object, config)));
    if let Some(strategy) = &config.strategy {
        problems.extend(beside::set_apart(&mut objects, strategy, config.traffic.as_ref()));
    }
    kubernetes::none_of(problems)?;
    // A Job can't be changed, so that each release has one of its own.
    for job in objects.iter_mut().filter(|object| object.kind() == "Job") {
        mark_name(&mut job.json["metadata"]["name"]);
    }
    objects.iter_mut().for_each(|object| name_protocols(&mut object.json));
    configuration::name_by_content(&mut objects);
    configuration::name_secrets(&mut objects, config.secrets.keys());
    objects.sort_by_key(|object| rank(object.kind()));
    Ok(objects)
}

/// The objects of a release as texts by name, for comparisons. They lack what only the cluster knows.
pub(crate) fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
    let (objects, problems) = written(config)?;
    kubernetes::none_of(problems)?;
    let secrets = config.secrets.iter().map(|(name, keys)| (format!("secret/{name}"), json!({ "secrets": keys })));
    let name = |object: &Object| format!("{}/{}", object.kind().to_ascii_lowercase(), object.name());
    let objects = objects.into_iter().map(|object| (name(&object), object.json));
    objects.chain(secrets).map(|(name, json)| Ok((name, serde_json::to_string_pretty(&json)?))).collect()
}

/// Checks the objects against the cluster's own description of its API, if it gives that away.
///
/// # Errors
/// If the cluster wouldn't accept them.
pub(crate) fn check(config: &Config, cluster: &Cluster) -> Result<()> {
    match cluster.schema() {
        Ok(schema) => conform(config, &render::objects(config)?, &schema),
        Err(error) => {
            log::warn(format!("the objects can't be checked against the cluster's description of its API: {error}"));
            Ok(())
        }
    }
}

/// The objects as they are written, with their images, and what is wrong with them.
fn written(config: &Config) -> Result<(Vec<Object>, Vec<Error>)> {
    let mut objects = render::objects(config)?;
    if let Some(file) = &config.schema {
        let schema = Schema::parse(file, &workspace::read(file)?).map_err(|error| {
            Error::invalid(format!("it doesn't describe the API of a cluster: {error}"))
                .file(file, None)
                .help(format!("create it: kubectl get --raw /openapi/v2 > {file}"))
        })?;
        conform(config, &objects, &schema)?;
    }
    let mut problems = images::pin(&mut objects, &config.images);
    problems.extend(objects.iter().flat_map(|object| kubernetes::problems(object, &config.allow)));
    Ok((objects, problems))
}

/// Refuses objects that the schema doesn't allow. Of a workload whose images alone change, nothing else is known.
fn conform(config: &Config, objects: &[Object], schema: &Schema) -> Result<()> {
    match config.workload {
        Some(_) => Ok(()),
        None => kubernetes::none_of(objects.iter().flat_map(|object| schema.problems(object)).collect()),
    }
}

/// A Secret whose values the host writes when it is applied.
fn secret(name: &str, keys: &BTreeMap<String, String>) -> Object {
    let values: BTreeMap<&String, String> =
        keys.iter().map(|(key, secret)| (key, secrets::placeholder(secret))).collect();
    let json = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": values });
    Object { json, origin: Origin::default() }
}

/// Gives each object that has to be in a namespace one. Returns those whose kind the cluster doesn't have.
fn place(objects: &mut [Object], config: &Config, cluster: &Cluster) -> Result<Vec<Error>> {
    let mut problems = Vec::new();
    for object in objects {
        let is_namespaced = match cluster.is_namespaced(object.api_version(), object.kind()) {
            Ok(is_namespaced) => is_namespaced,
            Err(error) if error.code == stagewright_sdk::ErrorCode::InvalidArgument => {
                let help = error.help.clone().unwrap_or_default();
                problems.push(object.error("/apiVersion", &error.message).help(help));
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(metadata) = object.json["metadata"].as_object_mut() else { continue };
        match is_namespaced {
            true if !metadata.contains_key("namespace") => {
                metadata.insert("namespace".to_owned(), config.namespace.as_str().into());
            }
            true => {}
            false => drop(metadata.remove("namespace")),
        }
    }
    Ok(problems)
}

fn duplicates(objects: &[Object]) -> Vec<Error> {
    let seen_before = |(index, object): (usize, &Object)| {
        let first = objects[..index].iter().find(|other| other.identity().is(&object.identity()))?;
        let line = first.origin.lines.of("").map(|line| format!(":{line}")).unwrap_or_default();
        let message = format!("it is also in {}{line}", first.origin.file);
        Some(object.error("", &message).help("remove one of them"))
    };
    objects.iter().enumerate().filter_map(seen_before).collect()
}

/// Sets what the strategy says about how a workload's pods are replaced. Returns what its kind can't do.
fn follow(object: &mut Object, strategy: &Strategy) -> Option<Error> {
    let kind = object.kind().to_owned();
    match (strategy, kind.as_str()) {
        (Strategy::Recreate(_), "Deployment") => {
            object.json["spec"]["strategy"] = json!({ "type": "Recreate" });
            None
        }
        (Strategy::Rolling(rolling), "Deployment") => {
            roll(&mut object.json["spec"], "strategy", rolling);
            for (key, value) in [
                ("minReadySeconds", rolling.min_ready_seconds),
                ("progressDeadlineSeconds", rolling.progress_deadline_seconds),
            ] {
                if let Some(value) = value {
                    object.json["spec"][key] = value.into();
                }
            }
            None
        }
        (Strategy::Rolling(rolling), "DaemonSet") => {
            let rolling = Rolling { max_surge: None, ..rolling.clone() };
            roll(&mut object.json["spec"], "updateStrategy", &rolling);
            if let Some(seconds) = rolling.min_ready_seconds {
                object.json["spec"]["minReadySeconds"] = seconds.into();
            }
            None
        }
        // Its pods are replaced one by one, the last one first.
        (Strategy::Rolling(rolling), "StatefulSet") if *rolling != Rolling::default() => Some(
            object
                .error("/spec", "a StatefulSet replaces its pods one by one, and has none of the settings of `rolling`")
                .help("use strategy = { rolling = {} }, or put it into a stage of its own"),
        ),
        (Strategy::Recreate(_), "StatefulSet" | "DaemonSet") => Some(
            object
                .error("/spec", &format!("a {kind} can't stop all of its pods before it starts new ones"))
                .help("use strategy = { rolling = {} }, or put it into a stage of its own"),
        ),
        _ => None,
    }
}

fn roll(spec: &mut Json, key: &str, rolling: &Rolling) {
    let amounts = [("maxSurge", &rolling.max_surge), ("maxUnavailable", &rolling.max_unavailable)];
    for (name, amount) in amounts {
        if let Some(amount) = amount {
            spec[key]["type"] = "RollingUpdate".into();
            spec[key]["rollingUpdate"][name] = json!(amount);
        }
    }
}

/// A workload that may still make progress when the stage gives up is a mistake in one of the two.
fn outlasts(object: &Object, config: &Config) -> Option<Error> {
    let progress = object.json["spec"]["progressDeadlineSeconds"].as_u64()?;
    let wait = config.deadline().as_secs();
    (progress >= wait).then(|| {
        let message = format!("its progressDeadlineSeconds is {progress}, but the stage waits for only {wait} s");
        let help = format!("add to the stage: with.readiness.deadline = \"{}s\"", progress + 30);
        object.error("/spec/progressDeadlineSeconds", &message).help(help)
    })
}

/// Names the protocol of each port, which is TCP by default. Servers before 1.20.5 don't accept ports without one when
/// objects are applied on their side.
fn name_protocols(object: &mut Json) {
    let mut lists: Vec<String> =
        containers(object).into_iter().map(|(pointer, _)| format!("{pointer}/ports")).collect();
    if object["kind"] == "Service" {
        lists.push("/spec/ports".to_owned());
    }
    for list in lists {
        for port in object.pointer_mut(&list).and_then(Json::as_array_mut).into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.entry("protocol").or_insert_with(|| "TCP".into());
            }
        }
    }
}
