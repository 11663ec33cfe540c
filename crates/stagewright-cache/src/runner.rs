//! A [`StageRunner`] before another one: it gives back a result where it can, and lets the other do the work where it
//! can't.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use stagewright_engine::{
    Artifact, AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, CacheRequest, Failure, Interrupt, RunId,
    StageRunner, Stream,
};
use stagewright_model::Permissions;
use tokio::sync::watch;

use crate::digest::Digest;
use crate::files::{Allowed, restore};
use crate::globs::Globs;
use crate::index::FileIndex;
use crate::manifest::{Around, Manifest};
use crate::said::{self, Recorder};
use crate::store::{Entry, Store};
use crate::tree::{Kind, Tree, Workspace};

/// Paths that a stage's inputs may come to for its programs to see nothing else: each is a mount of its own.
const COVER: usize = 2000;

/// What of the machine a result depends on, and where its artifacts are.
pub trait Machine: Send + Sync {
    /// Variables that the stage's programs inherit, and that can matter to them.
    fn variables(&self, permissions: &Permissions) -> BTreeMap<String, String>;
    /// Programs and toolchains that they can start: files, and folders with programs in `bin`.
    fn tools(&self, permissions: &Permissions, env: &BTreeMap<String, String>) -> Vec<PathBuf>;
    /// All that was published in the run so far.
    ///
    /// # Errors
    /// When it can't be read.
    fn published(&self, run: &RunId) -> io::Result<Vec<Artifact>>;
    /// Where an artifact's content is.
    fn content(&self, digest: &str) -> PathBuf;
    /// Publishes what `content` holds, for the stage of the run.
    ///
    /// # Errors
    /// When it can't be written, or `content` is something else.
    fn publish(&self, run: &RunId, stage: &str, artifact: &Artifact, content: &Path) -> io::Result<()>;
}

/// How a run uses the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Results are taken and kept.
    #[default]
    Use,
    /// Results are taken, and none is kept.
    Read,
    /// None is taken: all is done anew, and kept.
    Refresh,
    /// Neither.
    Off,
}

/// What a [`Caching`] is made from.
pub struct CacheConfig {
    /// The folder of results.
    pub root: PathBuf,
    /// The workspace.
    pub workspace: PathBuf,
    /// Paths of it that belong to the engine.
    pub reserved: Vec<String>,
    /// Whether the stages' programs are confined.
    pub sandboxed: bool,
    /// How it is used.
    pub mode: Mode,
    /// The rest.
    pub machine: Arc<dyn Machine>,
}

/// Takes results from the cache, and puts them into it.
#[derive(Clone)]
pub struct Caching(Arc<Inner>);

struct Inner {
    config: CacheConfig,
    store: Store,
    index: FileIndex,
    /// Of programs, by what grants them.
    tools: Mutex<HashMap<Vec<String>, Arc<Tools>>>,
    artifacts: Mutex<HashMap<RunId, Published>>,
    work: Arc<dyn StageRunner>,
}

/// Digests of programs and toolchains, by path.
type Tools = Vec<(String, String)>;
/// Digests by name.
type Artifacts = BTreeMap<String, String>;

/// What a run has published.
struct Published {
    /// Before this process took it up; by whom is of no matter, since all of it was there.
    earlier: Artifacts,
    /// Since then, by stage name: by it, and by all stages before it.
    by_stage: HashMap<String, Artifacts>,
}

/// A stage whose result has a key.
struct Keyed {
    key: Digest,
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

/// What came of the question for a result.
struct LookedUp {
    keyed: Keyed,
    /// An error: it was there, and can't be used.
    found: io::Result<Option<Entry>>,
    /// The globs of what the stage may read to do the work; none when they are too many.
    declared: Option<Vec<String>>,
}

impl Caching {
    /// `work` does what the cache can't give.
    pub fn new(config: CacheConfig, work: Arc<dyn StageRunner>) -> Caching {
        let store = Store::new(&config.root);
        let index = FileIndex::new(store.index());
        Caching(Arc::new(Inner { config, store, index, tools: Mutex::default(), artifacts: Mutex::default(), work }))
    }

    /// Writes down what was learned of files. To be called when a run is over.
    ///
    /// # Errors
    /// When it can't be written; nothing is lost but time.
    pub fn save(&self) -> io::Result<()> {
        self.0.index.save()
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
            inner.begin(&run);
            let report = match request.cache.clone() {
                Some(asked) if inner.config.mode != Mode::Off => inner.run(request, asked, output, interrupt).await,
                _ => inner.work.run(request, output, interrupt).await,
            };
            inner.remember(&run, &name, &needs, &report.artifacts);
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
        let looked_up = {
            let (inner, request) = (Arc::clone(self), request.clone());
            off_thread(move || inner.look_up(&request)).await
        };
        let LookedUp { keyed, found, declared } = match looked_up {
            Ok(looked_up) => looked_up,
            Err(error) => {
                say(&output, format!("not cached: {error}")).await;
                return self.work.run(request, output, interrupt).await;
            }
        };
        match found {
            Ok(Some(entry)) => return self.give_back(&keyed.key, entry, &output).await,
            Ok(None) => {}
            Err(error) => say(&output, format!("its result was in the cache, and can't be used: {error}")).await,
        }
        output.cache(keyed.key.to_string(), None).await;
        let is_confined = declared.is_some() && self.config.sandboxed && !request.permissions.process.is_empty();
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
            let keeping = off_thread(move || inner.keep(&asking, &keyed, &kept, &recorder)).await;
            if let Err(error) = keeping {
                say(&output, format!("its result is not kept: {error}")).await;
            }
        } else if let AttemptEnd::Unsuccessful(_, failure) = &mut report.end
            && is_confined
        {
            hint(failure);
        }
        report
    }

    /// The key, and the result if there is one and all of it could be given back.
    fn look_up(&self, request: &AttemptRequest) -> io::Result<LookedUp> {
        let keyed = self.keyed(request)?;
        let takes = self.config.mode != Mode::Refresh && request.cache.as_ref().is_some_and(|asked| asked.take);
        let found = match self.store.find(&keyed.key).filter(|_| takes) {
            Some(entry) => self.restore(request, &keyed, &entry).map(|()| Some(entry)),
            None => Ok(None),
        };
        let mut declared = None;
        if !matches!(found, Ok(Some(_))) {
            if found.is_err() {
                self.store.forget(&keyed.key);
            }
            declared = self.workspace().cover(&keyed.files, COVER)?;
            let mut manifest = keyed.manifest.clone();
            manifest.name_files(&keyed.files);
            manifest.previous = self.store.latest(&request.pipeline, &request.stage_id).filter(|key| *key != keyed.key);
            self.store.note(&keyed.key, &manifest)?;
        }
        Ok(LookedUp { keyed, found, declared })
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
        let artifacts = self.artifacts_before(&request.run, &names(request));
        let around = Around {
            sandboxed: self.config.sandboxed,
            variables: &variables,
            tools: &tools,
            artifacts: &artifacts,
            files: &files,
        };
        let manifest = Manifest::of(request, &around);
        Ok(Keyed { key: manifest.key(), manifest, files, named })
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

    /// Before the first stage of a run does anything, whether it is cached or not.
    fn begin(&self, run: &RunId) {
        let mut runs = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        runs.entry(run.clone()).or_insert_with(|| {
            // A run that goes on in another process has published before. What can't be read can't be fetched either.
            let earlier = self.config.machine.published(run).unwrap_or_default().into_iter();
            let earlier = earlier.map(|artifact| (artifact.name, artifact.digest)).collect();
            Published { earlier, by_stage: HashMap::new() }
        });
    }

    /// What the stages before have published: all that a stage may count on being there.
    fn artifacts_before(&self, run: &RunId, needs: &[String]) -> Artifacts {
        let runs = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Published { earlier, by_stage }) = runs.get(run) else { return Artifacts::new() };
        let before = needs.iter().filter_map(|need| by_stage.get(need));
        std::iter::once(earlier).chain(before).flatten().map(|(name, digest)| (name.clone(), digest.clone())).collect()
    }

    fn remember(&self, run: &RunId, name: &str, needs: &[String], own: &[Artifact]) {
        let mut all = self.artifacts_before(run, needs);
        all.extend(own.iter().map(|artifact| (artifact.name.clone(), artifact.digest.clone())));
        let mut runs = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(published) = runs.get_mut(run).filter(|_| !all.is_empty()) {
            // Cells of a matrix share a name.
            published.by_stage.entry(name.to_owned()).or_default().extend(all);
        }
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

    fn restore(&self, request: &AttemptRequest, keyed: &Keyed, entry: &Entry) -> io::Result<()> {
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
        self.store.touch(&keyed.key);
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
        self.store.set_latest(&request.pipeline, &request.stage_id, &keyed.key)?;
        self.store.keep(&keyed.key, &entry)
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
    output.lines(Stream::Engine, vec![text]).await;
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
