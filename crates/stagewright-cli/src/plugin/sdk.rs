//! The SDK that this program contains, and the copies of it in the folders of plugins.
//!
//! A copy consists of its manifest, `src` and `wit`. Everything else in its folder belongs to the plugin's author, and is
//! neither compared nor removed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;
use toml::{Table, Value};

use super::PluginCommandError;

/// Embeds files of the SDK, each as its path and content.
macro_rules! sdk_files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../stagewright-sdk/", $path)))),*]
    };
}

/// All files that are needed to build the SDK, except for its manifest.
const SOURCES: &[(&str, &str)] = sdk_files![
    "src/artifacts.rs",
    "src/bindings.rs",
    "src/border.rs",
    "src/clock.rs",
    "src/config.rs",
    "src/context.rs",
    "src/descriptor.rs",
    "src/duration.rs",
    "src/environment.rs",
    "src/error.rs",
    "src/export.rs",
    "src/fake.rs",
    "src/fake/glob.rs",
    "src/fake/imports.rs",
    "src/fake/imports/files.rs",
    "src/fake/imports/http.rs",
    "src/fake/imports/process.rs",
    "src/fake/imports/results.rs",
    "src/fake/imports/environment.rs",
    "src/fake/imports/run.rs",
    "src/fake/imports/service.rs",
    "src/fake/imports/source.rs",
    "src/fake/imports/ssh.rs",
    "src/fake/imports/types.rs",
    "src/fake/report.rs",
    "src/fake/repository.rs",
    "src/fake/rules.rs",
    "src/fake/script.rs",
    "src/fake/state.rs",
    "src/field_kind.rs",
    "src/findings.rs",
    "src/gate.rs",
    "src/history.rs",
    "src/http.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/manifest.rs",
    "src/metrics.rs",
    "src/need.rs",
    "src/outputs.rs",
    "src/poll.rs",
    "src/problem.rs",
    "src/process.rs",
    "src/random.rs",
    "src/registry.rs",
    "src/requirement.rs",
    "src/rollout.rs",
    "src/secrets.rs",
    "src/service.rs",
    "src/service_state.rs",
    "src/source.rs",
    "src/ssh.rs",
    "src/stage.rs",
    "src/statuses.rs",
    "src/test_case.rs",
    "src/test_reports.rs",
    "src/text.rs",
    "src/url.rs",
    "src/workspace.rs",
    "src/workspace_path.rs",
    "wit/deps/artifacts.wit",
    "wit/deps/clock.wit",
    "wit/deps/context.wit",
    "wit/deps/environment.wit",
    "wit/deps/findings.wit",
    "wit/deps/gate.wit",
    "wit/deps/http.wit",
    "wit/deps/logging.wit",
    "wit/deps/metrics.wit",
    "wit/deps/outputs.wit",
    "wit/deps/poll.wit",
    "wit/deps/process.wit",
    "wit/deps/random.wit",
    "wit/deps/registry.wit",
    "wit/deps/secrets.wit",
    "wit/deps/service.wit",
    "wit/deps/source.wit",
    "wit/deps/ssh.wit",
    "wit/deps/test-reports.wit",
    "wit/deps/types.wit",
    "wit/deps/workspace.wit",
    "wit/stage.wit",
];

const MANIFEST: &str = include_str!("../../../stagewright-sdk/Cargo.toml");

/// The entries in the folder of a copy that belong to the SDK.
pub(super) const ENTRIES: [&str; 3] = ["Cargo.toml", "src", "wit"];

/// The version of an SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SdkVersion {
    /// The version of its crate.
    pub(super) release: Version,
    /// The minor version of the contract that its plugins are built for, as in `0.2`.
    pub(super) contract: String,
}

impl SdkVersion {
    /// The version of the SDK that this program contains.
    pub(super) fn embedded() -> SdkVersion {
        let files = files();
        SdkVersion::parse(&files["Cargo.toml"], &files["wit/stage.wit"])
            .unwrap_or_else(|reason| unreachable!("the embedded SDK: {reason}"))
    }

    /// The version of a copy.
    pub(super) fn of_copy(folder: &Path) -> Result<SdkVersion, PluginCommandError> {
        let read = |name: &str| {
            let path = folder.join(name);
            stagewright_files::read_text(&path, stagewright_files::CONFIGURATION)
                .map_err(|source| PluginCommandError::Read { path, source })
        };
        SdkVersion::parse(&read("Cargo.toml")?, &read("wit/stage.wit")?)
            .map_err(|reason| PluginCommandError::NoSdk { path: folder.to_owned(), reason })
    }

    fn parse(manifest: &str, wit: &str) -> Result<SdkVersion, String> {
        let manifest: Table = manifest.parse().map_err(|error: toml::de::Error| format!("Cargo.toml: {error}"))?;
        let package = |key: &str| manifest.get("package")?.get(key).and_then(Value::as_str);
        if package("name") != Some("stagewright-sdk") {
            return Err("Cargo.toml names another package".to_owned());
        }
        let release = package("version").ok_or("`package.version` is missing in Cargo.toml")?;
        let release = Version::parse(release).map_err(|error| format!("invalid version `{release}`: {error}"))?;
        let contract = wit.lines().find_map(|line| line.strip_prefix("package stagewright:stage@")?.strip_suffix(';'));
        let contract = contract.and_then(|contract| Version::parse(contract).ok());
        let contract = contract.ok_or("wit/stage.wit declares no version of `stagewright:stage`")?;
        Ok(SdkVersion { release, contract: format!("{}.{}", contract.major, contract.minor) })
    }
}

impl fmt::Display for SdkVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (contract {})", self.release, self.contract)
    }
}

/// How many files of a copy an upgrade changes, adds and removes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SdkDifference {
    pub(super) changed: usize,
    pub(super) added: usize,
    pub(super) removed: usize,
}

impl SdkDifference {
    /// Compares a copy with the SDK that this program contains.
    pub(super) fn of_copy(folder: &Path) -> Result<SdkDifference, PluginCommandError> {
        let mut present = BTreeSet::new();
        for entry in ENTRIES.map(|name| folder.join(name)).into_iter().filter(|entry| entry.exists()) {
            collect(entry, &mut present)?;
        }
        let mut difference = SdkDifference::default();
        for (name, text) in files() {
            let path = folder.join(name);
            if !present.remove(&path) {
                difference.added += 1;
                continue;
            }
            let content = stagewright_files::read(&path, stagewright_files::RECORD)
                .map_err(|source| PluginCommandError::Read { path, source })?;
            difference.changed += usize::from(content != text.as_bytes());
        }
        difference.removed = present.len();
        Ok(difference)
    }
}

/// Whether the folder has the files of the SDK itself. In the engine's repository the contract is a link.
pub(super) fn is_copy(folder: &Path) -> bool {
    !ENTRIES.iter().any(|name| folder.join(name).is_symlink())
}

/// Writes a copy of the SDK.
pub(super) fn write(folder: &Path) -> Result<(), PluginCommandError> {
    files().iter().try_for_each(|(name, text)| write_file(&folder.join(name), text))
}

/// Writes a file, and the folders that lead to it.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), PluginCommandError> {
    let failed = |source| PluginCommandError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

/// Replaces a copy, whose earlier content is in `earlier` afterwards. That path must be beside the copy, and must not exist.
///
/// A process that is killed meanwhile leaves the earlier copy or the new one, never a mixture; [`carry_over`] may not have
/// been completed then.
pub(super) fn replace(folder: &Path, earlier: &Path) -> Result<(), PluginCommandError> {
    write(earlier)?;
    let failed = |source| PluginCommandError::Write { path: folder.to_owned(), source };
    stagewright_files::exchange(folder, earlier).map_err(failed)?;
    carry_over(earlier, folder)
}

/// Moves what doesn't belong to the SDK from the folder of an earlier copy to that of its successor.
pub(super) fn carry_over(earlier: &Path, folder: &Path) -> Result<(), PluginCommandError> {
    let unreadable = |source| PluginCommandError::Read { path: earlier.to_owned(), source };
    for entry in earlier.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let target = folder.join(entry.file_name());
        if ENTRIES.iter().all(|name| entry.file_name() != *name) && !target.exists() {
            fs::rename(entry.path(), &target)
                .map_err(|source| PluginCommandError::Write { path: target.clone(), source })?;
        }
    }
    Ok(())
}

/// All files of the SDK by their paths.
fn files() -> BTreeMap<&'static str, Cow<'static, str>> {
    let sources = SOURCES.iter().map(|(path, text)| (*path, Cow::Borrowed(*text)));
    sources.chain([("Cargo.toml", Cow::Owned(vendored_manifest()))]).collect()
}

/// The manifest of the SDK without the lints, the only thing that it inherits from its workspace.
fn vendored_manifest() -> String {
    MANIFEST.replace("[lints]\nworkspace = true\n", "").trim_end().to_owned() + "\n"
}

fn collect(path: PathBuf, files: &mut BTreeSet<PathBuf>) -> Result<(), PluginCommandError> {
    if path.is_symlink() || !path.is_dir() {
        files.insert(path);
        return Ok(());
    }
    let unreadable = |source| PluginCommandError::Read { path: path.clone(), source };
    for entry in path.read_dir().map_err(unreadable)? {
        collect(entry.map_err(unreadable)?.path(), files)?;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read files that they wrote themselves")]
mod tests {
    use super::*;

    /// A copy as this program writes it.
    fn copy() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sdk");
        write(&folder).unwrap();
        (dir, folder)
    }

    #[test]
    fn all_files_of_the_sdk_are_embedded() {
        let sdk = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../stagewright-sdk");
        let mut expected = BTreeSet::new();
        // `wit` is a link to a folder.
        for folder in [sdk.join("src"), sdk.join("wit").canonicalize().unwrap()] {
            let mut found = BTreeSet::new();
            collect(folder.clone(), &mut found).unwrap();
            let name = if folder.ends_with("src") { "src" } else { "wit" };
            expected.extend(found.iter().map(|path| Path::new(name).join(path.strip_prefix(&folder).unwrap())));
        }
        let embedded: BTreeSet<PathBuf> = SOURCES.iter().map(|(path, _)| PathBuf::from(path)).collect();
        assert_eq!(embedded, expected);
    }

    #[test]
    fn the_copied_manifest_inherits_nothing_from_a_workspace() {
        let manifest: Table = vendored_manifest().parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("stagewright-sdk"));
        assert!(!vendored_manifest().contains("workspace = true"), "{}", vendored_manifest());
    }

    #[test]
    fn the_version_of_the_sdk_is_that_of_its_contract() {
        let SdkVersion { release, contract } = SdkVersion::embedded();
        assert_eq!(format!("{}.{}", release.major, release.minor), contract);
    }

    #[test]
    fn folders_that_hold_no_sdk_are_refused_with_a_reason() {
        let manifest = vendored_manifest();
        let reason = |manifest: &str, wit: &str| SdkVersion::parse(manifest, wit).unwrap_err();
        let wit = "package stagewright:stage@0.1.0;";
        assert_eq!(SdkVersion::parse(&manifest, wit).unwrap().contract, "0.1");
        assert_eq!(reason("[package]\nname = \"other\"", wit), "Cargo.toml names another package");
        assert!(reason(&manifest.replace("version = \"0", "version = \"x"), wit).starts_with("invalid version `x"));
        assert!(reason(&manifest, "package other:stage@0.1.0;").contains("declares no version"));
    }

    #[test]
    fn only_the_entries_of_the_sdk_are_compared() {
        let (_dir, folder) = copy();
        fs::write(folder.join("LICENSE"), "text").unwrap();
        assert_eq!(SdkDifference::of_copy(&folder).unwrap(), SdkDifference::default());
        fs::write(folder.join("src/lib.rs"), "changed").unwrap();
        fs::write(folder.join("src/fake/more.rs"), "removed").unwrap();
        fs::remove_file(folder.join("Cargo.toml")).unwrap();
        fs::remove_file(folder.join("wit/deps/types.wit")).unwrap();
        let expected = SdkDifference { changed: 1, added: 2, removed: 1 };
        assert_eq!(SdkDifference::of_copy(&folder).unwrap(), expected);
    }

    #[test]
    fn a_replaced_copy_keeps_what_the_author_added_and_leaves_the_earlier_one_beside() {
        let (dir, folder) = copy();
        fs::write(folder.join("LICENSE"), "text").unwrap();
        fs::write(folder.join("src/lib.rs"), "changed").unwrap();
        let earlier = dir.path().join("earlier");
        replace(&folder, &earlier).unwrap();
        assert_eq!(SdkDifference::of_copy(&folder).unwrap(), SdkDifference::default());
        assert_eq!(fs::read_to_string(folder.join("LICENSE")).unwrap(), "text");
        assert_eq!(fs::read_to_string(earlier.join("src/lib.rs")).unwrap(), "changed");
        assert!(!earlier.join("LICENSE").exists());
    }
}
