//! A [`StageRunner`] before another one: it gives back a result where it can, and lets the other do the work where it
//! can't.

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

/// Paths that a stage's inputs may come to for its programs to see nothing else: each is a mount of its own.
const COVER: usize = 2000;

/// Takes results from the cache, and puts them into it.
#[derive(Clone)]
pub struct Caching(Arc<CacheRunner>);

/// A result that was given back, and its key.
type Hit = (Digest, CachedResult);
/// Of a stage that has no key: the places that it names, what was found there and when, and the stage's digest.
type Unkeyed = (DeclaredPaths, Vec<ScannedEntry>, i128, Digest);

impl Caching {
    /// `work` does what the cache can't give.
    pub fn new(config: CacheConfig, work: Arc<dyn StageRunner>) -> Caching {
        let store = ResultStore::new(&config.root);
        let index = FileIndex::new(store.index());
        let (tools, published) = (ToolDigests::default(), Published::default());
        Caching(Arc::new(CacheRunner { config, store, index, tools, published, work }))
    }

    /// Writes down what was learned of files. To be called when a run is over.
    ///
    /// # Errors
    /// When it can't be written; nothing is lost but time.
    pub fn save(&self) -> io::Result<()> {
        self.0.index.save()
    }

    /// The digest of all that the globs name, ignored or not: what a stage that may read it would see. Files that are
    /// as they were when they were last read are not read again.
    ///
    /// # Errors
    /// When something can't be read, changes at the same moment, or is a pipe, a socket or a device.
    pub fn tree_digest(&self, globs: &[PathPattern]) -> io::Result<TreeDigest> {
        let globs = Globs::new(globs)?;
        let workspace = self.0.workspace(&self.0.config.reserved);
        let mut found = workspace.find_all(&globs)?;
        found.retain(|file| globs.name(&file.path));
        Ok(TreeDigest::of(&workspace.read(&found)?))
    }

    /// Waits until all results are where others find them, or can't be put there. To be called when a run is over; may
    /// be dropped at any time.
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
                say(&output, format!("its result was in the cache, and can't be used: {error}")).await;
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
            let text = format!("its inputs lie in more than {COVER} places: nothing keeps it from reading others");
            say(&output, text).await;
        }
        let cover = watched.cover.iter().flatten().map(|path| literally(path)).collect::<io::Result<Vec<_>>>();
        match cover {
            Ok(paths) => request.declared = watched.cover.is_some().then_some(paths),
            Err(error) => return self.run_without_key(error, request, output, interrupt).await,
        }
        self.work(request, &asked, (keyed, watched), output, interrupt).await
    }

    /// Has the work done, with nothing to read but what counts, and keeps its result.
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
        let has_result = keeps && report.end == AttemptEnd::Succeeded;
        let kept = {
            let (inner, report) = (Arc::clone(self), report.clone());
            off_thread(move || {
                let kept = match has_result {
                    true => inner.keep(&asking, &keyed, &watched, &report, &recorder),
                    false => Ok(()),
                };
                // Whatever became of it, what it left is its own. What isn't noted counts as another's.
                inner.record_leftovers(&keyed.named, &keyed.in_writable, start, &keyed.stage).and(kept)
            })
            .await
        };
        match (kept, &self.config.shared) {
            // What may depend on more of this machine than it says is nothing for foreign.
            (Ok(()), Some(shared)) if has_result && is_held => shared.send(&tier, key, &self.store),
            (Ok(()), _) => {}
            (Err(error), _) if has_result => say(&output, format!("its result is not kept: {error}")).await,
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

    /// Work that has no key.
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
            tracing::warn!(%error, "the cache can't note that a stage ran");
            None
        });
        let report = self.work.run(request, output, interrupt).await;
        if let Some((named, in_writable, start, stage)) = begun {
            let inner = Arc::clone(self);
            let noted = off_thread(move || inner.record_leftovers(&named, &in_writable, start, &stage)).await;
            if let Err(error) = noted {
                tracing::warn!(%error, "what a stage left counts as another's");
            }
        }
        report
    }

    /// What others see of it is known by its content alone. What it sees of its own matters for a stage that can be
    /// cached, now or the next time.
    fn begin_unkeyed(&self, request: &AttemptRequest) -> io::Result<Option<Unkeyed>> {
        self.store.record_tier(&self.config.tier)?;
        let stage = ResultStore::stage(&self.config.tier, &self.config.file, &request.stage_id);
        self.store.set_worked(&stage, LastWork::WithoutKey)?;
        if request.cache.is_none() && !self.store.leftovers_file(&stage).is_file() {
            return Ok(None);
        }
        // What was left where it is ignored is looked at, if at all, by content.
        let named = DeclaredPaths::of(request, &request.permissions.writable())?;
        let in_writable = self.in_writable(&named)?;
        Ok(Some((named, in_writable, stamp::ticked(), stage)))
    }

    /// The attempt, with no key for its result.
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

    /// The key, and the result if there is one on this machine and all of it could be given back. An inner error: it
    /// was in_writable, and can't be used.
    fn look_up(&self, request: &AttemptRequest, takes: bool) -> io::Result<(Arc<CacheKey>, io::Result<Option<Hit>>)> {
        let keyed = self.cache_key(request)?;
        let known = keyed.keys.iter().filter(|_| takes);
        let found = known.map(|(_, key)| key).find_map(|key| Some((*key, self.store.find(key)?)));
        let found = found.map(|(key, entry)| self.restore(request, &keyed, &key, &entry).map(|()| (key, entry)));
        Ok((Arc::new(keyed), found.transpose()))
    }

    /// A result that another machine has made, put in place.
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
            // Whoever wants the run to end waits for no cache.
            _ = interrupt.wait_for(Option::is_some) => SharedLookup::Nothing,
        };
        let (tier, key, entry) = match answer {
            SharedLookup::Found(tier, key, entry) => (tier, key, Arc::new(entry)),
            SharedLookup::Nothing => return None,
            SharedLookup::Damaged(why) => {
                say(output, format!("its result in the shared cache can't be used: {why}")).await;
                return None;
            }
            SharedLookup::GivenUp(why) => {
                say(output, format!("this run goes on without the shared cache: {why}")).await;
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
                say(output, format!("its result in the shared cache can't be used: {error}")).await;
                None
            }
        }
    }

    /// Before the work is done: notes what its result depends on, and what shows whether that stays as it is.
    fn watch(&self, request: &AttemptRequest, keyed: &CacheKey) -> io::Result<AttemptWatch> {
        let key = &keyed.own().1;
        self.save_manifest(keyed, key)?;
        let looked_again = if witness::wait_until_changes_show(&keyed.found, &keyed.foreign)? {
            Some(self.inputs(&keyed.named)?)
        } else {
            None
        };
        let found = match &looked_again {
            Some((_, files)) if *files != keyed.files => return Err(io::Error::other("its inputs are being changed")),
            Some((found, _)) => found,
            None => &keyed.found,
        };
        let reserved = self.reserved(&keyed.named);
        let cover = self.workspace(&reserved).cover(&keyed.files, COVER)?;
        let written = witness::open_for_writing(&self.config.workspace, found).map(str::to_owned);
        let witness = Witness::of(found, cover.as_deref(), &keyed.named.writes);
        // A stage that may write nothing leaves nothing.
        if !request.permissions.write.is_empty() {
            self.store.set_worked(&keyed.stage, LastWork::WithKey(keyed.base_key))?;
        }
        Ok(AttemptWatch { witness, written, cover })
    }

    /// After anything was done where the stage may write, since `start`.
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

    /// For explanations.
    fn save_manifest(&self, keyed: &CacheKey, key: &Digest) -> io::Result<()> {
        let mut manifest = keyed.manifest.clone();
        manifest.name_files(&keyed.files, &keyed.foreign_tree);
        manifest.previous = self.store.latest(&keyed.stage).filter(|latest| latest != key);
        self.store.save_manifest(key, &manifest)
    }

    async fn replay(&self, key: &Digest, entry: CachedResult, output: &AttemptOutput) -> AttemptReport {
        if let Some(said) = &entry.said
            && let Err(error) = recorded_output::repeat(&self.store.blob(said), output).await
        {
            say(output, format!("not all that it said was kept: {error}")).await;
        }
        output.cache(key.to_string(), Some(entry.run)).await;
        let CachedResult { outputs, artifacts, .. } = entry;
        AttemptReport { end: AttemptEnd::Succeeded, outputs, artifacts, release: None, made: None }
    }

    /// Puts all of a result in place; one that can't be is forgotten.
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
            return Err(io::Error::new(io::ErrorKind::NotFound, "its log is damaged, or not there any more"));
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

/// Programs are not told why a file isn't there.
fn hint(failure: &mut Failure) {
    failure.help.get_or_insert_with(|| {
        "it is cached, so that its programs saw no files but its `inputs`, and no `.git`: name there what they lack, or \
         set `cache = false`"
            .to_owned()
    });
}

async fn say(output: &AttemptOutput, text: String) {
    output.lines(Stream::Engine, Lines::new(text)).await;
}

/// Runs file work off the async threads.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// `test` of `stages.test`.
fn stage_name(table: &str) -> String {
    table.split_once('.').map_or(table, |(_, name)| name).to_owned()
}
