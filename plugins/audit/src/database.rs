//! A RustSec advisory database in memory.
//!
//! It is read from the files of a folder or of a tarball; `rustsec` parses each. A file that doesn't parse is an error and
//! never skipped, because the lock file might be affected by just that advisory.

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
    /// Reads the `.tar.gz` that a forge offers of a repository. Its files lie in a top folder of any name.
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
        // A tar ends at its two zero blocks, which a truncated or damaged download may still contain. gzip compares its
        // checksum and length only at the end of its stream, so read up to there: otherwise a database with advisories
        // missing would pass for a whole one.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(|error| format!("the archive is damaged: {error}"))?;
        if rest.limit() == 0 {
            return Err(format!("the archive unpacks to more than {} MiB", MAX_UNPACKED >> 20));
        }
        Ok(database)
    }

    /// Adds a file. Files whose path isn't that of an advisory are ignored, and so are drafts. Withdrawn advisories are
    /// counted but never match.
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

    /// The number of advisories, including withdrawn ones.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The advisories that affect this version of the crate, sorted by id.
    pub(crate) fn affecting<'a>(&'a self, package: &str, version: &'a Version) -> impl Iterator<Item = &'a Advisory> {
        let mut advisories: Vec<&Advisory> = self.by_package.get(package).into_iter().flatten().collect();
        advisories.sort_by(|a, b| a.id().cmp(b.id()));
        advisories.into_iter().filter(move |advisory| advisory.versions.is_vulnerable(version))
    }
}

/// The crate and id of an advisory, from its path `…crates/NAME/ID.md`. None for files of RustSec's second collection,
/// `rust/`: it is about the toolchain, which a lock file doesn't mention.
fn advisory_package(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.rsplit('/');
    let id = parts.next()?.strip_suffix(".md")?;
    let package = parts.next()?;
    let draft = id == "RUSTSEC-0000-0000";
    (parts.next()? == "crates" && !id.starts_with('.') && !draft).then_some((package, id))
}
