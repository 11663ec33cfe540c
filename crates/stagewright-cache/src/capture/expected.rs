//! What a stage is to find of that which earlier stages of its run have made.
//!
//! At each path, the last stage that may have written it counts. Paths that other stages of the run may have written
//! meanwhile are left out: a change there can't be attributed to one of them, another run or a person.

use std::collections::BTreeSet;
use std::io;

use stagewright_engine::EarlierResult;

use super::content::{Chosen, Content, Item, shown};
use super::scan::Scanned;
use super::store::CaptureStore;
use stagewright_model::PathPattern;

use crate::digest::Digest;
use crate::globs::Globs;

/// What one earlier stage left.
struct Layer<'a> {
    made: &'a EarlierResult,
    results: Globs,
    writable: Globs,
    content: Content,
}

/// A path at which something else is than what an earlier stage made.
#[derive(Debug)]
pub(crate) struct Mismatch<'a> {
    pub(crate) path: Vec<u8>,
    /// What it made there; none when nothing was to be there.
    pub(crate) item: Option<Item>,
    /// Who made it.
    pub(crate) made: &'a EarlierResult,
}

impl Mismatch<'_> {
    pub(crate) fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// What has been made, layer by layer; the last counts first.
pub(crate) struct Expected<'a>(Vec<Layer<'a>>);

impl<'a> Expected<'a> {
    pub(crate) fn of(store: &CaptureStore, made: &'a [EarlierResult]) -> io::Result<Expected<'a>> {
        let mut covered: BTreeSet<&PathPattern> = BTreeSet::new();
        let mut layers = Vec::new();
        for made in made.iter().rev() {
            // All of it may have been written again since.
            if made.results.iter().all(|glob| covered.contains(glob)) {
                continue;
            }
            covered.extend(&made.writable);
            let digest = Digest::parse(&made.made.digest).ok_or_else(|| io::Error::other("no digest"))?;
            let content = store.content(&digest).map_err(|error| {
                let what = format!("what is recorded of the results of `{}` can't be read: {error}", made.stage_id);
                io::Error::new(error.kind(), what)
            })?;
            layers.push(Layer {
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

    /// The globs of all that is expected to be something.
    fn globs(&self) -> Vec<PathPattern> {
        let globs: BTreeSet<&PathPattern> = self.0.iter().flat_map(|layer| &layer.made.results).collect();
        globs.into_iter().cloned().collect()
    }

    /// Where something else is, among the paths that match `reads` and not `unordered`.
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
        let recorded = self.0.iter().flat_map(|layer| layer.content.items.keys()).filter(|path| chosen.takes(path));
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
