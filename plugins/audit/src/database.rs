//! A RustSec advisory database in memory.
//!
//! In flow the files of a database, from a folder or a tarball; `rustsec` parses each. What doesn't parse is an error,
//! never passed over: an advisory that can't be read might be the one that counts.

use std::collections::BTreeMap;
use std::io::{self, Read};

use rustsec::Advisory;
use semver::Version;

/// The largest advisory in RustSec's own database is under 20 KB.
const MAX_ADVISORY: u64 = 1 << 20;
/// RustSec's own database unpacks to under 10 MB.
const MAX_UNPACKED: u64 = 256 << 20;

/// Advisories by crate.
#[derive(Debug, Default)]
pub(crate) struct Database {
    by_package: BTreeMap<String, Vec<Advisory>>,
    count: usize,
}

impl Database {
    /// From the files of a `.tar.gz`, as a forge makes it of a repository.
    pub(crate) fn from_tarball(compressed: impl Read) -> Result<Database, String> {
        let mut database = Database::default();
        let unpacked = flate2::read::MultiGzDecoder::new(compressed).take(MAX_UNPACKED);
        let mut archive = tar::Archive::new(unpacked);
        for entry in archive.entries().map_err(|error| format!("not a .tar.gz: {error}"))? {
            let mut entry = entry.map_err(|error| format!("the archive is damaged: {error}"))?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() || advisory_package(&path).is_none() {
                continue;
            }
            if entry.size() > MAX_ADVISORY {
                return Err(format!("{path} has {} bytes; an advisory has at most {MAX_ADVISORY}", entry.size()));
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(|error| format!("{path}: {error}"))?;
            database.add(&path, &text)?;
        }
        // Only at gzip's own end is its checksum compared, and only there is it known that nothing was cut off.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(|error| format!("the archive is damaged: {error}"))?;
        if rest.limit() == 0 {
            return Err(format!("the archive unpacks to more than {} MiB", MAX_UNPACKED >> 20));
        }
        Ok(database)
    }

    /// Takes in one file. What isn't an advisory by its path is left out; drafts and withdrawn advisories too.
    pub(crate) fn add(&mut self, path: &str, text: &str) -> Result<(), String> {
        let Some((package, id)) = advisory_package(path) else {
            return Ok(());
        };
        let advisory: Advisory = text.parse().map_err(|error| format!("{path}: {error}"))?;
        if advisory.metadata.package.as_str() != package || advisory.id().as_str() != id {
            return Err(format!(
                "{path} is about {} in {}; it belongs in crates/{}/{}.md",
                advisory.id(),
                advisory.metadata.package,
                advisory.metadata.package,
                advisory.id()
            ));
        }
        self.count += 1;
        if !advisory.withdrawn() {
            self.by_package.entry(package.to_owned()).or_default().push(advisory);
        }
        Ok(())
    }

    /// How many advisories there are, withdrawn ones included.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The advisories that speak of this version of this crate, by id.
    pub(crate) fn affecting<'a>(&'a self, package: &str, version: &'a Version) -> impl Iterator<Item = &'a Advisory> {
        let mut advisories: Vec<&Advisory> = self.by_package.get(package).into_iter().flatten().collect();
        advisories.sort_by(|a, b| a.id().cmp(b.id()));
        advisories.into_iter().filter(move |advisory| advisory.versions.is_vulnerable(version))
    }
}

/// Crate and id of an advisory by its place, `…crates/NAME/ID.md`. RustSec's second collection, `rust/`, is about the
/// toolchain, of which a lock file says nothing.
fn advisory_package(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.rsplit('/');
    let id = parts.next()?.strip_suffix(".md")?;
    let package = parts.next()?;
    let draft = id == "RUSTSEC-0000-0000";
    (parts.next()? == "crates" && !id.starts_with('.') && !draft).then_some((package, id))
}
