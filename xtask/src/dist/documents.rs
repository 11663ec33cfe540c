//! The documentation in an archive: pages of this repository for people who have the program and not the repository.

use std::process::Command;

use crate::cargo::{Result, capture, root};

/// Files and folders of the repository that are packed. Their paths below [`FOLDER`] are those of the repository, so that
/// their links lead to each other.
const DOCUMENTS: [&str; 4] = ["CHANGELOG.md", "SECURITY.md", "docs", "plugins/wit"];

/// Where documentation is below `/usr/local` or `/usr`.
const FOLDER: &str = "share/doc/stagewright";

/// The paths of the documents in the repository: those of tracked files, since others aren't part of a release.
pub(super) fn list() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    let list = capture(git.current_dir(root()).args(["ls-files", "-z", "--"]).args(DOCUMENTS))?;
    Ok(String::from_utf8_lossy(&list).split_terminator('\0').map(str::to_owned).collect())
}

/// The path of a document in the archive.
pub(super) fn packed_path(document: &str) -> String {
    format!("{FOLDER}/{document}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that the links of a page lead to, without those to other sites and within the page.
    fn links(path: &str, text: &str) -> Vec<String> {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        let own = targets.filter(|target| !target.starts_with('#') && !target.contains("://"));
        own.map(|target| resolved(path, target.split('#').next().unwrap_or_default())).collect()
    }

    fn resolved(page: &str, target: &str) -> String {
        let mut parts: Vec<&str> = page.split('/').collect();
        parts.pop();
        for part in target.split('/') {
            match part {
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parts.join("/")
    }

    #[test]
    fn the_links_of_packed_documents_lead_to_packed_files() {
        let mut packed =
            ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-LICENSES.txt", "sbom.cdx.json"].map(str::to_owned).to_vec();
        let documents = list().expect("git lists the documents");
        packed.extend(documents.iter().map(|document| packed_path(document)));
        let mut pages = vec![("README.md".to_owned(), include_str!("README.md").to_owned())];
        for document in documents.iter().filter(|document| document.ends_with(".md")) {
            let text = std::fs::read_to_string(root().join(document)).expect("a tracked page");
            pages.push((packed_path(document), text));
        }
        let is_packed = |target: &str| {
            packed
                .iter()
                .any(|file| file == target || file.strip_prefix(target).is_some_and(|rest| rest.starts_with('/')))
        };
        let found: Vec<_> =
            pages.iter().flat_map(|(page, text)| links(page, text).into_iter().map(move |link| (page, link))).collect();
        assert!(found.len() > 50, "{}", found.len());
        let broken: Vec<_> = found.iter().filter(|(_, link)| !is_packed(link)).collect();
        assert!(broken.is_empty(), "{broken:#?}");
    }
}
