//! `plugin list` and `plugin show`: the plugins that a repository's pipelines can use.

use stagewright_api as api;
use stagewright_model::{DEPLOY, DEPLOY_PREFIX, list as listed};
use stagewright_plugin_host::{Description, Requirement};
use stagewright_report::{Block, Printer, text};
use stagewright_session::{CatalogEntry, PluginOrigin, Session, StageExample};

use crate::error::CommandError;

use super::ShowPluginArgs;
use super::page::{self, DescribedKey};

pub(super) async fn list(session: &Session, json: bool, out: &mut Printer) -> Result<(), CommandError> {
    let entries = session.plugins().await?;
    if json {
        return Ok(out.json(&entries.iter().map(to_wire).collect::<Vec<_>>())?);
    }
    let uses: Vec<String> = entries.iter().map(|entry| entry.uses.to_string()).collect();
    let width = uses.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (entry, name) in entries.iter().zip(&uses) {
        let origin = match &entry.origin {
            PluginOrigin::Embedded => "embedded".to_owned(),
            PluginOrigin::Folder(file) => file.parent().unwrap_or(file).display().to_string(),
            PluginOrigin::Repository | PluginOrigin::Registry => format!("used by {}", listed(&entry.pipelines)),
        };
        let line = match &entry.described {
            Ok(Description { manifest, .. }) => {
                text!("{name:<width$}  {:<8}  {} ({origin})", manifest.version, manifest.description)
            }
            Err(error) => text!("{name:<width$}  {:<8}  {error} ({origin})", "-"),
        };
        out.line(line)?;
    }
    Ok(())
}

pub(super) async fn show(session: &Session, args: &ShowPluginArgs, out: &mut Printer) -> Result<(), CommandError> {
    let (entry, example) = session.plugin(&args.plugin).await?;
    let Ok(described) = &entry.described else { unreachable!("the session returns only plugins with a description") };
    let example = stage(&entry.uses.to_string(), &example)?;
    if args.json {
        let answer = api::PluginAnswer {
            plugin: to_wire(&entry),
            contract: described.contract.clone(),
            config: described.manifest.config.clone(),
            outputs: described.manifest.outputs.properties.clone(),
            open_outputs: described.manifest.outputs.open,
            permissions: permissions(described).map(|(name, keys)| (name.to_owned(), keys)).collect(),
            example,
        };
        return Ok(out.json(&answer)?);
    }
    let text = match args.markdown {
        true => markdown(described, &example),
        false => plain(&entry, described, &example),
    };
    Ok(out.block(&Block::of(&text))?)
}

fn to_wire(entry: &CatalogEntry) -> api::PluginEntry {
    let (origin, file) = match &entry.origin {
        PluginOrigin::Embedded => (api::PluginOriginName::Embedded, None),
        PluginOrigin::Folder(file) => (api::PluginOriginName::Folder, Some(file.display().to_string())),
        PluginOrigin::Repository => (api::PluginOriginName::Repository, None),
        PluginOrigin::Registry => (api::PluginOriginName::Registry, None),
    };
    let described = entry.described.as_ref().ok();
    api::PluginEntry {
        uses: entry.uses.to_string(),
        origin,
        file,
        pipelines: entry.pipelines.clone(),
        version: described.map(|described| described.manifest.version.clone()).unwrap_or_default(),
        description: described.map(|described| described.manifest.description.clone()).unwrap_or_default(),
        digest: described.map(|described| described.digest.clone()),
        error: entry.described.as_ref().err().map(ToString::to_string),
    }
}

/// The keys of `permissions` that the plugin can use, by interface.
fn permissions(described: &Description) -> impl Iterator<Item = (&'static str, Vec<String>)> {
    let all = described.permissions().into_iter().filter(|(_, keys)| !keys.is_empty());
    all.map(|(interface, keys)| (interface, keys.into_iter().map(str::to_owned).collect()))
}

/// The stage as TOML, with the permissions that it requires.
fn stage(uses: &str, example: &StageExample) -> Result<String, CommandError> {
    let place = uses.split('@').next().unwrap_or(uses);
    let name = place.rsplit([':', '/']).next().unwrap_or(place);
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let name = if !name.is_empty() && name.chars().all(is_plain) { name } else { "example" };
    let (name, mut text) = match uses.strip_prefix(DEPLOY_PREFIX) {
        Some(target) => (
            DEPLOY,
            format!(
                "[environments.production]\ntarget = \"{target}\"\n\n\
                 [stages.{DEPLOY}]\nuses = \"{DEPLOY}\"\nenvironment = \"production\"\n"
            ),
        ),
        None => (name, format!("[stages.{name}]\nuses = {}\n", toml::Value::from(uses))),
    };
    if !example.with.is_empty() {
        text.push_str(&format!("\n[stages.{name}.with]\n"));
    }
    for (key, value) in &example.with {
        let value = toml::Value::try_from(value);
        let value =
            value.map_err(|error| CommandError::internal("can't write the example as TOML").caused_by(error))?;
        text.push_str(&format!("{key} = {value}\n"));
    }
    let mut grants: Vec<(&str, Vec<&str>)> = Vec::new();
    for Requirement { permission, entry, .. } in example.requirements.iter().filter(|requirement| !requirement.optional)
    {
        match grants.iter_mut().find(|(key, _)| key == permission) {
            Some((_, entries)) => entries.push(entry),
            None => grants.push((permission, vec![entry])),
        }
    }
    if !grants.is_empty() {
        text.push_str(&format!("\n[stages.{name}.permissions]\n"));
        grants
            .iter()
            .for_each(|(key, entries)| text.push_str(&format!("{key} = {}\n", toml::Value::from(entries.clone()))));
    }
    Ok(text)
}

fn plain(entry: &CatalogEntry, described: &Description, example: &str) -> String {
    let Description { manifest, digest, contract, .. } = described;
    let mut lines = vec![format!("{} {}: {}", entry.uses, manifest.version, manifest.description), String::new()];
    lines.push(match &entry.origin {
        PluginOrigin::Embedded => "origin       embedded".to_owned(),
        PluginOrigin::Folder(file) => format!("origin       {}", file.display()),
        PluginOrigin::Repository => "origin       this repository".to_owned(),
        PluginOrigin::Registry => "origin       a registry".to_owned(),
    });
    lines.push(format!("digest       {digest}"));
    lines.extend(contract.iter().map(|version| format!("contract     {version}")));
    if !entry.pipelines.is_empty() {
        lines.push(format!("used by      {}", listed(&entry.pipelines)));
    }
    for (interface, keys) in permissions(described) {
        lines.push(format!("permissions  {} (for {interface})", listed(keys)));
    }
    for table in page::tables(&manifest.config).iter().filter(|table| !table.keys.is_empty()) {
        lines.extend([String::new(), format!("{}:", table.name)]);
        lines.extend(table.keys.iter().flat_map(plain_key));
    }
    let outputs = page::outputs(&manifest.outputs.properties);
    if !outputs.is_empty() {
        lines.extend([String::new(), "outputs:".to_owned()]);
        lines.extend(outputs.iter().flat_map(plain_key));
    }
    lines.extend([String::new(), "A stage that uses it:".to_owned(), String::new()]);
    lines.extend(example.lines().map(|line| if line.is_empty() { String::new() } else { format!("  {line}") }));
    lines.join("\n")
}

fn plain_key(key: &DescribedKey) -> [String; 2] {
    let required = if key.is_required { ", required" } else { "" };
    let default = key.default.as_ref().map(|default| format!(", default {default}")).unwrap_or_default();
    [format!("  {} ({}{required}{default})", key.name, key.kind), format!("      {}", key.description)]
}

/// A page of the documentation. It doesn't depend on where the plugin is, nor on its version.
fn markdown(described: &Description, example: &str) -> String {
    let Description { manifest, .. } = described;
    let mut page = format!("# {}\n\n{}.\n\n```toml\n{example}```\n", manifest.name, manifest.description);
    for table in page::tables(&manifest.config).iter().filter(|table| !table.keys.is_empty()) {
        page.push_str(&format!(
            "\n## {}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
            heading(&table.name)
        ));
        for key in &table.keys {
            let default = match (&key.default, key.is_required) {
                (_, true) => "required".to_owned(),
                (Some(default), false) => format!("`{default}`"),
                (None, false) => String::new(),
            };
            page.push_str(&row(&[&format!("`{}`", key.name), &key.kind, &default, &key.description]));
        }
    }
    let outputs = page::outputs(&manifest.outputs.properties);
    if !outputs.is_empty() {
        page.push_str("\n## Outputs\n\n| output | type | meaning |\n|---|---|---|\n");
        outputs.iter().for_each(|key| page.push_str(&row(&[&format!("`{}`", key.name), &key.kind, &key.description])));
    }
    let permissions = permissions(described).collect::<Vec<_>>();
    if !permissions.is_empty() {
        page.push_str("\n## Permissions\n\n| interface of the host | keys of `permissions` |\n|---|---|\n");
        let keys = |keys: &[String]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        permissions.iter().for_each(|(interface, all)| page.push_str(&row(&[interface, &keys(all)])));
    }
    page
}

/// The `with` table is code; the tables inside of it have the names of their types.
fn heading(name: &str) -> String {
    if name == "with" { "`with`".to_owned() } else { name.to_owned() }
}

fn row(cells: &[&str]) -> String {
    let cells = cells.iter().map(|cell| cell.replace('|', r"\|")).collect::<Vec<_>>().join(" | ");
    format!("| {cells} |\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_example_is_a_whole_stage_with_what_it_requires() {
        let requirement = |permission: &str, entry: &str, optional| Requirement {
            permission: permission.to_owned(),
            entry: entry.to_owned(),
            reason: None,
            optional,
        };
        let with = json!({ "argv": ["make", "test"], "env": { "A": "b" } });
        let requirements = vec![
            requirement("process", "make", false),
            requirement("read", ".", true),
            requirement("process", "sh", false),
        ];
        let example = StageExample { with: with.as_object().unwrap().clone(), requirements };
        let text = stage("path:plugins/mine", &example).unwrap();
        assert!(text.starts_with("[stages.mine]\nuses = \"path:plugins/mine\"\n"), "{text}");
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["stages"]["mine"]["with"]["env"]["A"].as_str(), Some("b"));
        assert_eq!(table["stages"]["mine"]["permissions"], toml::Value::from(toml::toml! { process = ["make", "sh"] }));
        assert!(stage("oci:a/b@sha256:0", &example).unwrap().starts_with("[stages.b]\n"));
        assert!(stage("path:./", &example).unwrap().starts_with("[stages.example]\n"));
    }
}
