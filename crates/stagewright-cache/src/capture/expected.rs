//! Determines which files a stage must find, given what earlier stages of its run made.
//!
//! For each path, the record of the last stage that may have written it applies. Paths that other stages of the run may
//! be writing at the same time are not checked: a change there could be theirs, another run's or a person's.

use std::collections::BTreeSet;
use std::io;

use stagewright_engine::EarlierResult;

use super::content::{Chosen, FileList, ListedItem, shown};
use super::scan::Scanned;
use super::store::CaptureStore;
use stagewright_model::PathPattern;

use crate::digest::Digest;
use crate::globs::Globs;

/// The files that an earlier stage made.
struct MadeLayer<'a> {
    made: &'a EarlierResult,
    results: Globs,
    writable: Globs,
    content: FileList,
}

/// A path whose content differs from what an earlier stage made there.
#[derive(Debug)]
pub(crate) struct Mismatch<'a> {
    pub(crate) path: Vec<u8>,
    /// What the stage made at the path; none if it left nothing there.
    pub(crate) item: Option<ListedItem>,
    /// The stage's record.
    pub(crate) made: &'a EarlierResult,
}

impl Mismatch<'_> {
    pub(crate) fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// The files that earlier stages made, the latest stage first.
pub(crate) struct Expected<'a>(Vec<MadeLayer<'a>>);

impl<'a> Expected<'a> {
    pub(crate) fn of(store: &CaptureStore, made: &'a [EarlierResult]) -> io::Result<Expected<'a>> {
        let mut covered: BTreeSet<&PathPattern> = BTreeSet::new();
        let mut layers = Vec::new();
        for made in made.iter().rev() {
            // Later stages may have rewritten all of its files.
            if made.results.iter().all(|glob| covered.contains(glob)) {
                continue;
            }
            covered.extend(&made.writable);
            let digest = Digest::parse(&made.made.digest).ok_or_else(|| io::Error::other("no digest"))?;
            let content = store.content(&digest).map_err(|error| {
                let what = format!("could not read the record of the files that `{}` made: {error}", made.stage_id);
                io::Error::new(error.kind(), what)
            })?;
            layers.push(MadeLayer {
                made,
                results: Globs::new(&made.results)?,
                writable: Globs::new(&made.writable)?,
                content,
            });
        }
        Ok(Expected(layers))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The globs of all files that earlier stages made.
    fn globs(&self) -> Vec<PathPattern> {
        let globs: BTreeSet<&PathPattern> = self.0.iter().flat_map(|layer| &layer.made.results).collect();
        globs.into_iter().cloned().collect()
    }

    /// The mismatches among the paths that match `reads` and don't match `unordered`.
    pub(crate) fn mismatches(
        &self,
        there: &Scanned<'_>,
        reserved: &[String],
        reads: &[PathPattern],
        unordered: &[PathPattern],
    ) -> io::Result<Vec<Mismatch<'a>>> {
        let chosen = Chosen::new(&self.globs(), reserved)?.within(reads)?.without(unordered)?;
        let content = there.content(&chosen)?;
        let mut mismatches = Vec::new();
        let recorded = self.0.iter().flat_map(|layer| layer.content.items.keys()).filter(|path| chosen.selects(path));
        let paths: BTreeSet<&Vec<u8>> = content.items.keys().chain(recorded).collect();
        for path in paths {
            let text = String::from_utf8_lossy(path);
            let Some(layer) = self.0.iter().find(|layer| layer.writable.matches(&text)) else { continue };
            let item = layer.content.items.get(path).copied();
            if layer.results.matches(&text) && content.items.get(path).copied() != item {
                mismatches.push(Mismatch { path: path.clone(), item, made: layer.made });
            }
        }
        Ok(mismatches)
    }
}
