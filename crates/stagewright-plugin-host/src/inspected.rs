//! A cache of what components return from `describe`, `validate` and `requirements`, kept between runs of the engine.
//!
//! The calls see the component and the `with` table and nothing else: no clock, no files, no environment. So their results
//! depend on the component's digest, the text of the table, and the engine's own version. There is a file for each
//! component, in a folder as private as that of compiled components, because the effect class of a stage follows from the
//! imports that are recorded here. A damaged file is treated as missing.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_engine::Problem;

use crate::aot::private;
use crate::digest::sha256;
use crate::plugin::{Description, Requirement};

/// Increased when results depend on something else, or the file's format changes.
const FORMAT: u32 = 3;

/// The most bytes of a file; a longer one is ignored and replaced.
const FILE_BYTES: u64 = 16 << 20;

/// The most `with` tables whose results are kept by component; beyond them, only those that this process used are kept.
const TABLES: usize = 4096;

/// Descriptions, and results for `with` tables, by component.
pub(crate) struct InspectionCache {
    /// None when other users have access to it.
    folder: Option<PathBuf>,
    components: Mutex<HashMap<String, StoredComponent>>,
}

#[derive(Default, Serialize, Deserialize)]
struct StoredComponent {
    description: Option<Description>,
    /// By the digest of the `with` table.
    tables: BTreeMap<String, StoredTable>,
    /// Whether it differs from the file.
    #[serde(skip)]
    changed: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct StoredTable {
    /// None if `validate` wasn't called on it.
    problems: Option<Vec<Problem>>,
    /// None if `requirements` wasn't called on it.
    requirements: Option<Vec<Requirement>>,
    /// Whether this process read or wrote it.
    #[serde(skip)]
    used: bool,
}

impl InspectionCache {
    pub(crate) fn new(folder: &Path) -> InspectionCache {
        let trusted = private(folder);
        if let Err(error) = &trusted {
            tracing::warn!(folder = %folder.display(), %error, "descriptions of plugins are not stored");
        }
        InspectionCache { folder: trusted.is_ok().then(|| folder.to_owned()), components: Mutex::default() }
    }

    /// The description of the component with this digest, if it is known.
    pub(crate) fn description(&self, digest: &str) -> Option<Description> {
        let described = self.with(digest, |component| component.description.clone())?;
        (described.digest == digest).then_some(described)
    }

    pub(crate) fn keep_description(&self, description: &Description) {
        self.with(&description.digest, |component| {
            component.description = Some(description.clone());
            component.changed = true;
        });
    }

    /// The problems that the component with this digest found in a `with` table, if they are known.
    pub(crate) fn findings(&self, digest: &str, config: &Json) -> Option<Vec<Problem>> {
        self.known(digest, config, |table| table.problems.clone())
    }

    pub(crate) fn keep_findings(&self, digest: &str, config: &Json, problems: &[Problem]) {
        self.keep(digest, config, |table| table.problems = Some(problems.to_vec()));
    }

    /// What the component with this digest requires for a `with` table, if that is known.
    pub(crate) fn requirements(&self, digest: &str, config: &Json) -> Option<Vec<Requirement>> {
        self.known(digest, config, |table| table.requirements.clone())
    }

    pub(crate) fn keep_requirements(&self, digest: &str, config: &Json, required: &[Requirement]) {
        self.keep(digest, config, |table| table.requirements = Some(required.to_vec()));
    }

    fn known<T>(&self, digest: &str, config: &Json, read: impl FnOnce(&StoredTable) -> Option<T>) -> Option<T> {
        self.with(digest, |component| {
            let table = component.tables.get_mut(&digest_of(config))?;
            table.used = true;
            read(table)
        })
    }

    fn keep(&self, digest: &str, config: &Json, write: impl FnOnce(&mut StoredTable)) {
        self.with(digest, |component| {
            let table = component.tables.entry(digest_of(config)).or_default();
            table.used = true;
            write(table);
            component.changed = true;
        });
    }

    /// Writes the files of the components that changed.
    pub(crate) fn save(&self) {
        let Some(folder) = &self.folder else { return };
        for (digest, component) in self.lock().iter_mut().filter(|(_, component)| component.changed) {
            if component.tables.len() > TABLES {
                component.tables.retain(|_, table| table.used);
            }
            if let Err(error) = write_file(folder, &name(digest), component) {
                tracing::warn!(folder = %folder.display(), %error, "could not store the description of a plugin");
            }
            component.changed = false;
        }
    }

    fn with<T>(&self, digest: &str, act: impl FnOnce(&mut StoredComponent) -> T) -> T {
        let mut components = self.lock();
        if let Some(component) = components.get_mut(digest) {
            return act(component);
        }
        let read = self.folder.as_ref().and_then(|folder| read(&folder.join(name(digest))));
        act(components.entry(digest.to_owned()).or_insert(read.unwrap_or_default()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, StoredComponent>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest_of(config: &Json) -> String {
    sha256(config.to_string().as_bytes())
}

/// The name of a component's file, which covers everything that its results depend on except for the `with` table.
fn name(digest: &str) -> String {
    let of = format!("{FORMAT} {} {digest}", env!("CARGO_PKG_VERSION"));
    format!("{}.json", sha256(of.as_bytes()).replace(':', "-"))
}

/// None when the file is missing or damaged.
fn read(file: &Path) -> Option<StoredComponent> {
    let text = String::from_utf8(stagewright_files::read(file, FILE_BYTES).ok()?).ok()?;
    let (digest, text) = text.split_once('\n')?;
    if sha256(text.as_bytes()) != digest {
        tracing::warn!(file = %file.display(), "the stored description of a plugin is damaged; describing it again");
        return None;
    }
    serde_json::from_str(text).ok()
}

fn write_file(folder: &Path, name: &str, component: &StoredComponent) -> io::Result<()> {
    let text = serde_json::to_string(component)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    // Not synchronised: a file that is incomplete after a power failure doesn't match its digest.
    write!(draft, "{}\n{text}", sha256(text.as_bytes()))?;
    draft.persist(folder.join(name))?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;
    use stagewright_engine::Level;

    use super::*;
    use crate::plugin::PluginManifest;

    fn problem(message: &str) -> Problem {
        Problem::new(Level::Error, "config", message)
    }

    fn description(digest: &str) -> Description {
        let mut imports = stagewright_model::ImportedFunctions::default();
        imports.insert("process", ["command.spawn".to_owned()]);
        Description {
            manifest: PluginManifest { name: "mine".to_owned(), ..PluginManifest::default() },
            digest: digest.to_owned(),
            imports,
            contract: Some("0.1.0".to_owned()),
            native: false,
            reconciles: true,
        }
    }

    /// A folder with a component's description and its findings on one table.
    fn inspected_component() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inspected");
        let inspected = InspectionCache::new(&path);
        inspected.keep_description(&description("sha256:1"));
        inspected.keep_findings("sha256:1", &json!({ "a": 1 }), &[problem("wrong")]);
        inspected.save();
        (folder, path)
    }

    fn only_file(folder: &Path) -> PathBuf {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        assert_eq!(files.len(), 1);
        files[0].clone()
    }

    #[test]
    fn a_later_process_knows_results_for_the_same_component_and_table_only() {
        let (_folder, path) = inspected_component();
        let later = InspectionCache::new(&path);
        assert_eq!(later.description("sha256:1"), Some(description("sha256:1")));
        assert_eq!(later.findings("sha256:1", &json!({ "a": 1 })), Some(vec![problem("wrong")]));
        assert_eq!(later.findings("sha256:1", &json!({ "a": 2 })), None);
        assert_eq!(later.findings("sha256:2", &json!({ "a": 1 })), None);
        assert_eq!(later.description("sha256:2"), None);
    }

    #[test]
    fn problems_and_requirements_of_a_table_are_known_apart() {
        let (_folder, path) = inspected_component();
        let inspected = InspectionCache::new(&path);
        assert_eq!(inspected.requirements("sha256:1", &json!({ "a": 1 })), None);
        let required = Requirement {
            permission: "read".to_owned(),
            entry: "src".to_owned(),
            reason: Some("is built".to_owned()),
            optional: false,
        };
        inspected.keep_requirements("sha256:1", &json!({ "a": 1 }), std::slice::from_ref(&required));
        inspected.save();
        let later = InspectionCache::new(&path);
        assert_eq!(later.requirements("sha256:1", &json!({ "a": 1 })), Some(vec![required]));
        assert_eq!(later.findings("sha256:1", &json!({ "a": 1 })), Some(vec![problem("wrong")]));
    }

    #[test]
    fn a_changed_or_truncated_file_is_ignored_and_replaced() {
        let (_folder, path) = inspected_component();
        let file = only_file(&path);
        let good = fs::read_to_string(&file).unwrap();
        for bad in [good.replace("process", "context"), good[..good.len() - 9].to_owned(), String::new()] {
            fs::write(&file, bad).unwrap();
            let later = InspectionCache::new(&path);
            assert_eq!(later.description("sha256:1"), None);
            assert_eq!(later.findings("sha256:1", &json!({ "a": 1 })), None);
            later.keep_description(&description("sha256:1"));
            later.keep_findings("sha256:1", &json!({ "a": 1 }), &[problem("wrong")]);
            later.save();
            assert_eq!(fs::read_to_string(&file).unwrap(), good);
        }
    }

    #[test]
    fn beyond_the_limit_only_tables_used_by_this_process_are_kept() {
        let (_folder, path) = inspected_component();
        let later = InspectionCache::new(&path);
        (0..TABLES).for_each(|number| later.keep_findings("sha256:1", &json!(number), &[]));
        later.save();
        let last = InspectionCache::new(&path);
        assert_eq!(last.findings("sha256:1", &json!(TABLES - 1)), Some(Vec::new()));
        assert_eq!(last.findings("sha256:1", &json!({ "a": 1 })), None);
    }

    #[test]
    fn a_folder_that_others_can_reach_is_not_used() {
        let (_folder, path) = inspected_component();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let later = InspectionCache::new(&path);
        assert_eq!(later.description("sha256:1"), None);
        later.keep_description(&description("sha256:1"));
        later.save();
        assert_eq!(later.description("sha256:1"), Some(description("sha256:1")), "known within the process");
    }
}
