//! What components answered to `describe` and `validate`, kept between runs of the engine.
//!
//! Both calls see the component and the `with` table and nothing else: no clock, no files, no environment. So the digest
//! of the component and the text of the table say all that an answer depends on, beside the engine's own version. There
//! is a file for each component, below the same folder of this user's own as compiled components, because what a plugin
//! imports decides how far its effects are taken to reach. A file that is damaged is as good as none.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_engine::Problem;

use crate::aot::private;
use crate::digest::sha256;
use crate::plugin::Description;

/// Raised when an answer comes to depend on something else, or is written otherwise.
const FORMAT: u32 = 1;

/// Bytes of a file; one that has more is begun anew.
const FILE_BYTES: u64 = 16 << 20;

/// Answers about `with` tables that are kept of a component; beyond them, only those are that this process asked for.
const TABLES: usize = 4096;

/// What is known, by component.
pub(crate) struct Inspected {
    /// None when it can't be trusted.
    folder: Option<PathBuf>,
    components: Mutex<HashMap<String, Component>>,
}

#[derive(Default, Serialize, Deserialize)]
struct Component {
    description: Option<Description>,
    /// By the digest of the `with` table.
    findings: BTreeMap<String, Findings>,
    /// Whether the file doesn't say all of this yet.
    #[serde(skip)]
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Findings {
    problems: Vec<Problem>,
    #[serde(skip)]
    asked: bool,
}

impl Inspected {
    pub(crate) fn new(folder: &Path) -> Inspected {
        let trusted = private(folder);
        if let Err(error) = &trusted {
            tracing::warn!(folder = %folder.display(), %error, "answers of plugins are not kept");
        }
        Inspected { folder: trusted.is_ok().then(|| folder.to_owned()), components: Mutex::default() }
    }

    /// Of the component with this digest.
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

    /// What the component with this digest finds wrong with a `with` table.
    pub(crate) fn findings(&self, digest: &str, config: &Json) -> Option<Vec<Problem>> {
        self.with(digest, |component| {
            let known = component.findings.get_mut(&table(config))?;
            known.asked = true;
            Some(known.problems.clone())
        })
    }

    pub(crate) fn keep_findings(&self, digest: &str, config: &Json, problems: &[Problem]) {
        self.with(digest, |component| {
            component.findings.insert(table(config), Findings { problems: problems.to_vec(), asked: true });
            component.changed = true;
        });
    }

    /// Writes down what is new.
    pub(crate) fn save(&self) {
        let Some(folder) = &self.folder else { return };
        for (digest, component) in self.lock().iter_mut().filter(|(_, component)| component.changed) {
            if component.findings.len() > TABLES {
                component.findings.retain(|_, findings| findings.asked);
            }
            if let Err(error) = keep(folder, &name(digest), component) {
                tracing::warn!(folder = %folder.display(), %error, "answers of a plugin are not kept");
            }
            component.changed = false;
        }
    }

    fn with<T>(&self, digest: &str, act: impl FnOnce(&mut Component) -> T) -> T {
        let mut components = self.lock();
        if let Some(component) = components.get_mut(digest) {
            return act(component);
        }
        let read = self.folder.as_ref().and_then(|folder| read(&folder.join(name(digest))));
        act(components.entry(digest.to_owned()).or_insert(read.unwrap_or_default()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Component>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn table(config: &Json) -> String {
    sha256(config.to_string().as_bytes())
}

/// Of a component's file: it holds all that the answers depend on, their question aside.
fn name(digest: &str) -> String {
    let of = format!("{FORMAT} {} {digest}", env!("CARGO_PKG_VERSION"));
    format!("{}.json", sha256(of.as_bytes()).replace(':', "-"))
}

/// None when there is no such file, or it isn't as it was written.
fn read(file: &Path) -> Option<Component> {
    let text = String::from_utf8(stagewright_files::read(file, FILE_BYTES).ok()?).ok()?;
    let (digest, text) = text.split_once('\n')?;
    if sha256(text.as_bytes()) != digest {
        tracing::warn!(file = %file.display(), "answers of a plugin are damaged, and it is asked again");
        return None;
    }
    serde_json::from_str(text).ok()
}

fn keep(folder: &Path, name: &str, component: &Component) -> io::Result<()> {
    let text = serde_json::to_string(component)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    // Not synchronised: the digest tells a file that has its name and not its content.
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
    use crate::plugin::Manifest;

    fn problem(message: &str) -> Problem {
        Problem { level: Level::Error, code: "config".into(), message: message.into(), path: None, help: None }
    }

    fn description(digest: &str) -> Description {
        Description {
            manifest: Manifest { name: "mine".to_owned(), ..Manifest::default() },
            digest: digest.to_owned(),
            interfaces: ["process".to_owned()].into(),
            contract: Some("0.1.0".to_owned()),
            native: false,
            reconciles: true,
        }
    }

    /// A folder in which a component was asked both questions.
    fn asked() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inspected");
        let inspected = Inspected::new(&path);
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
    fn an_answer_is_known_to_a_later_process_for_the_same_component_and_table_alone() {
        let (_folder, path) = asked();
        let later = Inspected::new(&path);
        assert_eq!(later.description("sha256:1"), Some(description("sha256:1")));
        assert_eq!(later.findings("sha256:1", &json!({ "a": 1 })), Some(vec![problem("wrong")]));
        assert_eq!(later.findings("sha256:1", &json!({ "a": 2 })), None);
        assert_eq!(later.findings("sha256:2", &json!({ "a": 1 })), None);
        assert_eq!(later.description("sha256:2"), None);
    }

    #[test]
    fn a_file_that_was_changed_or_is_cut_off_is_written_anew() {
        let (_folder, path) = asked();
        let file = only_file(&path);
        let good = fs::read_to_string(&file).unwrap();
        for bad in [good.replace("process", "context"), good[..good.len() - 9].to_owned(), String::new()] {
            fs::write(&file, bad).unwrap();
            let later = Inspected::new(&path);
            assert_eq!(later.description("sha256:1"), None);
            assert_eq!(later.findings("sha256:1", &json!({ "a": 1 })), None);
            later.keep_description(&description("sha256:1"));
            later.keep_findings("sha256:1", &json!({ "a": 1 }), &[problem("wrong")]);
            later.save();
            assert_eq!(fs::read_to_string(&file).unwrap(), good);
        }
    }

    #[test]
    fn of_very_many_tables_those_are_kept_that_were_asked_for() {
        let (_folder, path) = asked();
        let later = Inspected::new(&path);
        (0..TABLES).for_each(|number| later.keep_findings("sha256:1", &json!(number), &[]));
        later.save();
        let last = Inspected::new(&path);
        assert_eq!(last.findings("sha256:1", &json!(TABLES - 1)), Some(Vec::new()));
        assert_eq!(last.findings("sha256:1", &json!({ "a": 1 })), None);
    }

    #[test]
    fn a_folder_that_others_can_reach_is_not_used() {
        let (_folder, path) = asked();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let later = Inspected::new(&path);
        assert_eq!(later.description("sha256:1"), None);
        later.keep_description(&description("sha256:1"));
        later.save();
        assert_eq!(later.description("sha256:1"), Some(description("sha256:1")), "within the process");
    }
}
