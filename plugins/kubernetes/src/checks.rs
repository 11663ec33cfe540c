//! What is refused in a release's objects before anything is applied.

use plain_secrets::is_plain_secret;
use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{Error, JsonSchema, Result, schemars};

use crate::object::{Object, containers};

/// What a release's objects may have that reaches beyond their containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Allowance {
    /// Privileged containers.
    Privileged,
    /// Folders of the node.
    HostPath,
    /// The network of the node.
    HostNetwork,
    /// The processes of the node.
    HostPid,
    /// The inter-process communication of the node.
    HostIpc,
    /// Secrets whose values are in files.
    PlainSecrets,
}

impl Allowance {
    /// Its name in the configuration.
    fn name(self) -> &'static str {
        match self {
            Allowance::Privileged => "privileged",
            Allowance::HostPath => "host-path",
            Allowance::HostNetwork => "host-network",
            Allowance::HostPid => "host-pid",
            Allowance::HostIpc => "host-ipc",
            Allowance::PlainSecrets => "plain-secrets",
        }
    }
}

/// Everything that is refused in an object, unless it is allowed.
pub fn problems(object: &Object, allowed: &[Allowance]) -> Vec<Error> {
    let mut found = plain_secrets(object);
    found.extend(host_access(object));
    found
        .into_iter()
        .filter(|(allowance, _)| !allowed.contains(allowance))
        .map(|(allowance, error)| {
            let or_allow = format!("or add to the stage: with.allow = [\"{}\"]", allowance.name());
            let help = error
                .help
                .clone()
                .map_or_else(|| format!("remove it, {or_allow}"), |help| format!("{help}, {or_allow}"));
            error.help(help)
        })
        .collect()
}

/// One error for all of them.
///
/// # Errors
/// If there are any.
pub fn none_of(mut problems: Vec<Error>) -> Result<()> {
    match problems.len() {
        0 => Ok(()),
        1 => Err(problems.remove(0)),
        count => {
            let first = problems[0].clone();
            let all = problems.into_iter().map(|problem| {
                let place = problem.file.as_deref().map(|(file, position)| match position {
                    Some(position) => format!("{file}:{}: ", position.line),
                    None => format!("{file}: "),
                });
                let help = problem.help.map(|help| format!("; {help}")).unwrap_or_default();
                format!("{}{}{help}", place.unwrap_or_default(), problem.message)
            });
            Err(Error {
                file: first.file,
                ..Error::invalid(format!("the release's objects have {count} mistakes")).causes(all)
            })
        }
    }
}

/// The containers of an object whose images aren't named by digest. `help`: the remedy for a container's name.
pub fn moving_images(object: &Object, help: impl Fn(&str) -> String) -> Vec<Error> {
    let moving = containers(&object.json).into_iter().filter_map(|(pointer, container)| {
        let [name, image] = ["name", "image"].map(|key| container[key].as_str().unwrap_or_default());
        let shown = if image.is_empty() { "no image".to_owned() } else { format!("the image `{image}`") };
        let message = format!("the container `{name}` has {shown}, which can change after the test");
        (!image.contains("@sha256:")).then(|| object.error(&format!("{pointer}/image"), &message).help(help(name)))
    });
    moving.collect()
}

fn plain_secrets(object: &Object) -> Vec<(Allowance, Error)> {
    let mut found = Vec::new();
    let mut add = |pointer: &str, message: &str, help: &str| {
        found.push((Allowance::PlainSecrets, object.error(pointer, message).help(help)));
    };
    if object.kind() == "Secret" {
        for key in ["data", "stringData"] {
            if object.json[key].as_object().is_some_and(|data| !data.is_empty()) {
                let message = "the values of this secret are in a file, where everybody reads them";
                add(
                    &format!("/{key}"),
                    message,
                    "create the secret in the cluster by other means, such as `secret-sync`",
                );
            }
        }
    }
    for (pointer, container) in containers(&object.json) {
        for (index, variable) in array(&container["env"]).iter().enumerate() {
            let name = variable["name"].as_str().unwrap_or_default();
            if variable["value"].as_str().is_some_and(|value| is_plain_secret(name, value)) {
                let message = format!("the value of the variable `{name}` is in a file, where everybody reads it");
                add(&format!("{pointer}/env/{index}/value"), &message, "use `valueFrom` with a `secretKeyRef`");
            }
        }
    }
    found
}

fn host_access(object: &Object) -> Vec<(Allowance, Error)> {
    let Some(pod) = object.pod_pointer() else { return Vec::new() };
    let spec = object.json.pointer(pod).unwrap_or(&Json::Null);
    let mut found = Vec::new();
    for (key, allowance, what) in [
        ("hostNetwork", Allowance::HostNetwork, "the network of the node"),
        ("hostPID", Allowance::HostPid, "the processes of the node"),
        ("hostIPC", Allowance::HostIpc, "the inter-process communication of the node"),
    ] {
        if spec[key] == true {
            found.push((allowance, object.error(&format!("{pod}/{key}"), &format!("its pods share {what}"))));
        }
    }
    for (index, volume) in array(&spec["volumes"]).iter().enumerate() {
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            let message = format!("its pods mount `{path}` of the node");
            found.push((Allowance::HostPath, object.error(&format!("{pod}/volumes/{index}/hostPath"), &message)));
        }
    }
    for (pointer, container) in containers(&object.json) {
        if container["securityContext"]["privileged"] == true {
            let at = format!("{pointer}/securityContext/privileged");
            let name = container["name"].as_str().unwrap_or_default();
            let message = format!("the container `{name}` is privileged, and controls its node");
            found.push((Allowance::Privileged, object.error(&at, &message)));
        }
    }
    found
}

/// Whether it is a label of a domain name, as Kubernetes requires.
pub fn is_name(name: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().all(is_inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn array(value: &Json) -> &[Json] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::documents;

    fn refused(text: &str, allowed: &[Allowance]) -> Vec<String> {
        let documents = documents("app.yaml", text).unwrap();
        let objects = documents.into_iter().flat_map(|document| Object::all("app.yaml", document).unwrap());
        let shown = |error: Error| {
            let line = error.file.as_deref().and_then(|(_, position)| *position).map(|position| position.line);
            format!("{}: {} ({})", line.unwrap_or_default(), error.message, error.help.unwrap_or_default())
        };
        objects.flat_map(|object| problems(&object, allowed)).map(shown).collect()
    }

    #[test]
    fn plain_values_of_secrets_are_refused() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: { name: s }\nstringData:\n  a: b\n---\n\
                    apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: d }\nspec: { template: { spec: { containers: [\n\
                    { name: c, env: [{ name: DB_PASSWORD, value: x }, { name: DB_PASSWORD_FILE, value: /x },\n\
                    { name: API_TOKEN, valueFrom: { secretKeyRef: { name: s, key: a } } }, { name: MODE, value: x }] }] } } }\n";
        let found = refused(text, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("5: secret/s: the values of this secret are in a file"), "{found:?}");
        assert!(
            found[1].starts_with("11: deployment/d: the value of the variable `DB_PASSWORD` is in a file"),
            "{found:?}"
        );
        assert!(
            found[1].ends_with("`secretKeyRef`, or add to the stage: with.allow = [\"plain-secrets\"])"),
            "{found:?}"
        );
        assert_eq!(refused(text, &[Allowance::PlainSecrets]), Vec::<String>::new());
    }

    #[test]
    fn access_to_the_node_has_to_be_allowed_by_name() {
        let text = "apiVersion: batch/v1\nkind: CronJob\nmetadata: { name: j }\nspec: { jobTemplate: { spec: { template: { spec: {\n\
                    hostNetwork: true,\nhostPID: true,\nhostIPC: true,\nvolumes: [{ name: v, hostPath: { path: /etc } }],\n\
                    containers: [{ name: c, securityContext: { privileged: true } }] } } } } }\n";
        let found = refused(text, &[]);
        let lines: Vec<&str> = found.iter().map(|problem| problem.split(':').next().unwrap_or_default()).collect();
        assert_eq!(lines, ["5", "6", "7", "8", "9"], "{found:?}");
        let all = [
            Allowance::Privileged,
            Allowance::HostPath,
            Allowance::HostNetwork,
            Allowance::HostPid,
            Allowance::HostIpc,
        ];
        assert_eq!(refused(text, &all), Vec::<String>::new());
        assert_eq!(refused(text, &all[..4]).len(), 1);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let place = |line| Some(stagewright_sdk::Position::line(line));
        let two =
            vec![Error::invalid("one").file("a.yaml", place(3)), Error::invalid("two").help("do").file("b.yaml", None)];
        let error = none_of(two).unwrap_err();
        assert_eq!(error.causes, ["a.yaml:3: one", "b.yaml: two; do"]);
        assert_eq!(none_of(vec![Error::invalid("one")]).unwrap_err().message, "one");
        assert_eq!(none_of(Vec::new()), Ok(()));
    }
}
