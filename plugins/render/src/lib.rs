//! Merges layers of configuration, such as a base and what differs in production, and fills in templates with the result.
//!
//! Input: the layers, which are YAML, JSON, TOML or variables (`.env`); templates; and files for the merged values. Output: these
//! files, the values, and for each the layer that it comes from. It has no secrets, so that none can be in a rendered file: a
//! target hands them to a release as variables or files.
//!
//! It reads and writes files of the workspace, and has no other effect.

mod format;
mod layer;
mod mistake;
mod template;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};
use stagewright_sdk::text::count;
use stagewright_sdk::{
    Error, Finding, JsonSchema, Manifest, Outcome, Position, Problem, Requirement, Result, Stage, WorkspacePath, log,
    outputs, schemars, workspace,
};

use crate::format::Format;
use crate::mistake::Mistake;
use crate::template::Templates;
use crate::values::{Origin, Setting, Settings};

/// The plugin.
#[derive(Debug)]
pub struct Render;

/// The layers, and what is made of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "layers": ["config/base.yaml", "config/production.yaml"],
    "templates": [{ "from": "deploy/*.yaml", "to": "rendered/deploy" }],
    "merged": [{ "to": "rendered/server.yaml", "key": "server" }],
}))]
pub struct Config {
    /// Files of configuration: `.yaml`, `.yml`, `.json`, `.toml`, or `.env` with variables. A later one overrides earlier ones,
    /// key by key. Lists are replaced as a whole, and `null` removes a key.
    #[serde(default)]
    layers: Vec<WorkspacePath>,
    /// Values of the pipeline, as a last layer.
    #[serde(default)]
    values: Map<String, Json>,
    /// Keys that must have a value, as in `database.url`.
    #[serde(default)]
    required: Vec<String>,
    /// Templates, in the syntax of Jinja. A variable without a value is an error.
    #[serde(default)]
    templates: Vec<TemplateFiles>,
    /// Files for the merged values. Their names say the format.
    #[serde(default)]
    merged: Vec<MergedFile>,
    /// What encloses a value in templates. Default: `["{{", "}}"]`. For files in which these mean something else, such as
    /// Prometheus' rules.
    delimiters: Option<[String; 2]>,
    /// What is refused otherwise: `plain-secrets` are passwords and the like in a layer.
    #[serde(default)]
    allow: Vec<Allowance>,
}

/// Templates to fill in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TemplateFiles {
    /// A file, or a glob.
    from: WorkspacePath,
    /// The file to write; for a glob, the folder, in which files keep their paths below the glob's folder.
    to: WorkspacePath,
}

/// A file for merged values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MergedFile {
    /// The file to write: `.yaml`, `.yml`, `.json`, `.toml` or `.env`.
    to: WorkspacePath,
    /// The table to write, as in `server.http`. Default: all values.
    key: Option<String>,
}

/// What is refused otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Allowance {
    /// Passwords and the like as plain text.
    PlainSecrets,
}

impl Stage for Render {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<Map<String, Json>>("values", "The merged values")
            .output::<BTreeMap<String, String>>(
                "origins",
                "The layer of each value, by key, as in `config/base.yaml:3`",
            )
            .output::<Vec<String>>("files", "The files that were written, sorted")
            .output::<String>("digest", "The digest of their paths and contents, as `sha256:…`")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let mut found = Vec::new();
        if config.layers.is_empty() && config.values.is_empty() {
            found.push(
                Problem::at("layers", "there are no values").help("name files of configuration, or set `values`"),
            );
        }
        if config.templates.is_empty() && config.merged.is_empty() {
            let problem = Problem::at("templates", "nothing is rendered");
            found.push(problem.help("name templates, or files for the merged values: `merged`"));
        }
        let files = config.layers.iter().enumerate().map(|(index, file)| (format!("layers[{index}]"), file));
        let merged = config.merged.iter().enumerate();
        for (key, file) in files.chain(merged.map(|(index, file)| (format!("merged[{index}].to"), &file.to))) {
            if Format::of(file.as_str()).is_none() {
                let problem = Problem::at(key, format!("the format of `{}` isn't known", file.as_str()));
                found.push(problem.help(format!("use a file that ends with {}", format::ENDINGS)));
            }
        }
        if let Some([open, close]) = &config.delimiters
            && let Err(reason) = template::syntax(open, close)
        {
            found.push(Problem::at("delimiters", format!("they can't be used: {reason}")));
        }
        found
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let layers = config.layers.iter().map(|file| Requirement::read(file.as_str()).because("is a layer"));
        let templates = config.templates.iter();
        let read = templates.clone().map(|it| Requirement::read(it.from.as_str()).because("is filled in"));
        let written = templates.map(|it| &it.to).chain(config.merged.iter().map(|it| &it.to));
        layers.chain(read).chain(written.map(|to| Requirement::write(to.as_str()).because("is rendered"))).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let settings = merge(&config)?;
        let values = values::to_json(&settings);
        let files = render(&config, &settings, &values)?;
        let mut hasher = Sha256::new();
        for (path, text) in &files {
            workspace::write(path, text)?;
            for part in [path, text] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let leaves = values::leaves(&settings);
        let origins: BTreeMap<&str, String> =
            leaves.iter().map(|(key, setting)| (key.as_str(), setting.origin.to_string())).collect();
        log::info(format!("rendered {}", count(files.len() as u64, "file")));
        outputs::set("values", &values)?;
        outputs::set("origins", &origins)?;
        outputs::set("files", &files.keys().collect::<Vec<_>>())?;
        outputs::set("digest", &format!("sha256:{digest}"))?;
        outputs::summary(summary(&leaves));
        Ok(Outcome::Succeeded)
    }
}

/// The values of all layers.
fn merge(config: &Config) -> Result<Settings> {
    let mut merged = Settings::new();
    let mut mistakes = Vec::new();
    for file in config.layers.iter().map(WorkspacePath::as_str) {
        let Some(format) = Format::of(file) else { continue };
        let text = workspace::read_text(file)?;
        match layer::read(file, format, &text) {
            Ok(settings) => values::overlay(&mut merged, settings, "", &mut mistakes),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    let own = values::of_json(config.values.clone(), &Origin { file: "values".into(), line: None });
    values::overlay(&mut merged, own, "", &mut mistakes);
    if !config.allow.contains(&Allowance::PlainSecrets) {
        mistakes.extend(plain_secrets(&merged));
    }
    refuse("the layers can't be merged", mistakes)?;
    let leaves = values::leaves(&merged);
    let has = |key: &str| leaves.iter().any(|(found, _)| found == key || found.starts_with(&format!("{key}.")));
    let missing: Vec<&str> = config.required.iter().map(String::as_str).filter(|key| !has(key)).collect();
    if missing.is_empty() {
        return Ok(merged);
    }
    let message = format!("no layer has a value for: {}", missing.join(", "));
    Err(Error::invalid(message).help("add it to a layer, or remove it from `required`"))
}

fn plain_secrets(settings: &Settings) -> Vec<Mistake> {
    let is_secret = |key: &str, setting: &Setting| {
        let name = key.rsplit('.').next().unwrap_or(key);
        setting.text().is_some_and(|value| plain_secrets::is_plain_secret(name, value))
    };
    let found = values::leaves(settings).into_iter().filter(|(key, setting)| is_secret(key, setting));
    let mistakes = found.map(|(key, Setting { origin, .. })| Mistake {
        file: origin.file.clone(),
        position: origin.line.map(Position::line),
        message: format!("`{key}` is a secret as plain text"),
        help: "let the deploy hand it to the release as a variable or a file, or set allow = [\"plain-secrets\"]"
            .into(),
    });
    mistakes.collect()
}

/// The texts of all files, by path.
fn render(config: &Config, settings: &Settings, values: &Json) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut mistakes = Vec::new();
    let mut add = |path: String, text: String| match files.insert(path.clone(), text) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("`{path}` is rendered twice")).help("write one of them to another file")),
    };
    for MergedFile { to, key } in &config.merged {
        let path = to.as_str();
        let Some(format) = Format::of(path) else { continue };
        let selected = key.as_deref().map_or(Some(settings), |key| values::table(settings, key));
        let Some(selected) = selected else {
            let message = format!("there is no table `{}` to write to `{path}`", key.as_deref().unwrap_or_default());
            return Err(Error::invalid(message).help("correct the key in `merged`"));
        };
        let text = format.write(&values::to_json(selected));
        add(path.to_owned(), text.map_err(|reason| Error::invalid(format!("`{path}` can't be written: {reason}")))?)?;
    }
    let templates = Templates::new(values, config.delimiters.as_ref().map(|[open, close]| (&**open, &**close)));
    for TemplateFiles { from, to } in &config.templates {
        for (file, path) in template::files(from.as_str(), to.as_str())? {
            match templates.fill(&file, &workspace::read_text(&file)?, &path) {
                Ok(text) => add(path, text)?,
                Err(mistake) => mistakes.push(mistake),
            }
        }
    }
    refuse("templates can't be filled in", mistakes)?;
    Ok(files)
}

/// Reports all mistakes as findings, and says them in the error, too.
fn refuse(what: &str, mistakes: Vec<Mistake>) -> Result<()> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let total = count(mistakes.len() as u64, "mistake");
    let causes = mistakes.into_iter().map(|Mistake { file, position, message, help }| {
        Finding::error("render", &message).file(&file, position).help(&help).report();
        let line = position.map(|position| format!(":{}", position.line)).unwrap_or_default();
        format!("{file}{line}: {message}; {help}")
    });
    Err(Error::invalid(format!("{what}: {total}")).never_retry().causes(causes.collect::<Vec<_>>()))
}

/// How many values a summary has at most.
const MOST_ROWS: usize = 200;

/// Which layer each value comes from, and which values it overrides.
fn summary(leaves: &[(String, &Setting)]) -> String {
    let cell = |text: String| text.replace('|', "\\|").replace(['\n', '\r'], " ");
    let rows = leaves.iter().take(MOST_ROWS).map(|(key, setting)| {
        let over: Vec<String> = setting.over.iter().map(ToString::to_string).collect();
        let value = setting.text().map_or_else(|| setting.json().to_string(), str::to_owned);
        format!("| {} | {} | {} | {} |\n", cell(key.clone()), cell(value), setting.origin, over.join(", "))
    });
    let rest = leaves.len().saturating_sub(MOST_ROWS);
    let rest = if rest > 0 { format!("\n…and {} more, in the output `origins`\n", rest) } else { String::new() };
    format!("| key | value | from | instead of |\n|---|---|---|---|\n{}{rest}", rows.collect::<String>())
}

stagewright_sdk::export_stage!(Render);
