//! A [`StageRunner`] before another one: it gives back a result where it can, and lets the other do the work where it
//! can't.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use stagewright_engine::{
    AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, CacheRequest, Failure, Interrupt, Lines, StageRunner,
    Stream,
};
use tokio::sync::watch;

use crate::config::{CacheConfig, Mode};
use crate::digest::Digest;
use crate::files::{Allowed, restore};
use crate::globs::Globs;
use crate::index::FileIndex;
use crate::manifest::{Around, Manifest};
use crate::published::Published;
use crate::said::{self, Recorder};
use crate::shared::{Answer, Sent};
use crate::store::{Entry, Store};
use crate::tier::Tier;
use crate::tree::{Kind, Tree, Workspace};

/// Paths that a stage's inputs may come to for its programs to see nothing else: each is a mount of its own.
const COVER: usize = 2000;

/// Takes results from the cache, and puts them into it.
#[derive(Clone)]
pub struct Caching(Arc<Inner>);

struct Inner {
    config: CacheConfig,
    store: Store,
    index: FileIndex,
    /// Of programs, by what grants them.
    tools: Mutex<HashMap<Vec<String>, Arc<Tools>>>,
    published: Published,
    work: Arc<dyn StageRunner>,
}

/// Digests of programs and toolchains, by path.
type Tools = Vec<(String, String)>;
/// A stage whose result has a key.
struct Keyed {
    /// Where its result may be, the better places first; the last one is that of its own.
    keys: Vec<(Tier, Digest)>,
    manifest: Manifest,
    files: Tree,
    named: Named,
}

/// Files, as the stage names them.
struct Named {
    inputs: Globs,
    outputs: Globs,
    reads: Globs,
    writes: Globs,
}

impl Keyed {
    /// Under which its own result is kept.
    fn own(&self) -> &(Tier, Digest) {
        &self.keys[self.keys.len() - 1]
    }
}

/// A result that was given back, and its key.
type Found = (Digest, Entry);

impl Caching {
    /// `work` does what the cache can't give.
    pub fn new(config: CacheConfig, work: Arc<dyn StageRunner>) -> Caching {
        let store = Store::new(&config.root);
        let index = FileIndex::new(store.index());
        Caching(Arc::new(Inner {
            config,
            store,
            index,
            tools: Mutex::default(),
            published: Published::default(),
            work,
        }))
    }

    /// Writes down what was learned of files. To be called when a run is over.
    ///
    /// # Errors
    /// When it can't be written; nothing is lost but time.
    pub fn save(&self) -> io::Result<()> {
        self.0.index.save()
    }

    /// Waits until all results are where others find them, or can't be put there. To be called when a run is over; may
    /// be dropped at any time.
    pub async fn settle(&self) -> Sent {
        match &self.0.config.shared {
            Some(shared) => shared.settle().await,
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
            let (run, name, needs) = (request.run.clone(), stage_name(&request.table), names(&request));
            inner.published.begin(&run, || inner.config.machine.published(&run));
            let report = match request.cache.clone() {
                Some(asked) if inner.config.mode != Mode::Off => inner.run(request, asked, output, interrupt).await,
                _ => inner.work.run(request, output, interrupt).await,
            };
            inner.published.remember(&run, &name, &needs, &report.artifacts);
            report
        }
        .boxed()
    }
}

impl Inner {
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
            Err(error) => return self.without(error, request, output, interrupt).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                say(&output, format!("its result was in the cache, and can't be used: {error}")).await;
                None
            }
        };
        let found = match found {
            None if takes => self.find_elsewhere(&request, &keyed, &output, interrupt.clone()).await,
            found => found,
        };
        if let Some((key, entry)) = found {
            return self.give_back(&key, entry, &output).await;
        }
        let declared = {
            let (inner, request, keyed) = (Arc::clone(self), request.clone(), Arc::clone(&keyed));
            off_thread(move || inner.declare(&request, &keyed)).await
        };
        let declared = match declared {
            Ok(declared) => declared,
            Err(error) => return self.without(error, request, output, interrupt).await,
        };
        let (tier, key) = keyed.own().clone();
        output.cache(key.to_string(), None).await;
        let has_programs = !request.permissions.process.is_empty();
        let is_held = declared.is_some() && (self.config.sandboxed || !has_programs);
        if declared.is_none() {
            let text = format!("its inputs lie in more than {COVER} places: nothing keeps it from reading others");
            say(&output, text).await;
        }
        request.declared = declared;
        let keeps = asked.keep && matches!(self.config.mode, Mode::Use | Mode::Refresh);
        let recorder = Arc::new(Recorder::new(&self.config.root));
        let asking = request.clone();
        let tapped = if keeps { output.clone().tapped(recorder.clone()) } else { output.clone() };
        let mut report = self.work.run(request, tapped, interrupt).await;
        if keeps && report.end == AttemptEnd::Succeeded {
            let (inner, kept) = (Arc::clone(self), report.clone());
            let kept = off_thread(move || inner.keep(&asking, &keyed, &kept, &recorder)).await;
            match (kept, &self.config.shared) {
                // What may depend on more of this machine than it says is nothing for others.
                (Ok(()), Some(shared)) if is_held => shared.give(&tier, key, &self.store),
                (Ok(()), _) => {}
                (Err(error), _) => say(&output, format!("its result is not kept: {error}")).await,
            }
        } else if let AttemptEnd::Unsuccessful(_, failure) = &mut report.end
            && is_held
            && has_programs
        {
            hint(failure);
        }
        report
    }

    /// The attempt, with no key for its result.
    async fn without(
        &self,
        error: io::Error,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        say(&output, format!("not cached: {error}")).await;
        self.work.run(request, output, interrupt).await
    }

    /// The key, and the result if there is one on this machine and all of it could be given back. An inner error: it
    /// was there, and can't be used.
    fn look_up(&self, request: &AttemptRequest, takes: bool) -> io::Result<(Arc<Keyed>, io::Result<Option<Found>>)> {
        let keyed = self.keyed(request)?;
        let known = keyed.keys.iter().filter(|_| takes);
        let found = known.map(|(_, key)| key).find_map(|key| Some((*key, self.store.find(key)?)));
        let found = found.map(|(key, entry)| self.restore(request, &keyed, &key, &entry).map(|()| (key, entry)));
        Ok((Arc::new(keyed), found.transpose()))
    }

    /// A result that another machine has made, put in place.
    async fn find_elsewhere(
        self: &Arc<Self>,
        request: &AttemptRequest,
        keyed: &Arc<Keyed>,
        output: &AttemptOutput,
        mut interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> Option<Found> {
        let shared = self.config.shared.as_ref()?;
        let answer = tokio::select! {
            answer = shared.take(&keyed.keys, &self.store) => answer,
            // Whoever wants the run to end waits for no cache.
            _ = interrupt.wait_for(Option::is_some) => Answer::Nothing,
        };
        let (tier, key, entry) = match answer {
            Answer::Found(tier, key, entry) => (tier, key, Arc::new(entry)),
            Answer::Nothing => return None,
            Answer::Damaged(why) => {
                say(output, format!("its result in the shared cache can't be used: {why}")).await;
                return None;
            }
            Answer::GivenUp(why) => {
                say(output, format!("this run goes on without the shared cache: {why}")).await;
                return None;
            }
        };
        let restored = {
            let (inner, request, keyed, entry) =
                (Arc::clone(self), request.clone(), Arc::clone(keyed), Arc::clone(&entry));
            off_thread(move || {
                inner.restore(&request, &keyed, &key, &entry)?;
                inner.note(&request, &keyed, &key)?;
                inner.store.set_latest(&request.pipeline, &request.stage_id, &key)
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

    /// Before the work is done: notes what its result depends on. The globs of what the stage may read to do it; none
    /// when they are too many.
    fn declare(&self, request: &AttemptRequest, keyed: &Keyed) -> io::Result<Option<Vec<String>>> {
        self.note(request, keyed, &keyed.own().1)?;
        self.workspace().cover(&keyed.files, COVER)
    }

    /// For explanations.
    fn note(&self, request: &AttemptRequest, keyed: &Keyed, key: &Digest) -> io::Result<()> {
        let mut manifest = keyed.manifest.clone();
        manifest.name_files(&keyed.files);
        manifest.previous = self.store.latest(&request.pipeline, &request.stage_id).filter(|latest| latest != key);
        self.store.note(key, &manifest)
    }

    fn workspace(&self) -> Workspace<'_> {
        Workspace { root: &self.config.workspace, reserved: &self.config.reserved, index: &self.index }
    }

    /// What the result of the attempt depends on.
    fn keyed(&self, request: &AttemptRequest) -> io::Result<Keyed> {
        let asked = request.cache.as_ref().ok_or_else(|| io::Error::other("nobody asked"))?;
        if request.plugin.is_none() {
            return Err(io::Error::other("nobody knows the digest of its plugin"));
        }
        let globs = |globs: &[String]| Globs::new(globs).map_err(io::Error::other);
        let granted = &request.permissions;
        let named = Named {
            inputs: globs(if asked.inputs.is_empty() { &granted.read } else { &asked.inputs })?,
            outputs: globs(&asked.outputs)?,
            reads: globs(&granted.read)?,
            writes: globs(&granted.write)?,
        };
        let files = self.inputs(&named)?;
        let variables = self.config.machine.variables(&request.permissions);
        let tools = self.tools(request)?;
        let artifacts = self.published.before(&request.run, &names(request));
        let around = Around {
            sandboxed: self.config.sandboxed,
            variables: &variables,
            tools: &tools,
            artifacts: &artifacts,
            files: &files,
        };
        let manifest = Manifest::of(request, &around);
        let of_all = manifest.key();
        let keys = self.config.tier.sources().into_iter().map(|tier| {
            let key = tier.key(&of_all);
            (tier, key)
        });
        Ok(Keyed { keys: keys.collect(), manifest, files, named })
    }

    /// What the stage declares, as far as it may read it, without what it makes itself.
    fn inputs(&self, named: &Named) -> io::Result<Tree> {
        let mut files = self.workspace().scan(&named.inputs, &named.outputs)?;
        files.0.retain(|path, _| named.reads.matches(path) || named.writes.matches(path));
        Ok(files)
    }

    /// Programs are known by their content, toolchains by that of their programs.
    fn tools(&self, request: &AttemptRequest) -> io::Result<Arc<Tools>> {
        let granted = &request.permissions.process;
        if granted.is_empty() {
            return Ok(Arc::default());
        }
        // What finds programs: their names, and where they are looked for.
        let found_by: Vec<String> = granted.iter().chain(request.env.get("PATH")).cloned().collect();
        if let Some(known) = self.tools.lock().unwrap_or_else(PoisonError::into_inner).get(&found_by) {
            return Ok(Arc::clone(known));
        }
        let mut digests = Vec::new();
        for tool in self.config.machine.tools(&request.permissions, &request.env) {
            let programs = if tool.is_dir() { tool.join("bin") } else { tool };
            let entries = match programs.is_dir() {
                true => programs.read_dir()?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?,
                false => vec![programs],
            };
            for program in entries.into_iter().filter(|program| program.is_file()) {
                digests.push((program.display().to_string(), self.index.digest(&program)?.to_string()));
            }
        }
        digests.sort();
        digests.dedup();
        let digests = Arc::new(digests);
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).insert(found_by, Arc::clone(&digests));
        Ok(digests)
    }

    async fn give_back(&self, key: &Digest, entry: Entry, output: &AttemptOutput) -> AttemptReport {
        if let Some(said) = &entry.said
            && let Err(error) = said::repeat(&self.store.blob(said), output).await
        {
            say(output, format!("not all that it said was kept: {error}")).await;
        }
        output.cache(key.to_string(), Some(entry.run)).await;
        let Entry { outputs, artifacts, .. } = entry;
        AttemptReport { end: AttemptEnd::Succeeded, outputs, artifacts, release: None }
    }

    /// Puts all of a result in place; one that can't be is forgotten.
    fn restore(&self, request: &AttemptRequest, keyed: &Keyed, key: &Digest, entry: &Entry) -> io::Result<()> {
        let restored = self.put_in_place(request, keyed, entry);
        match &restored {
            Ok(()) => self.store.touch(key),
            Err(_) => self.store.forget(key),
        }
        restored
    }

    fn put_in_place(&self, request: &AttemptRequest, keyed: &Keyed, entry: &Entry) -> io::Result<()> {
        let allowed = Allowed { outputs: &keyed.named.outputs, writes: &keyed.named.writes };
        if let Some(said) = &entry.said
            && !self.store.blob(said).is_file()
        {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its log is not there any more"));
        }
        restore(&self.workspace(), &self.store, entry, &allowed)?;
        for artifact in &entry.artifacts {
            let digest =
                Digest::parse(&artifact.digest).ok_or_else(|| io::Error::other("an artifact has no digest"))?;
            self.config.machine.publish(&request.run, &request.stage_id, artifact, &self.store.blob(&digest))?;
        }
        Ok(())
    }

    fn keep(
        &self,
        request: &AttemptRequest,
        keyed: &Keyed,
        report: &AttemptReport,
        recorder: &Recorder,
    ) -> io::Result<()> {
        let _shared = self.store.lock(std::fs::File::lock_shared)?;
        if self.inputs(&keyed.named)? != keyed.files {
            return Err(io::Error::other("its inputs changed while it ran"));
        }
        let nothing = Globs::new(&[]).map_err(io::Error::other)?;
        let files = self.workspace().scan(&keyed.named.outputs, &nothing)?;
        for (path, node) in &files.0 {
            if !keyed.named.writes.matches(path) {
                return Err(io::Error::other(format!("`{path}` is one of its outputs, and it may not write there")));
            }
            if node.kind == Kind::Link {
                let target = std::fs::read_link(self.config.workspace.join(path))?;
                self.store.take_in_bytes(target.as_os_str().as_bytes())?;
            } else {
                self.store.take_in(&node.digest, &self.config.workspace.join(path))?;
            }
        }
        for artifact in &report.artifacts {
            let digest =
                Digest::parse(&artifact.digest).ok_or_else(|| io::Error::other("an artifact has no digest"))?;
            self.store.take_in(&digest, &self.config.machine.content(&artifact.digest))?;
        }
        let said = match recorder.finish()? {
            Some((file, digest)) => {
                self.store.take_in(&digest, file.path())?;
                Some(digest)
            }
            None => None,
        };
        let entry = Entry {
            run: request.run.clone(),
            outputs: report.outputs.clone(),
            files: files.0,
            artifacts: report.artifacts.clone(),
            said,
        };
        let (_, key) = keyed.own();
        self.store.set_latest(&request.pipeline, &request.stage_id, key)?;
        self.store.keep(key, &entry)
    }
}

/// Programs are not told why a file isn't there.
fn hint(failure: &mut Failure) {
    failure.help.get_or_insert_with(|| {
        "it is cached, so that its programs saw no files but its `inputs`: name there what they lack, or set \
         `cache = false`"
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

fn names(request: &AttemptRequest) -> Vec<String> {
    request.needs.keys().cloned().collect()
}
