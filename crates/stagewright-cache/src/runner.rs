//! A [`StageRunner`] that wraps another one: it restores stored results, and runs stages whose results aren't stored with
//! the other.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use stagewright_engine::{
    AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, CacheRequest, Failure, Interrupt, Lines, StageRunner,
    Stream,
};
use stagewright_model::PathPattern;
use tokio::sync::watch;

use crate::config::{CacheConfig, Mode};
use crate::digest::Digest;
use crate::files::{AllowedFiles, restore};
use crate::globs::{Globs, literally};
use crate::index::FileIndex;
use crate::inner::{CacheRunner, needs_of};
use crate::keying::{CacheKey, DeclaredPaths};
use crate::leftovers::Leftovers;
use crate::published::Published;
use crate::recorded_output::{self, Recorder};
use crate::scan::ScannedEntry;
use crate::shared::{Sent, SharedLookup};
use crate::stamp;
use crate::store::{CachedResult, LastWork, ResultStore};
use crate::tools::ToolDigests;
use crate::tree::TreeDigest;
use crate::witness::{self, AttemptWatch, Witness};

/// The most paths that the inputs of a stage may be reduced to. Each is mounted separately; with more, the stage's
/// programs are not restricted to the inputs.
const COVER: usize = 2000;

/// Restores results from the cache, and stores new ones.
#[derive(Clone)]
pub struct Caching(Arc<CacheRunner>);

/// A restored result and its key.
type Hit = (Digest, CachedResult);
/// For an attempt without a key: the stage's declared paths, the files found there, the time before it starts, and the
/// stage's identity.
type Unkeyed = (DeclaredPaths, Vec<ScannedEntry>, i128, Digest);

impl Caching {
    /// Wraps `work`, which runs the stages whose results aren't stored.
    pub fn new(config: CacheConfig, work: Arc<dyn StageRunner>) -> Caching {
        let store = ResultStore::new(&config.root);
        let index = FileIndex::new(store.index());
        let (tools, published) = (ToolDigests::default(), Published::default());
        Caching(Arc::new(CacheRunner { config, store, index, tools, published, work }))
    }

    /// Writes the digests of files to the cache's folder. To be called at the end of a run.
    ///
    /// # Errors
    /// When they can't be written. The next run then reads the files again.
    pub fn save(&self) -> io::Result<()> {
        self.0.index.save()
    }

    /// The digest of all files that the globs name, ignored or not: everything that a stage with this grant can read.
    /// Files that are unchanged since they were last read are not read again.
    ///
    /// # Errors
    /// When a file can't be read, changes while it is read, or is a pipe, socket or device.
    pub fn tree_digest(&self, globs: &[PathPattern]) -> io::Result<TreeDigest> {
        let globs = Globs::new(globs)?;
        let workspace = self.0.workspace(&self.0.config.reserved);
        let mut found = workspace.find_all(&globs)?;
        found.retain(|file| globs.name(&file.path));
        Ok(TreeDigest::of(&workspace.read(&found)?))
    }

    /// Waits until each result has been sent to the shared cache, or has failed. To be called at the end of a run. The
    /// future may be dropped at any time.
    pub async fn finish_sending(&self) -> Sent {
        match &self.0.config.shared {
            Some(shared) => shared.finish_sending().await,
            None => Sent::default(),
        }
    }
}

impl StageRunner for Caching {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        let inner = Arc::clone(&self.0);
        async move {
            let (run, name, needs) = (request.run.clone(), stage_name(&request.table), needs_of(&request));
            inner.published.begin(&run, || inner.config.machine.published(&run));
            let report = match request.cache.clone() {
                Some(asked) if inner.config.mode != Mode::Off => inner.run(request, asked, output, interrupt).await,
                _ => inner.run_unkeyed(request, output, interrupt).await,
            };
            inner.published.remember(&run, &name, &needs, &report.artifacts);
            report
        }
        .boxed()
    }
}

impl CacheRunner {
    async fn run(
        self: &Arc<Self>,
        mut request: AttemptRequest,
        asked: CacheRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        let takes = asked.take && self.config.mode != Mode::Refresh;
        let looked_up = {
            let (inner, request) = (Arc::clone(self), request.clone());
            off_thread(move || inner.look_up(&request, takes)).await
        };
        let (keyed, found) = match looked_up {
            Ok(looked_up) => looked_up,
            Err(error) => return self.run_without_key(error, request, output, interrupt).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                say(&output, format!("found its result in the cache, but could not use it: {error}")).await;
                None
            }
        };
        let found = match found {
            None if takes => self.fetch_shared(&request, &keyed, &output, interrupt.clone()).await,
            found => found,
        };
        if let Some((key, entry)) = found {
            return self.replay(&key, entry, &output).await;
        }
        let watched = {
            let (inner, request, keyed) = (Arc::clone(self), request.clone(), Arc::clone(&keyed));
            off_thread(move || inner.watch(&request, &keyed)).await
        };
        let watched = match watched {
            Ok(watched) => watched,
            Err(error) => return self.run_without_key(error, request, output, interrupt).await,
        };
        output.cache(keyed.own().1.to_string(), None).await;
        if watched.cover.is_none() {
            let text = format!("its inputs span more than {COVER} paths, so its reads are not restricted to them");
            say(&output, text).await;
        }
        let cover = watched.cover.iter().flatten().map(|path| literally(path)).collect::<io::Result<Vec<_>>>();
        match cover {
            Ok(paths) => request.declared = watched.cover.is_some().then_some(paths),
            Err(error) => return self.run_without_key(error, request, output, interrupt).await,
        }
        self.work(request, &asked, (keyed, watched), output, interrupt).await
    }

    /// Runs the stage, restricted to the files that its key covers, and stores its result.
    async fn work(
        self: &Arc<Self>,
        request: AttemptRequest,
        asked: &CacheRequest,
        (keyed, watched): (Arc<CacheKey>, AttemptWatch),
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        let (tier, key) = keyed.own().clone();
        let has_programs = !request.permissions.process.is_empty();
        let is_held = watched.cover.is_some() && (self.config.sandboxed || !has_programs);
        let keeps = asked.keep && matches!(self.config.mode, Mode::Use | Mode::Refresh);
        let recorder = Arc::new(Recorder::new(&self.config.root));
        let asking = request.clone();
        let recorded = if keeps { output.clone().with_listener(recorder.clone()) } else { output.clone() };
        let start = stamp::ticked();
        let mut report = self.work.run(request, recorded, interrupt).await;
        let has_result = keeps && report.end == AttemptEnd::Succeeded && !report.read_history;
        if keeps && report.read_history {
            say(&output, "not cached: it has asked for the history of the repository or of an environment".to_owned())
                .await;
        }
        let kept = {
            let (inner, report) = (Arc::clone(self), report.clone());
            off_thread(move || {
                let kept = match has_result {
                    true => inner.keep(&asking, &keyed, &watched, &report, &recorder),
                    false => Ok(()),
                };
                // The files that a failed attempt left are recorded, too: the next attempt may continue from them.
                inner.record_leftovers(&keyed.named, &keyed.in_writable, start, &keyed.stage).and(kept)
            })
            .await
        };
        match (kept, &self.config.shared) {
            // A result is shared only if the stage was restricted to what its key covers. Otherwise it may depend on
            // something that other machines don't have.
            (Ok(()), Some(shared)) if has_result && is_held => shared.send(&tier, key, &self.store),
            (Ok(()), _) => {}
            (Err(error), _) if has_result => say(&output, format!("its result was not cached: {error}")).await,
            (Err(_), _) => {}
        }
        if let AttemptEnd::Unsuccessful(_, failure) = &mut report.end
            && is_held
            && has_programs
        {
            hint(failure);
        }
        report
    }

    /// Runs a stage whose result has no key.
    async fn run_unkeyed(
        self: &Arc<Self>,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        if request.permissions.write.is_empty() {
            return self.work.run(request, output, interrupt).await;
        }
        let begun = {
            let (inner, request) = (Arc::clone(self), request.clone());
            off_thread(move || inner.begin_unkeyed(&request)).await
        };
        let begun = begun.unwrap_or_else(|error| {
            tracing::warn!(%error, "the cache could not record that a stage ran");
            None
        });
        let report = self.work.run(request, output, interrupt).await;
        if let Some((named, in_writable, start, stage)) = begun {
            let inner = Arc::clone(self);
            let noted = off_thread(move || inner.record_leftovers(&named, &in_writable, start, &stage)).await;
            if let Err(error) = noted {
                tracing::warn!(%error, "the cache could not record the files that a stage left");
            }
        }
        report
    }

    /// Records that the stage is about to work without a key. Other stages then identify the files that it leaves by
    /// content. None if the stage isn't cached and never was: then it needs no record of the files that it left.
    fn begin_unkeyed(&self, request: &AttemptRequest) -> io::Result<Option<Unkeyed>> {
        self.store.record_tier(&self.config.tier)?;
        let stage = ResultStore::stage(&self.config.tier, &self.config.file, &request.stage_id);
        self.store.set_worked(&stage, LastWork::WithoutKey)?;
        if request.cache.is_none() && !self.store.leftovers_file(&stage).is_file() {
            return Ok(None);
        }
        // Ignored files in the writable paths are listed, too: without a key, only their content can identify them to
        // other stages.
        let named = DeclaredPaths::of(request, &request.permissions.writable())?;
        let in_writable = self.in_writable(&named)?;
        Ok(Some((named, in_writable, stamp::ticked(), stage)))
    }

    /// Runs the attempt without a key, after `error` prevented the use of the cache.
    async fn run_without_key(
        self: &Arc<Self>,
        error: io::Error,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        say(&output, format!("not cached: {error}")).await;
        self.run_unkeyed(request, output, interrupt).await
    }

    /// Computes the key, and restores the result if there is one on this machine. An inner error means that there was a
    /// result which could not be restored.
    fn look_up(&self, request: &AttemptRequest, takes: bool) -> io::Result<(Arc<CacheKey>, io::Result<Option<Hit>>)> {
        let keyed = self.cache_key(request)?;
        let known = keyed.keys.iter().filter(|_| takes);
        let found = known.map(|(_, key)| key).find_map(|key| Some((*key, self.store.find(key)?)));
        let found = found.map(|(key, entry)| self.restore(request, &keyed, &key, &entry).map(|()| (key, entry)));
        Ok((Arc::new(keyed), found.transpose()))
    }

    /// Fetches the result of another machine and restores it.
    async fn fetch_shared(
        self: &Arc<Self>,
        request: &AttemptRequest,
        keyed: &Arc<CacheKey>,
        output: &AttemptOutput,
        mut interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> Option<Hit> {
        let shared = self.config.shared.as_ref()?;
        let answer = tokio::select! {
            answer = shared.fetch(&keyed.keys, &self.store) => answer,
            // An interrupted run does not wait for the shared cache.
            _ = interrupt.wait_for(Option::is_some) => SharedLookup::NotFound,
        };
        let (tier, key, entry) = match answer {
            SharedLookup::Found(tier, key, entry) => (tier, key, Arc::new(entry)),
            SharedLookup::NotFound => return None,
            SharedLookup::Damaged(why) => {
                say(output, format!("found its result in the shared cache, but could not use it: {why}")).await;
                return None;
            }
            SharedLookup::Disabled(why) => {
                say(output, format!("this run continues without the shared cache: {why}")).await;
                return None;
            }
        };
        let restored = {
            let (inner, request, keyed, entry) =
                (Arc::clone(self), request.clone(), Arc::clone(keyed), Arc::clone(&entry));
            off_thread(move || {
                inner.restore(&request, &keyed, &key, &entry)?;
                inner.save_manifest(&keyed, &key)?;
                inner.store.set_latest(&keyed.stage, &key)
            })
        };
        match restored.await {
            Ok(()) => {
                say(output, format!("its result comes from the shared cache, tier `{}`", tier.name())).await;
                Some((key, Arc::unwrap_or_clone(entry)))
            }
            Err(error) => {
                say(output, format!("found its result in the shared cache, but could not use it: {error}")).await;
                None
            }
        }
    }

    /// Prepares an attempt: stores the manifest of its key, and the stamps that later show whether an input changed.
    fn watch(&self, request: &AttemptRequest, keyed: &CacheKey) -> io::Result<AttemptWatch> {
        let key = &keyed.own().1;
        self.save_manifest(keyed, key)?;
        let looked_again = if witness::wait_until_changes_show(&keyed.found, &keyed.foreign)? {
            Some(self.inputs(&keyed.named)?)
        } else {
            None
        };
        let found = match &looked_again {
            Some((_, files)) if *files != keyed.files => return Err(io::Error::other("its inputs keep changing")),
            Some((found, _)) => found,
            None => &keyed.found,
        };
        let reserved = self.reserved(&keyed.named);
        let cover = self.workspace(&reserved).cover(&keyed.files, COVER)?;
        let written = witness::open_for_writing(&self.config.workspace, found).map(str::to_owned);
        let witness = Witness::of(found, cover.as_deref(), &keyed.named.writes);
        // A stage that may not write leaves no files.
        let mut claim = None;
        if !request.permissions.write.is_empty() {
            claim = self.store.claim(&keyed.stage)?;
            // Two runs at a time may leave anything, even under the same key.
            let worked = claim.as_ref().map_or(LastWork::WithoutKey, |_| LastWork::WithKey(keyed.base_key));
            self.store.set_worked(&keyed.stage, worked)?;
        }
        Ok(AttemptWatch { witness, written, claim, cover })
    }

    /// Records the files that the stage left. Must be called after each change in the paths that it may write; `start` is
    /// the time before the first change.
    fn record_leftovers(
        &self,
        named: &DeclaredPaths,
        before: &[ScannedEntry],
        start: i128,
        stage: &Digest,
    ) -> io::Result<()> {
        if named.writes.bases().is_empty() {
            return Ok(());
        }
        let in_writable = self.in_writable(named)?;
        Leftovers::load(self.store.leftovers_file(stage)).record(&in_writable, before, start)
    }

    /// Stores what the key was computed from, for explanations.
    fn save_manifest(&self, keyed: &CacheKey, key: &Digest) -> io::Result<()> {
        let mut manifest = keyed.manifest.clone();
        manifest.name_files(&keyed.files, &keyed.foreign_tree);
        manifest.previous = self.store.latest(&keyed.stage).filter(|latest| latest != key);
        self.store.save_manifest(key, &manifest)
    }

    async fn replay(&self, key: &Digest, entry: CachedResult, output: &AttemptOutput) -> AttemptReport {
        if let Some(said) = &entry.said
            && let Err(error) = recorded_output::replay(&self.store.blob(said), output).await
        {
            say(output, format!("could not replay all of its output: {error}")).await;
        }
        output.cache(key.to_string(), Some(entry.run)).await;
        let CachedResult { outputs, artifacts, .. } = entry;
        AttemptReport { end: AttemptEnd::Succeeded, outputs, artifacts, release: None, made: None, read_history: false }
    }

    /// Restores all of a result. A result that can't be restored is removed from the store.
    fn restore(
        &self,
        request: &AttemptRequest,
        keyed: &CacheKey,
        key: &Digest,
        entry: &CachedResult,
    ) -> io::Result<()> {
        let restored = self.put_in_place(request, keyed, entry);
        match &restored {
            Ok(()) => self.store.touch(key),
            Err(_) => self.store.forget(key),
        }
        restored
    }

    fn put_in_place(&self, request: &AttemptRequest, keyed: &CacheKey, entry: &CachedResult) -> io::Result<()> {
        let guard = self.config.machine.guard()?;
        let allowed = AllowedFiles { outputs: &keyed.named.outputs, writes: &keyed.named.writes, guard: &guard };
        if let Some(said) = &entry.said
            && !self.store.has(said)
        {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its log is damaged or missing"));
        }
        if !request.permissions.write.is_empty() {
            self.store.set_restored(&keyed.stage, &keyed.base_key)?;
        }
        let start = stamp::ticked();
        if restore(&self.workspace(&self.config.reserved), &self.store, entry, &allowed)? {
            self.record_leftovers(&keyed.named, &keyed.in_writable, start, &keyed.stage)?;
        }
        for artifact in &entry.artifacts {
            let digest =
                Digest::parse(&artifact.digest).ok_or_else(|| io::Error::other("an artifact has no digest"))?;
            self.config.machine.publish(&request.run, &request.stage_id, artifact, &self.store.blob(&digest))?;
        }
        Ok(())
    }
}

/// Adds a hint to a failure: programs don't learn why a file isn't visible to them.
fn hint(failure: &mut Failure) {
    failure.help.get_or_insert_with(|| {
        "the stage is cached, so its programs see only its `inputs`, and no `.git`: add missing files to `inputs`, or set \
         `cache = false`"
            .to_owned()
    });
}

async fn say(output: &AttemptOutput, text: String) {
    output.lines(Stream::Engine, Lines::new(text)).await;
}

/// Runs blocking file operations outside of the async threads.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The name in a table's path, such as `test` in `stages.test`.
fn stage_name(table: &str) -> String {
    table.split_once('.').map_or(table, |(_, name)| name).to_owned()
}
