//! A [`StageRunner`] that wraps another one, and prepares the files that it works on.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use stagewright_engine::{
    AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, Basis, Call, Capture, CaptureRequest, Failure,
    FailureKind, Interrupt, Lines, Made, Outcome, RunId, StageRunner, Stream,
};
use tokio::sync::watch;

use super::content::Chosen;
use super::expected::{Expected, Mismatch};
use super::scan::Scanned;
use super::store::CaptureStore;
use super::view::{CaptureView, put};
use super::walk::Root;
use stagewright_model::PathPattern;

use crate::digest::Digest;

/// The most paths that a message lists.
const NAMED: usize = 3;

/// The configuration of a [`Capturing`].
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// The folder of captures.
    pub root: PathBuf,
    /// The root of the workspace.
    pub workspace: PathBuf,
    /// Paths of the workspace that belong to the engine, and git's folder.
    pub reserved: Vec<String>,
    /// Whether programs run in a sandbox. A program outside of one could write to any file of its view, so the view then
    /// consists of copies only.
    pub sandboxed: bool,
}

/// Captures files at gates, and provides them to the stages behind these.
#[derive(Clone)]
pub struct Capturing(Arc<CaptureRunner>);

struct CaptureRunner {
    config: CaptureConfig,
    store: CaptureStore,
    /// Locked while a view is created or changed.
    views: Mutex<()>,
    work: Arc<dyn StageRunner>,
}

/// The files that an attempt works on.
struct StageFiles {
    /// None if the attempt works on the workspace itself.
    view: Option<CaptureView>,
}

impl Capturing {
    /// Wraps `work`, which runs the stages.
    pub fn new(config: CaptureConfig, work: Arc<dyn StageRunner>) -> Capturing {
        let store = CaptureStore::new(&config.root);
        Capturing(Arc::new(CaptureRunner { config, store, views: Mutex::default(), work }))
    }

    /// Writes the digests of files to the folder of captures. To be called at the end of a run.
    ///
    /// # Errors
    /// When they can't be written. The next run then reads the files again.
    pub fn save(&self) -> io::Result<()> {
        self.0.store.index.save()
    }
}

impl StageRunner for Capturing {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        let inner = Arc::clone(&self.0);
        let Basis { captures, made, readers, .. } = &request.basis;
        if captures.is_empty() && made.is_empty() && readers.is_empty() {
            return inner.work.run(request, output, interrupt);
        }
        async move { inner.run(request, output, interrupt).await }.boxed()
    }

    fn capture(&self, request: CaptureRequest) -> BoxFuture<'static, Result<Option<Capture>, Failure>> {
        let inner = Arc::clone(&self.0);
        async move {
            let captured = tokio::task::spawn_blocking(move || inner.capture(&request)).await;
            captured.unwrap_or_else(|error| Err(internal(format!("the capture failed: {error}")))).map(Some)
        }
        .boxed()
    }
}

impl CaptureRunner {
    async fn run(
        self: Arc<Self>,
        mut request: AttemptRequest,
        output: AttemptOutput,
        mut interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        let mut basis = std::mem::take(&mut request.basis);
        // An earlier attempt of the stage, which may have been killed, has left its changes in the workspace. A view is
        // restored instead.
        if request.attempt > 1 && basis.captures.is_empty() {
            basis.unordered.extend(request.permissions.writable_by_programs());
        }
        let asked = Arc::new((request.clone(), basis));
        let preparing = {
            let (inner, asked) = (Arc::clone(&self), Arc::clone(&asked));
            off_thread(move || {
                let (request, basis) = &*asked;
                inner.prepare(&request.run, &request.stage_id, basis, &reads_of(request))
            })
        };
        let given = tokio::select! {
            given = preparing => given,
            _ = interrupt.wait_for(Option::is_some) => {
                let stopped = failure(FailureKind::Cancelled, "the run was cancelled".to_owned(), None);
                return unsuccessful(Outcome::Cancelled, stopped);
            }
        };
        let given = match given {
            Ok(given) => Arc::new(given),
            Err(refused) => return unsuccessful(Outcome::Errored, refused),
        };
        if let Some(view) = &given.view {
            request.folder = Some(view.folder.clone());
            // Cached results belong to the workspace: their keys are computed from its files, and they are restored
            // there and not in the view.
            request.cache = None;
        }
        let mut report = self.work.run(request, output.clone(), interrupt).await;
        let finishing = {
            let (inner, succeeded) = (Arc::clone(&self), report.end == AttemptEnd::Succeeded);
            off_thread(move || Ok(inner.finish(&asked.0, &asked.1, &given, succeeded)))
        };
        match finishing.await {
            Ok(finished) => {
                for text in finished.notes {
                    output.lines(Stream::Engine, Lines::new(text)).await;
                }
                match finished.made {
                    Ok(made) => report.made = made,
                    Err(refused) => report.end = AttemptEnd::Unsuccessful(Outcome::Errored, refused),
                }
            }
            Err(refused) => report.end = AttemptEnd::Unsuccessful(Outcome::Errored, refused),
        }
        report
    }

    fn capture(&self, request: &CaptureRequest) -> Result<Capture, Failure> {
        let CaptureRequest { run, stage_id, opening, paths, basis } = request;
        let given = self.prepare(run, stage_id, basis, paths)?;
        let captured = (|| {
            let folder = given.view.as_ref().map_or(&self.config.workspace, |view| &view.folder);
            let root = Root::open(folder)?;
            let source = match &given.view {
                Some(view) => view.scanned(&root),
                None => self.workspace(&root),
            };
            let paths = [&paths[..], &root.targets(paths)].concat();
            let chosen = Chosen::new(&paths, &self.config.reserved)?.with_git(self.has_history(&paths));
            self.store.capture(run, &source, &chosen)
        })();
        let (digest, content) = captured.map_err(|error| {
            let message = format!("could not capture the files that the stages behind `{stage_id}` can read: {error}");
            let help = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    format!("free space in {}, then: stagewright resume {run}", self.config.root.display())
                }
                _ => format!("after fixing this, run: stagewright resume {run}"),
            };
            failure(FailureKind::FilesChanged, message, Some(help))
        })?;
        let (files, bytes) = content.size();
        Ok(Capture { digest: digest.to_string(), files, bytes, opening: *opening })
    }

    fn workspace<'a>(&'a self, root: &'a Root) -> Scanned<'a> {
        Scanned { root, index: &self.store.index, name: "" }
    }

    /// Whether programs with these grants can read the repository's history.
    fn has_history(&self, paths: &[PathPattern]) -> bool {
        let names_it = paths.iter().any(|path| matches!(path.normal(), "" | ".git"));
        names_it && self.config.workspace.join(".git/HEAD").is_file()
    }

    /// Prepares the files that a stage works on, or returns the reason why it must not start.
    fn prepare(&self, run: &RunId, stage: &str, basis: &Basis, reads: &[PathPattern]) -> Result<StageFiles, Failure> {
        if reads.is_empty() {
            return Ok(StageFiles { view: None });
        }
        let broken = |error: io::Error| internal(format!("could not prepare the files for `{stage}`: {error}"));
        let expected = Expected::of(&self.store, &basis.made).map_err(broken)?;
        if basis.captures.is_empty() {
            let changed = self.changed(&expected, basis, reads).map_err(broken)?;
            return match changed.first() {
                Some(first) => Err(self.not_started(run, stage, first, &changed)),
                None => Ok(StageFiles { view: None }),
            };
        }
        let _alone = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_approvals(run, stage, basis, reads)?;
        let mut view = self.view(run, basis, false)?;
        let missing = self.mismatches(&view, &expected, basis, reads).map_err(broken)?;
        if !missing.is_empty() {
            view = self.view(run, basis, true)?;
            for one in &missing {
                let opening = basis.captures.last().map(|approved| approved.capture.opening);
                let is_elsewhere = one.made.made.opening != opening;
                if !(is_elsewhere && self.copy_into_view(run, &view, one).map_err(broken)?) {
                    return Err(self.not_started(run, stage, one, &missing));
                }
            }
        }
        Ok(StageFiles { view: Some(view) })
    }

    /// The files in the workspace that differ from what earlier stages of the run left.
    fn changed<'a>(
        &self,
        expected: &Expected<'a>,
        basis: &Basis,
        reads: &[PathPattern],
    ) -> io::Result<Vec<Mismatch<'a>>> {
        if expected.is_empty() || reads.is_empty() {
            return Ok(Vec::new());
        }
        let root = Root::open(&self.config.workspace)?;
        expected.mismatches(&self.workspace(&root), &self.config.reserved, reads, &basis.unordered)
    }

    fn mismatches<'a>(
        &self,
        view: &CaptureView,
        expected: &Expected<'a>,
        basis: &Basis,
        reads: &[PathPattern],
    ) -> io::Result<Vec<Mismatch<'a>>> {
        if expected.is_empty() || reads.is_empty() {
            return Ok(Vec::new());
        }
        let root = Root::open(&view.folder)?;
        expected.mismatches(&view.scanned(&root), &self.config.reserved, reads, &basis.unordered)
    }

    /// The view of the last gate's capture. `is_changed`: whether the engine is going to write to it.
    fn view(&self, run: &RunId, basis: &Basis, is_changed: bool) -> Result<CaptureView, Failure> {
        let Some(last) = basis.captures.last() else { return Err(internal("no capture".to_owned())) };
        let digest = Digest::parse(&last.capture.digest)
            .ok_or_else(|| internal(format!("`{}` is not a digest", last.capture.digest)))?;
        let everything = [PathPattern::everything()];
        let writable = if self.config.sandboxed { &basis.writable[..] } else { &everything };
        CaptureView::of(&self.store, run, last.capture.opening, &digest, writable, is_changed).map_err(|error| {
            let gate = &last.stage_id;
            let message = format!("could not use the files that were captured at `{gate}`: {error}");
            let help = format!("capture and approve them again: stagewright resume {run} --from {gate}");
            failure(FailureKind::FilesChanged, message, Some(help))
        })
    }

    /// Copies a file that an earlier stage made elsewhere into the view. False if it isn't unchanged there either.
    fn copy_into_view(&self, run: &RunId, view: &CaptureView, missing: &Mismatch<'_>) -> io::Result<bool> {
        let to_root = Root::open(&view.folder)?;
        let to = view.scanned(&to_root);
        match missing.made.made.opening {
            None => {
                let root = Root::open(&self.config.workspace)?;
                copy_into_view(&self.workspace(&root), &to, missing)
            }
            Some(opening) => {
                let folder = self.store.view(run, opening).join("files");
                let (root, index) = (Root::open(&folder)?, crate::index::FileIndex::new(PathBuf::new()));
                copy_into_view(&Scanned { root: &root, index: &index, name: "" }, &to, missing)
            }
        }
    }

    /// Fails if the files of the last capture differ from those that were approved at an earlier gate. Paths that the run
    /// itself may have written since are not compared.
    fn check_approvals(&self, run: &RunId, stage: &str, basis: &Basis, reads: &[PathPattern]) -> Result<(), Failure> {
        let Some((last, earlier)) = basis.captures.split_last() else { return Ok(()) };
        for approved in earlier.iter().filter(|one| one.capture.digest != last.capture.digest) {
            let differing = || {
                let content = |digest: &str| {
                    let digest = Digest::parse(digest).ok_or_else(|| io::Error::other("no digest"))?;
                    self.store.content(&digest)
                };
                let chosen = Chosen::new(reads, &self.config.reserved)?
                    .with_git(self.has_history(reads))
                    .without(&approved.written_since)?;
                let (then, now) = (content(&approved.capture.digest)?, content(&last.capture.digest)?);
                let mut paths = then.items.keys().chain(now.items.keys()).filter(|path| chosen.selects(path));
                Ok(paths.find(|path| then.items.get(*path) != now.items.get(*path)).cloned())
            };
            let gate = &approved.stage_id;
            let help = Some(format!("capture and approve them again: stagewright resume {run} --from {gate}"));
            match differing() {
                Ok(None) => {}
                Ok(Some(path)) => {
                    let path = super::content::shown(&path);
                    let message = format!(
                        "`{stage}` isn't started: `{path}` was changed between the approvals at `{gate}` and `{}`",
                        last.stage_id
                    );
                    return Err(failure(FailureKind::FilesChanged, message, help));
                }
                Err::<_, io::Error>(error) => {
                    let message =
                        format!("could not read the list of the files that were captured at `{gate}`: {error}");
                    return Err(failure(FailureKind::FilesChanged, message, help));
                }
            }
        }
        Ok(())
    }

    /// Called after an attempt has ended: copies its files to the workspace, and records what it made.
    fn finish(&self, request: &AttemptRequest, basis: &Basis, given: &StageFiles, succeeded: bool) -> Finished {
        let mut notes = Vec::new();
        if let Some(view) = given.view.as_ref().filter(|view| view.is_own() && request.call == Call::Run) {
            notes.extend(self.publish(request, view));
        }
        if !succeeded || request.call != Call::Run {
            return Finished { notes, made: Ok(None) };
        }
        let made = self.check_unchanged(request, basis, given).and_then(|()| {
            self.record(request, basis, given).map_err(|error| {
                let help = format!("after fixing this, run: stagewright resume {}", request.run);
                let message = format!("could not record the files that `{}` made: {error}", request.stage_id);
                failure(FailureKind::FilesChanged, message, Some(help))
            })
        });
        Finished { notes, made }
    }

    /// Copies the files that were written in a view to the workspace. Returns a note for the log if some were not copied.
    fn publish(&self, request: &AttemptRequest, view: &CaptureView) -> Option<String> {
        let published = (|| {
            let root = Root::open(&self.config.workspace)?;
            let written = Chosen::new(&request.permissions.writable(), &self.config.reserved)?;
            view.publish(&self.workspace(&root), &written)
        })();
        let own = view.folder.display();
        match published {
            Ok(kept) if kept.is_empty() => None,
            Ok(kept) => Some(format!(
                "not copied to the workspace, where they were changed since the gate opened: {}; this run's versions are in \
                 {own}",
                listed(&kept)
            )),
            Err(error) => {
                Some(format!("could not copy the files that it wrote to the workspace; they are in {own}: {error}"))
            }
        }
    }

    /// Fails if files of earlier stages changed while the stage ran: a stage that works on the workspace itself may have
    /// read what another run made.
    fn check_unchanged(&self, request: &AttemptRequest, basis: &Basis, given: &StageFiles) -> Result<(), Failure> {
        if given.view.is_some() || basis.made.is_empty() {
            return Ok(());
        }
        let unordered = [&basis.unordered[..], &request.permissions.writable_by_programs()].concat();
        let basis = Basis { unordered, ..basis.clone() };
        let changed = Expected::of(&self.store, &basis.made)
            .and_then(|expected| self.changed(&expected, &basis, &reads_of(request)).map(|changed| owned(&changed)))
            .map_err(|error| internal(format!("could not read the files of `{}`: {error}", request.stage_id)))?;
        match changed {
            None => Ok(()),
            Some((path, maker, more)) => {
                let message = format!(
                    "`{path}`{more}, made by `{maker}`, was changed by another run or a person while `{}` ran",
                    request.stage_id
                );
                Err(failure(FailureKind::FilesChanged, message, Some(remedy(&request.run, &maker))))
            }
        }
    }

    fn record(&self, request: &AttemptRequest, basis: &Basis, given: &StageFiles) -> io::Result<Option<Made>> {
        if basis.results.is_empty() || basis.readers.is_empty() {
            return Ok(None);
        }
        let folder = given.view.as_ref().map_or(&self.config.workspace, |view| &view.folder);
        let root = Root::open(folder)?;
        let there = match &given.view {
            Some(view) => view.scanned(&root),
            None => self.workspace(&root),
        };
        let chosen = Chosen::new(&basis.results, &self.config.reserved)?.within(&basis.readers)?;
        let content = there.content(&chosen)?;
        let _shared = self.store.lock(std::fs::File::lock_shared)?;
        let digest = self.store.keep(&request.run, &content)?.to_string();
        Ok(Some(Made { digest, opening: given.view.is_some().then(|| opening_of(basis)).flatten() }))
    }

    fn not_started(&self, run: &RunId, stage: &str, first: &Mismatch<'_>, all: &[Mismatch<'_>]) -> Failure {
        let maker = &first.made.stage_id;
        let message = format!(
            "`{stage}` isn't started: `{}`{} is not what `{maker}` made in this run; another run or a person has \
             changed it since",
            first.shown(),
            more(all.len())
        );
        failure(FailureKind::FilesChanged, message, Some(remedy(run, maker)))
    }
}

struct Finished {
    notes: Vec<String>,
    made: Result<Option<Made>, Failure>,
}

fn copy_into_view(from: &Scanned<'_>, to: &Scanned<'_>, missing: &Mismatch<'_>) -> io::Result<bool> {
    Ok(from.item_at(&missing.path)? == missing.item && put(from, to, &missing.path, missing.item)?)
}

fn opening_of(basis: &Basis) -> Option<u64> {
    basis.captures.last().map(|approved| approved.capture.opening)
}

/// All paths that the stage may read, including those that it may write and the programs that it may start.
fn reads_of(request: &AttemptRequest) -> Vec<PathPattern> {
    request.permissions.readable().collect()
}

fn owned(changed: &[Mismatch<'_>]) -> Option<(String, String, String)> {
    let first = changed.first()?;
    Some((first.shown(), first.made.stage_id.clone(), more(changed.len())))
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    }
}

fn listed(paths: &[String]) -> String {
    let named = paths.iter().take(NAMED).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(NAMED) {
        0 => named,
        rest => format!("{named} and {rest} more"),
    }
}

fn remedy(run: &RunId, maker: &str) -> String {
    format!(
        "to rebuild it, run: stagewright resume {run} --from {maker}; to prevent runs from writing the same files at the \
         same time, set `concurrency.group`"
    )
}

fn internal(message: String) -> Failure {
    failure(FailureKind::Internal, message, None)
}

fn failure(kind: FailureKind, message: String, help: Option<String>) -> Failure {
    Failure { help, ..Failure::new(kind, message, false) }
}

fn unsuccessful(outcome: Outcome, failure: Failure) -> AttemptReport {
    let end = AttemptEnd::Unsuccessful(outcome, failure);
    AttemptReport {
        end,
        outputs: Default::default(),
        artifacts: Vec::new(),
        release: None,
        made: None,
        read_history: false,
    }
}

/// Runs blocking file operations outside of the async threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(internal(format!("scanning files failed: {error}"))))
}
