//! Generates what the documentation says about the built-in plugins and the format of pipelines: the JSON Schema, which
//! is in the repository so that editors can use it, the reference of keys, and a page for each plugin.
//!
//! The reference is the model's; the others are written by the `stagewright` that this tree builds, from the manifests of
//! the plugins that it builds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::cargo::{Result, capture, cargo, root};
use crate::pipeline;

const SCHEMA: &str = "docs/stagewright.schema.json";
const REFERENCE: &str = "docs/pipeline-file.md";
const PAGES: &str = "docs/plugins";

/// The first line of a page, which people don't see.
const GENERATED: &str = "<!-- Generated from the plugin's manifest by `cargo xtask schema`. -->\n\n";

/// Writes the schema and the pages, and removes the pages of plugins that are gone.
pub(crate) fn write() -> Result<()> {
    let documents = documents()?;
    for path in outdated(&documents) {
        let file = root().join(&path);
        let written = match documents.get(&path) {
            Some(text) => std::fs::create_dir_all(root().join(PAGES)).and_then(|()| std::fs::write(&file, text)),
            None => std::fs::remove_file(&file),
        };
        written.map_err(|error| format!("can't write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Fails if the schema or a page isn't what [`write()`] would write.
pub(crate) fn check() -> Result<()> {
    match outdated(&documents()?).first() {
        None => Ok(()),
        Some(path) => Err(format!("{} is out of date\n  help: run `cargo xtask schema`", path.display())),
    }
}

/// The documents by their paths in the repository.
fn documents() -> Result<BTreeMap<PathBuf, String>> {
    let (program, plugins) = pipeline::build(pipeline::FULL, Stdio::null())?;
    // In a folder without pipelines, so that only built-in plugins are described.
    let empty = tempfile::tempdir().map_err(|error| format!("can't create a folder: {error}"))?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(&empty).args(arguments).env("STAGEWRIGHT_PLUGINS", &plugins);
        capture(&mut command).map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let reference = ["run", "--quiet", "--package", "stagewright-model", "--example", "reference"];
    let reference = String::from_utf8_lossy(&capture(cargo().args(reference))?).into_owned();
    let mut documents =
        BTreeMap::from([(PathBuf::from(SCHEMA), run(&["schema"])?), (PathBuf::from(REFERENCE), reference)]);
    let listed: Json = serde_json::from_str(&run(&["plugin", "list", "--json"])?)
        .map_err(|error| format!("`stagewright plugin list` printed invalid JSON: {error}"))?;
    for name in listed.as_array().into_iter().flatten().filter_map(|plugin| plugin["uses"].as_str()) {
        let page = run(&["plugin", "show", name, "--markdown"])?;
        documents.insert(Path::new(PAGES).join(format!("{name}.md")), format!("{GENERATED}{page}"));
    }
    Ok(documents)
}

/// The paths whose files differ from the documents, those of pages without a plugin included.
fn outdated(documents: &BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
    let differs =
        |(path, text): &(&PathBuf, &String)| std::fs::read_to_string(root().join(path)).ok().as_ref() != Some(text);
    let mut paths: Vec<PathBuf> = documents.iter().filter(differs).map(|(path, _)| path.clone()).collect();
    let pages = root().join(PAGES).read_dir().into_iter().flatten().flatten();
    let pages = pages.map(|page| Path::new(PAGES).join(page.file_name()));
    paths.extend(pages.filter(|page| !documents.contains_key(page)));
    paths
}
