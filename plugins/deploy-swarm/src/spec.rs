//! What a release should be on the swarm: a pure function of the release and the configuration.

mod container;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compose_file::Release;
use docker_engine::Provenance;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::config::Update;
use crate::version::SecretNames;
use values::{literal, nanos, number, text, without_nulls};

/// What `docker stack` calls the stack of an object.
pub(crate) const NAMESPACE: &str = "com.docker.stack.namespace";
/// What identifies the template of a service's tasks. It changes only if they have to be replaced.
pub(crate) const SPEC: &str = "stagewright.spec";

/// What a release should be on the swarm.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desired<'a> {
    stack: &'a str,
    update: Update,
    release: &'a Release,
    secrets: &'a SecretNames,
}

/// The ids of configs and secrets, by name.
pub(crate) type Ids = BTreeMap<String, String>;

/// A service that should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DesiredService {
    /// Its name on the swarm.
    pub(crate) name: String,
    /// What its tasks have as the label [`SPEC`].
    pub(crate) mark: String,
    /// How many tasks should run; none for one on each node.
    pub(crate) replicas: Option<u64>,
    spec: Json,
}

impl DesiredService {
    /// Without the labels that say which deploy it comes from.
    pub(crate) fn spec(&self) -> &Json {
        &self.spec
    }

    /// The body of the request that creates or updates it.
    pub(crate) fn body(&self, stack: &str, provenance: &Provenance) -> Json {
        let mut spec = self.spec.clone();
        let labels = provenance.labels().into_iter().chain([(NAMESPACE.to_owned(), stack.to_owned())]);
        for (name, value) in labels {
            spec["Labels"][name] = value.into();
        }
        spec
    }
}

impl<'a> Desired<'a> {
    /// `secrets`: those that a deploy has created for the release.
    pub(crate) fn new(stack: &'a str, update: Update, release: &'a Release, secrets: &'a SecretNames) -> Desired<'a> {
        Desired { stack, update, release, secrets }
    }

    /// The name of something of the stack.
    pub(crate) fn scoped(&self, name: &str) -> String {
        format!("{}_{name}", self.stack)
    }

    /// The names of the services on the swarm.
    pub(crate) fn service_names(&self) -> BTreeSet<String> {
        self.release.services().keys().map(|name| self.scoped(name)).collect()
    }

    /// The services, each after those that it depends on.
    pub(crate) fn services(&self, ids: &Ids) -> Vec<DesiredService> {
        let services = self.release.services();
        let mut ordered = Vec::new();
        for name in services.keys() {
            add_after_dependencies(&services, name, &mut ordered);
        }
        ordered.into_iter().map(|name| self.service(name, services[name], ids)).collect()
    }

    fn service(&self, name: &str, service: &Json, ids: &Ids) -> DesiredService {
        let service = literal(service);
        let deploy = &service["deploy"];
        let global = text(&deploy["mode"]).as_deref() == Some("global");
        let replicas = (!global).then(|| number(&deploy["replicas"]).unwrap_or(1));
        // Ids are left out: they change when an object is made again with the same content.
        let template = self.template(name, &service, &Ids::new());
        let mark = digest(&template.to_string());
        let mut template = self.template(name, &service, ids);
        template["ContainerSpec"]["Labels"][SPEC] = mark.clone().into();
        let labels = deploy["labels"].as_object().cloned().unwrap_or_default();
        let mode = match replicas {
            Some(replicas) => json!({ "Replicated": { "Replicas": replicas } }),
            None => json!({ "Global": {} }),
        };
        let spec = json!({
            "Name": self.scoped(name),
            "Labels": labels,
            "TaskTemplate": template,
            "Mode": mode,
            "UpdateConfig": self.update_config(&deploy["update_config"]),
            "RollbackConfig": rollback_config(&deploy["rollback_config"]),
            "EndpointSpec": endpoint(&service),
        });
        DesiredService { name: self.scoped(name), mark, replicas, spec: without_nulls(spec) }
    }

    /// What each task should be.
    fn template(&self, name: &str, service: &Json, ids: &Ids) -> Json {
        let deploy = &service["deploy"];
        let mut container = container::specification(self, service, ids);
        container["Labels"][NAMESPACE] = self.stack.into();
        without_nulls(json!({
            "ContainerSpec": container,
            "Resources": container::resources(&deploy["resources"]),
            "RestartPolicy": container::restart_policy(&deploy["restart_policy"]),
            "Placement": container::placement(&deploy["placement"]),
            "Networks": self.memberships(name, service),
            "LogDriver": container::log_driver(&service["logging"]),
        }))
    }

    fn memberships(&self, name: &str, service: &Json) -> Json {
        let none = Map::new();
        let joined = service["networks"].as_object().unwrap_or(&none);
        let default = Map::from_iter([("default".to_owned(), json!({}))]);
        let joined = if joined.is_empty() { &default } else { joined };
        let membership = |(network, options): (&String, &Json)| {
            let own = options["aliases"].as_array().cloned().unwrap_or_default();
            let aliases: Vec<Json> = std::iter::once(name.into()).chain(own).collect();
            json!({ "Target": self.network_name(network), "Aliases": aliases })
        };
        joined.iter().map(membership).collect()
    }

    /// How a service is updated: as its file says, or else as the configuration does. An update that fails is paused: what
    /// it is undone with is the release that served.
    fn update_config(&self, own: &Json) -> Json {
        let Update { parallelism, order, monitor } = self.update;
        let monitor = monitor.map(|monitor| u64::try_from(monitor.as_nanos()).unwrap_or(u64::MAX));
        json!({
            "Parallelism": number(&own["parallelism"]).or(parallelism.map(u64::from)).unwrap_or(1),
            "Delay": nanos(&own["delay"]),
            "Monitor": nanos(&own["monitor"]).or(monitor),
            "Order": text(&own["order"]).or(order.map(str::to_owned)),
            "MaxFailureRatio": values::ratio(&own["max_failure_ratio"]),
            "FailureAction": text(&own["failure_action"]).unwrap_or_else(|| "pause".to_owned()),
        })
    }

    /// The networks that have to exist, by name on the swarm; those with a body are created when they are missing.
    pub(crate) fn networks(&self) -> BTreeMap<String, Option<Json>> {
        let declared = self.release.section("networks");
        let services = self.release.services();
        let joins_default = services
            .values()
            .any(|service| service["networks"].as_object().is_none_or(|joined| joined.contains_key("default")));
        let empty = json!({});
        let default = joins_default.then_some(("default", declared.get("default").copied().unwrap_or(&empty)));
        let named = declared.iter().map(|(name, network)| (*name, *network)).filter(|(name, _)| *name != "default");
        let needed = named.chain(default).map(|(name, network)| {
            let body = (network["external"] != true).then(|| self.network(&self.network_name(name), &literal(network)));
            (self.network_name(name), body)
        });
        needed.collect()
    }

    fn network_name(&self, name: &str) -> String {
        let declared = self.release.section("networks");
        self.declared_name(name, declared.get(name).copied())
    }

    fn network(&self, name: &str, network: &Json) -> Json {
        let subnets = network["ipam"]["config"].as_array().cloned().unwrap_or_default();
        let subnets = subnets.iter().map(|subnet| json!({ "Subnet": subnet["subnet"], "Gateway": subnet["gateway"] }));
        let mut labels = network["labels"].as_object().cloned().unwrap_or_default();
        labels.insert(NAMESPACE.to_owned(), self.stack.into());
        without_nulls(json!({
            "Name": name,
            "CheckDuplicate": true,
            "Driver": text(&network["driver"]).unwrap_or_else(|| "overlay".to_owned()),
            "Attachable": network["attachable"],
            "Internal": network["internal"],
            "EnableIPv6": network["enable_ipv6"],
            "Options": network["driver_opts"],
            "IPAM": {
                "Driver": network["ipam"]["driver"],
                "Options": network["ipam"]["options"],
                "Config": subnets.collect::<Vec<_>>(),
            },
            "Labels": labels,
        }))
    }

    /// The configs that have to exist, by name on the swarm; those with a body are created when they are missing. A name
    /// has the digest of the content, because configs can't change.
    pub(crate) fn configs(&self) -> BTreeMap<String, Option<Json>> {
        let body = |name: String, config: &Json| {
            let data = STANDARD.encode(text(&literal(&config["content"])).unwrap_or_default());
            json!({ "Name": name, "Data": data, "Labels": { NAMESPACE: self.stack } })
        };
        let declared = self.release.section("configs").into_iter();
        declared
            .map(|(name, config)| {
                let known = self.config_name(name);
                (known.clone(), (config["external"] != true).then(|| body(known, config)))
            })
            .collect()
    }

    pub(crate) fn config_name(&self, name: &str) -> String {
        let declared = self.release.section("configs");
        match declared.get(name).and_then(|config| config["content"].as_str()) {
            Some(content) => format!("{}_{}", self.scoped(name), &digest(content)[..12]),
            None => self.declared_name(name, declared.get(name).copied()),
        }
    }

    /// The names of the secrets that have to exist.
    pub(crate) fn secrets(&self) -> BTreeSet<String> {
        self.release.section("secrets").keys().map(|name| self.secret_name(name)).collect()
    }

    pub(crate) fn secret_name(&self, name: &str) -> String {
        if let Some(created) = self.secrets.get(name) {
            return created.clone();
        }
        let declared = self.release.section("secrets");
        self.declared_name(name, declared.get(name).copied())
    }

    /// The declaration of a volume.
    fn volume(&self, name: &str) -> Json {
        self.release.section("volumes").get(name).map(|volume| literal(volume)).unwrap_or_default()
    }

    fn volume_name(&self, name: &str) -> String {
        self.declared_name(name, self.release.section("volumes").get(name).copied())
    }

    /// The name on the swarm: the one that is declared, that of an external object as it is, or else one of the stack.
    fn declared_name(&self, name: &str, declared: Option<&Json>) -> String {
        match declared.map(|declared| (text(&declared["name"]), &declared["external"])) {
            Some((Some(given), _)) => given,
            Some((None, external)) if external == true => name.to_owned(),
            _ => self.scoped(name),
        }
    }
}

fn add_after_dependencies<'a>(services: &BTreeMap<&'a str, &'a Json>, name: &'a str, ordered: &mut Vec<&'a str>) {
    fn visit<'a>(
        services: &BTreeMap<&'a str, &'a Json>,
        name: &'a str,
        open: &mut Vec<&'a str>,
        ordered: &mut Vec<&'a str>,
    ) {
        let Some((name, service)) = services.get_key_value(name) else { return };
        if ordered.contains(name) || open.contains(name) {
            return;
        }
        open.push(name);
        let needed = service["depends_on"].as_object().into_iter().flat_map(Map::keys);
        for dependency in needed {
            visit(services, dependency, open, ordered);
        }
        ordered.push(name);
    }
    visit(services, name, &mut Vec::new(), ordered);
}

/// What Swarm does when a person rolls a service back.
fn rollback_config(own: &Json) -> Json {
    if own.is_null() {
        return Json::Null;
    }
    json!({
        "Parallelism": number(&own["parallelism"]).unwrap_or(1),
        "Delay": nanos(&own["delay"]),
        "Monitor": nanos(&own["monitor"]),
        "Order": text(&own["order"]),
        "MaxFailureRatio": values::ratio(&own["max_failure_ratio"]),
        "FailureAction": text(&own["failure_action"]),
    })
}

fn endpoint(service: &Json) -> Json {
    let ports = service["ports"].as_array().cloned().unwrap_or_default();
    let port = |port: &Json| {
        json!({
            "Protocol": text(&port["protocol"]).unwrap_or_else(|| "tcp".to_owned()),
            "TargetPort": number(&port["target"]),
            "PublishedPort": number(&port["published"]),
            "PublishMode": text(&port["mode"]).unwrap_or_else(|| "ingress".to_owned()),
        })
    };
    json!({
        "Mode": text(&service["deploy"]["endpoint_mode"]).unwrap_or_else(|| "vip".to_owned()),
        "Ports": ports.iter().map(port).collect::<Vec<_>>(),
    })
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
