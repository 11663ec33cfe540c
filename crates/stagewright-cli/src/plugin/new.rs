//! `plugin new`: creates a plugin as a workspace of its own, with a working stage, its tests and a copy of the SDK, so
//! that it builds anywhere.

use stagewright_report::{Printer, text};

use super::{NewArgs, PluginCommandError, sdk};

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
    let sdk_path = match &args.sdk {
        Some(sdk) => {
            let absolute =
                sdk.canonicalize().map_err(|source| PluginCommandError::Read { path: sdk.clone(), source })?;
            absolute.display().to_string()
        }
        None => "sdk".to_owned(),
    };
    for (path, text) in TEMPLATE {
        sdk::write_file(&folder.join(path), &fill(text, name, &sdk_path))?;
    }
    if args.sdk.is_none() {
        sdk::write(&folder.join("sdk"))?;
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read files that they wrote themselves")]
mod tests {
    use std::fs;

    use super::*;

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
