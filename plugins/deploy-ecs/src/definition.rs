//! Task definitions, and the tags that say which deploy registered one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use stagewright_sdk::{Error, Result, context, environment};

use crate::config::Config;

const FENCE: &str = "stagewright.fence";
const RUN: &str = "stagewright.run";
/// The run that registered it; the run that deployed it last may be another one.
const REGISTERED: &str = "stagewright.registered";
/// The task definition that the service had before.
const PREVIOUS: &str = "stagewright.previous";

/// What `DescribeTaskDefinition` adds to what was registered, and `RegisterTaskDefinition` doesn't take.
const ADDED: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "tags",
];

/// A task definition with its tags.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Definition {
    task_definition: Map<String, Json>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Clone, Debug, Deserialize)]
struct Tag {
    key: String,
    value: String,
}

impl Definition {
    pub(crate) fn arn(&self) -> &str {
        self.text("taskDefinitionArn")
    }

    pub(crate) fn family(&self) -> &str {
        self.text("family")
    }

    /// As in `api:12`.
    pub(crate) fn name(&self) -> String {
        self.arn().rsplit('/').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn fence(&self) -> Option<u64> {
        self.tag(FENCE)?.parse().ok()
    }

    pub(crate) fn run(&self) -> Option<&str> {
        self.tag(RUN)
    }

    pub(crate) fn is_of_this_run(&self) -> bool {
        self.run() == Some(context::run_id().as_str())
    }

    pub(crate) fn is_registered_by_this_run(&self) -> bool {
        self.tag(REGISTERED) == Some(context::run_id().as_str())
    }

    /// Whether it was deregistered, as by the undoing of its deploy.
    pub(crate) fn is_inactive(&self) -> bool {
        self.text("status") == "INACTIVE"
    }

    pub(crate) fn previous(&self) -> Option<&str> {
        self.tag(PREVIOUS)
    }

    /// The image of the container that is deployed; none if it has no such container.
    pub(crate) fn image(&self, config: &Config) -> Option<&str> {
        container(self.task_definition.get("containerDefinitions")?.as_array()?, config)?.get("image")?.as_str()
    }

    /// What to register for the image of `config`, and with the tags of this deploy, from this task definition. Its container
    /// loses the variables that the release has as secrets, and those of `dropped`.
    pub(crate) fn with_image(&self, config: &Config, previous: &str, dropped: &[String]) -> Result<Json> {
        let own = self.task_definition.iter().filter(|(key, _)| !ADDED.contains(&key.as_str()));
        let input = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        let tags = self.tags.iter().filter(|tag| !tag.key.starts_with("stagewright."));
        let tags = tags.map(|Tag { key, value }| json!({ "key": key, "value": value })).collect();
        let mut input = registration(input, tags, config, previous)?;
        let is_replaced = |entry: &Json| {
            let name = entry["name"].as_str().unwrap_or_default();
            config.secret_env.contains_key(name) || dropped.iter().any(|dropped| dropped == name)
        };
        if let Some(container) = container_mut(&mut input, config) {
            for key in ["environment", "secrets"] {
                if let Some(entries) = container.get_mut(key).and_then(Json::as_array_mut) {
                    entries.retain(|entry| !is_replaced(entry));
                }
            }
        }
        Ok(input)
    }

    fn text(&self, key: &str) -> &str {
        self.task_definition.get(key).and_then(Json::as_str).unwrap_or_default()
    }

    fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }
}

/// What to register for the image of `config`, and with the tags of this deploy, from a template.
pub(crate) fn from_template(template: Map<String, Json>, config: &Config, previous: &str) -> Result<Json> {
    let mut input = template;
    let tags = input.remove("tags").and_then(|tags| tags.as_array().cloned()).unwrap_or_default();
    let mut input = registration(input, tags, config, previous)?;
    let Some(container) = container_mut(&mut input, config) else { return Err(no_container(config)) };
    for key in ["environment", "secrets"] {
        let entries = container.get(key).and_then(Json::as_array).into_iter().flatten();
        let mut names = entries.filter_map(|entry| entry["name"].as_str());
        if let Some(twice) = names.find(|name| config.secret_env.contains_key(*name)) {
            let message = format!("`{key}` of the container sets `{twice}`, and so does `secret-env`");
            return Err(Error::invalid(message).help("remove one of them"));
        }
    }
    Ok(input)
}

/// Lets the container have secrets, by variable, from where `references` say.
pub(crate) fn add_secrets(input: &mut Json, config: &Config, references: BTreeMap<String, String>) {
    let Some(container) = container_mut(input, config).filter(|_| !references.is_empty()) else { return };
    let secrets = container.get("secrets").and_then(Json::as_array);
    let mut secrets = secrets.cloned().unwrap_or_default();
    secrets.extend(references.into_iter().map(|(name, from)| json!({ "name": name, "valueFrom": from })));
    container["secrets"] = secrets.into();
}

fn registration(mut input: Map<String, Json>, tags: Vec<Json>, config: &Config, previous: &str) -> Result<Json> {
    let containers = input.get_mut("containerDefinitions").and_then(Json::as_array_mut);
    let found = containers.and_then(|containers| position(containers, config).map(|at| &mut containers[at]));
    let Some(found) = found else { return Err(no_container(config)) };
    found["image"] = config.image.as_str().into();
    let registered = json!({ "key": REGISTERED, "value": context::run_id() });
    let tags = tags.into_iter().chain(deploy_tags(previous)).chain([registered]);
    input.insert("tags".to_owned(), tags.collect());
    Ok(input.into())
}

/// The tags of this deploy.
pub(crate) fn deploy_tags(previous: &str) -> Vec<Json> {
    let tags = [
        (FENCE, environment::fence().map(|fence| fence.to_string())),
        (RUN, Some(context::run_id())),
        (PREVIOUS, Some(previous.to_owned())),
    ];
    tags.into_iter().filter_map(|(key, value)| Some(json!({ "key": key, "value": value? }))).collect()
}

fn position(containers: &[Json], config: &Config) -> Option<usize> {
    match (&config.container, containers) {
        (Some(name), _) => containers.iter().position(|container| container["name"] == json!(name)),
        (None, [_]) => Some(0),
        (None, _) => None,
    }
}

fn container_mut<'a>(input: &'a mut Json, config: &Config) -> Option<&'a mut Json> {
    let containers = input["containerDefinitions"].as_array_mut()?;
    position(containers, config).map(|at| &mut containers[at])
}

fn container<'a>(containers: &'a [Json], config: &Config) -> Option<&'a Json> {
    position(containers, config).map(|at| &containers[at])
}

fn no_container(config: &Config) -> Error {
    match &config.container {
        Some(name) => Error::failed(format!("the task definition has no container `{name}`"))
            .help("check `container` against the names in `containerDefinitions`"),
        None => Error::failed("the task definition has several containers, or none")
            .help("name the one that gets the image: container = \"app\""),
    }
}
