//! Reads the objects of a release: from files of the workspace, or rendered by a program.

use kubernetes::{Object, Origin, documents, value_arguments};
use serde_json::json;
use stagewright_sdk::process::Command;
use stagewright_sdk::{Error, Result, workspace};

use crate::config::{Chart, Config};

/// The most bytes that a program may render.
const RENDERED: u64 = 64 << 20;

/// The objects of the release as they are written.
pub(crate) fn objects(config: &Config) -> Result<Vec<Object>> {
    if let Some((kind, name)) = config.workload() {
        return Ok(vec![images_of(config, kind, name)]);
    }
    if let Some(folder) = &config.kustomize {
        return parse("", &run("kubectl", &["kustomize", folder])?);
    }
    match &config.helm {
        Some(chart) => helm(config, chart),
        None => files(&config.manifests),
    }
}

/// A workload with nothing but the images of its containers: what is applied over the one that exists.
fn images_of(config: &Config, kind: &str, name: &str) -> Object {
    let containers = config.images.iter().map(|(name, image)| json!({ "name": name, "image": image.as_str() }));
    let json = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "name": name },
        "spec": { "template": { "spec": { "containers": containers.collect::<Vec<_>>() } } },
    });
    Object { json, origin: Origin::default() }
}

fn files(patterns: &[String]) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for pattern in patterns {
        let mut paths: Vec<String> =
            workspace::glob(pattern)?.into_iter().map(|entry| entry.path).filter(|path| is_yaml(path)).collect();
        paths.sort();
        if paths.is_empty() {
            return Err(Error::invalid(format!("no YAML file matches `{pattern}`")).help("correct `manifests`"));
        }
        for path in paths {
            objects.extend(parse(&path, &workspace::read_text(&path)?)?);
        }
    }
    Ok(objects)
}

fn is_yaml(path: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending))
}

fn parse(file: &str, text: &str) -> Result<Vec<Object>> {
    let objects = documents(file, text)?.into_iter().map(|document| Object::all(file, document));
    Ok(objects.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Renders a chart. What only an installation by Helm would do is refused, since it would silently not happen.
fn helm(config: &Config, Chart { chart, values, set }: &Chart) -> Result<Vec<Object>> {
    for entry in workspace::glob(&format!("{chart}/templates/**"))?.iter().filter(|entry| is_template(&entry.path)) {
        let text = workspace::read_text(&entry.path)?;
        if let Some(line) = text.lines().position(|line| line.contains("lookup \"")) {
            let position = u32::try_from(line + 1).ok().map(stagewright_sdk::Position::line);
            return Err(Error::invalid("the chart reads the cluster with `lookup`, which `helm template` doesn't do")
                .file(&entry.path, position)
                .help("pass what it looks up as a value"));
        }
    }
    let mut args = vec!["template".to_owned(), config.service.clone(), chart.clone()];
    args.extend(["--namespace".to_owned(), config.namespace.clone()]);
    args.extend(value_arguments(values.iter().map(String::as_str), set));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let objects = parse("", &run("helm", &args)?)?;
    match objects.iter().find(|object| object.json["metadata"]["annotations"]["helm.sh/hook"].is_string()) {
        Some(hook) => Err(hook
            .error("", "it is a hook, which only an installation by Helm runs")
            .help("turn it into a stage of its own, or leave it out with `set`")),
        None => Ok(objects),
    }
}

fn is_template(path: &str) -> bool {
    [".yaml", ".yml", ".tpl", ".txt"].iter().any(|ending| path.ends_with(ending))
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(args.iter().copied()).quiet().read_only().capture_limit(RENDERED).output()?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::failed(format!("`{program} {}` failed", args.join(" "))).cause(reason));
    }
    Ok(String::from_utf8(output.stdout)?)
}
