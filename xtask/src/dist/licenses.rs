//! The licences of what a release contains, in one text: each text once, with the crates that it belongs to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ShippedCrate;
use crate::cargo::Result;

/// How the names of files with a licence begin, in upper case.
const NAMES: [&str; 6] = ["COPYING", "COPYRIGHT", "LICENCE", "LICENSE", "NOTICE", "UNLICENSE"];

const HEAD: &str = "\
Stagewright contains the crates listed here, each with its licence as an SPDX expression. The texts that their packages \
contain follow; where a package contains none, the names of its authors stand for its copyright notice.

It also contains Rust's standard library (https://www.rust-lang.org), MIT OR Apache-2.0, by the Rust Project Developers.
";

/// The text for all crates that aren't this repository's own.
pub(super) fn text(crates: &[ShippedCrate]) -> Result<Vec<u8>> {
    let mut list = HEAD.to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in crates.iter().filter(|one| !one.is_own) {
        let name = format!("{} {}", one.name, one.version);
        let found = files(&one.folder)?;
        let authors = match found.is_empty() && !one.authors.is_empty() {
            true => format!(", by {}", one.authors.join(", ")),
            false => String::new(),
        };
        list.push_str(&format!("\n{name}: {}{authors}", one.license.as_deref().unwrap_or("see its text")));
        for file in found {
            let text = std::fs::read(&file).map_err(|error| format!("can't read {}: {error}", file.display()))?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n").trim_end().to_owned();
            let path = file.strip_prefix(&one.folder).unwrap_or(&file);
            texts.entry(text).or_default().push(format!("{name} ({})", path.display()));
        }
    }
    let mut texts: Vec<_> = texts.into_iter().map(|(text, of)| (of, text)).collect();
    texts.sort();
    for (of, text) in texts {
        list.push_str(&format!("\n\n{}\n{}\n\n{text}", "=".repeat(100), of.join("\n")));
    }
    list.push('\n');
    Ok(list.into_bytes())
}

/// The files with licences in a package and its folders, such as those of bundled C libraries.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in list(folder)? {
        if entry.is_file() && is_license(&entry) {
            found.push(entry);
        } else if entry.is_dir() {
            found.extend(list(&entry)?.into_iter().filter(|file| file.is_file() && is_license(file)));
        }
    }
    found.sort();
    Ok(found)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().and_then(|all| all.map(|entry| entry.map(|entry| entry.path())).collect());
    entries.map_err(|error| format!("can't list {}: {error}", folder.display()))
}

fn is_license(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    let is_code = [".RS", ".C", ".H", ".PY"].iter().any(|extension| name.ends_with(extension));
    !is_code && NAMES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_two_crates_share_is_listed_once_with_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let package = |name: &str, files: &[(&str, &str)]| {
            for (path, text) in files {
                let path = folder.path().join(name).join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, text).expect("a file");
            }
            let (name, folder) = (name.to_owned(), folder.path().join(name));
            let (version, license) = ("1.0.0".to_owned(), Some("MIT".to_owned()));
            ShippedCrate { name, version, license, folder, authors: vec!["Ada".to_owned()], ..ShippedCrate::default() }
        };
        let crates = [
            package("one", &[("LICENSE-MIT", "Permission\r\n"), ("src/license.rs", "code")]),
            package("two", &[("license.txt", "Permission"), ("bundled/COPYING", "Other")]),
            package("bare", &[("Cargo.toml", "")]),
        ];
        let text = String::from_utf8(text(&crates).expect("a text")).expect("UTF-8");
        assert_eq!(text.matches("Permission").count(), 1, "{text}");
        assert!(text.contains("one 1.0.0 (LICENSE-MIT)\ntwo 1.0.0 (license.txt)\n\nPermission"), "{text}");
        assert!(text.contains("two 1.0.0 (bundled/COPYING)\n\nOther"), "{text}");
        assert!(text.contains("\nbare 1.0.0: MIT, by Ada\n") && !text.contains("code"), "{text}");
    }
}
