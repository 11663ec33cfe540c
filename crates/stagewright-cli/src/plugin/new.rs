//! `plugin new`: creates a plugin as a workspace of its own, with a working stage, its tests and a copy of the SDK, so
//! that it builds anywhere.

use std::fs;
use std::path::Path;

use stagewright_report::{Printer, text};

use super::{NewArgs, PluginCommandError};

/// Embeds files of the SDK, each as its path and content.
macro_rules! sdk_files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../stagewright-sdk/", $path)))),*]
    };
}

/// All files that are needed to build the SDK, except for its manifest.
const SDK: &[(&str, &str)] = sdk_files![
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
    "src/fake/imports/run.rs",
    "src/fake/imports/service.rs",
    "src/fake/imports/types.rs",
    "src/fake/report.rs",
    "src/fake/rules.rs",
    "src/fake/script.rs",
    "src/fake/state.rs",
    "src/field_kind.rs",
    "src/findings.rs",
    "src/gate.rs",
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
    "src/secrets.rs",
    "src/service.rs",
    "src/service_state.rs",
    "src/source.rs",
    "src/stage.rs",
    "src/statuses.rs",
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
    "wit/deps/test-reports.wit",
    "wit/deps/types.wit",
    "wit/deps/workspace.wit",
    "wit/stage.wit",
];

const SDK_MANIFEST: &str = include_str!("../../../stagewright-sdk/Cargo.toml");

const TEMPLATE: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("README.md", include_str!("template/README.md.in")),
    (".gitignore", include_str!("template/gitignore.in")),
];

pub(super) fn run(args: &NewArgs, out: &mut Printer) -> Result<(), PluginCommandError> {
    let name = &args.name;
    if !is_name(name) {
        return Err(PluginCommandError::Name(name.clone()));
    }
    let folder = args.path.join(name);
    if folder.exists() {
        return Err(PluginCommandError::Exists(folder));
    }
    let sdk = match &args.sdk {
        Some(sdk) => {
            let absolute =
                sdk.canonicalize().map_err(|source| PluginCommandError::Read { path: sdk.clone(), source })?;
            absolute.display().to_string()
        }
        None => "sdk".to_owned(),
    };
    for (path, text) in TEMPLATE {
        write(&folder.join(path), &fill(text, name, &sdk))?;
    }
    if args.sdk.is_none() {
        write(&folder.join("sdk/Cargo.toml"), &vendored_manifest())?;
        for (path, text) in SDK {
            write(&folder.join("sdk").join(path), text)?;
        }
    }
    let shown = folder.display();
    out.line(text!("Created {shown}. Next steps:"))?;
    out.line(text!("  cargo test --manifest-path {shown}/Cargo.toml"))?;
    out.line(text!("  stagewright plugin build {shown}"))?;
    out.line(text!("  stagewright plugin check {shown}"))?;
    Ok(())
}

/// Whether the name is valid for Cargo, can be turned into a Rust identifier, and is valid in a pipeline file.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(allowed) && !name.ends_with('-')
}

fn fill(template: &str, name: &str, sdk: &str) -> String {
    let words = name.split('-').filter(|word| !word.is_empty());
    let type_name: String = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    // TOML escapes backslashes and quotes in a string like JSON does.
    let sdk = serde_json::Value::from(sdk).to_string();
    template.replace("{{name}}", name).replace("{{Type}}", &type_name).replace("{{sdk}}", &sdk)
}

/// The manifest of the SDK without the lints, the only thing that it inherits from its workspace.
fn vendored_manifest() -> String {
    SDK_MANIFEST.replace("[lints]\nworkspace = true\n", "").trim_end().to_owned() + "\n"
}

fn write(path: &Path, text: &str) -> Result<(), PluginCommandError> {
    let failed = |source| PluginCommandError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read files that they wrote themselves")]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    fn files_below(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in folder.read_dir().unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                files_below(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn all_files_of_the_sdk_are_embedded() {
        let sdk = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../stagewright-sdk");
        let mut expected = BTreeSet::new();
        files_below(&sdk.join("src"), "src/", &mut expected);
        files_below(&sdk.join("wit"), "wit/", &mut expected);
        let embedded: BTreeSet<String> = SDK.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(embedded, expected);
    }

    #[test]
    fn the_copied_manifest_inherits_nothing_from_a_workspace() {
        let manifest: toml::Table = vendored_manifest().parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("stagewright-sdk"));
        assert!(!vendored_manifest().contains("workspace = true"), "{}", vendored_manifest());
    }

    #[test]
    fn a_created_plugin_has_the_name_and_refers_to_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let args = NewArgs { name: "count-lines".to_owned(), path: dir.path().to_owned(), sdk: None };
        let mut out = Printer::new(std::io::sink());
        run(&args, &mut out).unwrap();
        let root = dir.path().join("count-lines");
        let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["dependencies"]["stagewright-sdk"]["path"].as_str(), Some("sdk"));
        let code = fs::read_to_string(root.join("src/lib.rs")).unwrap();
        assert!(code.contains("export_stage!(CountLines)") && !code.contains("{{"), "{code}");
        assert!(root.join("sdk/wit/stage.wit").is_file() && root.join("sdk/wit/deps/types.wit").is_file());
        assert!(matches!(run(&args, &mut out), Err(PluginCommandError::Exists(_))));
    }

    #[test]
    fn names_are_lower_case_and_start_with_a_letter() {
        assert!(is_name("count-lines2"));
        for bad in ["", "Count", "2count", "count_lines", "count-", "../count"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
