//! Stages behind a gate, concurrent changes by other runs, and garbage collection.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use stagewright_engine::{
    ApprovedCapture, AttemptEnd, AttemptMessageKind, AttemptOutput, AttemptReport, AttemptRequest, Basis, Call,
    Capture, CaptureRequest, EarlierResult, Failure, Interrupt, Made, RunId, StageRunner,
};
use stagewright_model::{PathPattern, Permissions, PluginRef, StageIndex, Trust};
use tokio::sync::{mpsc, watch};

use super::{CaptureConfig, CapturesNeeded, Capturing, gc_captures};

fn read_text(path: &Path) -> std::io::Result<String> {
    stagewright_files::read_text(path, stagewright_files::RECORD)
}

type Work = Arc<dyn Fn(&Path) + Send + Sync>;

/// Does the work of a stage in the folder of its request.
struct Worker {
    workspace: PathBuf,
    work: Work,
}

impl StageRunner for Worker {
    fn run(
        &self,
        request: AttemptRequest,
        _: AttemptOutput,
        _: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        (self.work)(request.folder.as_deref().unwrap_or(&self.workspace));
        let end = AttemptEnd::Succeeded;
        async {
            AttemptReport {
                end,
                outputs: BTreeMap::new(),
                artifacts: Vec::new(),
                release: None,
                made: None,
                read_history: false,
            }
        }
        .boxed()
    }
}

struct World {
    _folder: tempfile::TempDir,
    workspace: PathBuf,
    captures: PathBuf,
    sandboxed: bool,
}

/// A stage of the run.
#[derive(Clone, Default)]
struct Stage {
    run: &'static str,
    read: &'static [&'static str],
    write: &'static [&'static str],
    basis: Basis,
    /// How many attempts came before.
    earlier: u32,
}

struct Ran {
    failure: Option<Failure>,
    made: Option<Made>,
    said: String,
}

impl World {
    fn new(files: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let (workspace, captures) = (folder.path().join("w"), folder.path().join("captures"));
        fs::create_dir(&workspace).unwrap();
        let world = World { _folder: folder, workspace, captures, sandboxed: true };
        files.iter().for_each(|(path, text)| world.write(path, text));
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        read_text(&self.path(path)).unwrap_or_else(|error| error.kind().to_string())
    }

    fn capturing(&self, work: Work) -> Capturing {
        let config = CaptureConfig {
            root: self.captures.clone(),
            workspace: self.workspace.clone(),
            reserved: vec![".git".to_owned(), ".stagewright".to_owned()],
            sandboxed: self.sandboxed,
        };
        Capturing::new(config, Arc::new(Worker { workspace: self.workspace.clone(), work }))
    }

    async fn try_capture(&self, paths: &[&str], basis: Basis) -> Result<Capture, Failure> {
        let request = CaptureRequest {
            run: RunId("r1".to_owned()),
            stage_id: "gate".to_owned(),
            opening: 7 + basis.captures.len() as u64,
            paths: all(paths),
            basis,
        };
        let captured = self.capturing(Arc::new(|_| {})).capture(request).await;
        captured.map(|capture| capture.expect("there are files"))
    }

    async fn capture(&self, paths: &[&str]) -> Capture {
        self.try_capture(paths, Basis::default()).await.unwrap()
    }

    async fn run(&self, stage: Stage, work: impl Fn(&Path) + Send + Sync + 'static) -> Ran {
        let (sender, mut deliveries) = mpsc::channel(64);
        let (_interrupt, interrupted) = watch::channel(None);
        let output = AttemptOutput::new(StageIndex(0), 1, sender);
        let report = self.capturing(Arc::new(work)).run(request(stage), output, interrupted).await;
        let mut words = String::new();
        while let Some(delivery) = deliveries.recv().await {
            if let AttemptMessageKind::Lines(_, lines) = delivery.message.kind {
                lines.iter().for_each(|line| words.push_str(line));
            }
        }
        let failure = match report.end {
            AttemptEnd::Unsuccessful(_, failure) => Some(failure),
            _ => None,
        };
        Ran { failure, made: report.made, said: words }
    }
}

fn all<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn request(stage: Stage) -> AttemptRequest {
    let permissions = Permissions { read: all(stage.read), write: all(stage.write), ..Permissions::default() };
    AttemptRequest {
        run: RunId(if stage.run.is_empty() { "r1" } else { stage.run }.to_owned()),
        pipeline: "test".into(),
        stage: StageIndex(0),
        stage_id: "stage".into(),
        table: "stages.stage".to_owned(),
        attempt: 1 + stage.earlier,
        call: Call::Run,
        uses: PluginRef::Builtin("none".into()),
        trust: Trust::Component,
        plugin: None,
        config: serde_json::json!({}),
        env: BTreeMap::default(),
        permissions,
        environment: None,
        needs: Vec::new(),
        before: Default::default(),
        source: None,
        timeout: None,
        memory: None,
        log_limit: None,
        limits: Default::default(),
        declared: None,
        cache: None,
        failed_tests: None,
        resumption: None,
        rollout: None,
        rehearsal: None,
        basis: stage.basis,
        folder: None,
    }
}

/// The basis of a stage behind a gate, when stages behind it may write `writable`.
fn behind(capture: &Capture, writable: &[&str]) -> Basis {
    let approved = ApprovedCapture { stage_id: "gate".to_owned(), capture: capture.clone(), written_since: Vec::new() };
    Basis { captures: vec![approved], writable: all(writable), ..Basis::default() }
}

fn made_by(stage: &str, made: &Made, places: &[&str]) -> EarlierResult {
    let places: Vec<PathPattern> = all(places);
    EarlierResult { stage_id: stage.to_owned(), made: made.clone(), results: places.clone(), writable: places }
}

#[tokio::test]
async fn the_digest_covers_contents_modes_links_and_folders() {
    let world = World::new(&[("app", "aaaa"), ("sub/module", "1"), ("empty/x", "")]);
    fs::remove_file(world.path("empty/x")).unwrap();
    symlink("app", world.path("link")).unwrap();
    let mut known = vec![world.capture(&["."]).await.digest];
    let mut expect_another = async |what: &str| {
        let digest = world.capture(&["."]).await.digest;
        assert!(!known.contains(&digest), "{what}");
        known.push(digest);
    };
    let modified = world.path("app").metadata().unwrap().modified().unwrap();
    world.write("app", "bbbb");
    fs::File::options().write(true).open(world.path("app")).unwrap().set_modified(modified).unwrap();
    expect_another("other content of the same size and time").await;
    fs::set_permissions(world.path("app"), fs::Permissions::from_mode(0o755)).unwrap();
    expect_another("another mode").await;
    world.write("sub/module", "2");
    expect_another("a submodule").await;
    world.write("new", "");
    expect_another("a new file").await;
    fs::remove_file(world.path("link")).unwrap();
    symlink("new", world.path("link")).unwrap();
    expect_another("a link that leads elsewhere").await;
    fs::remove_dir(world.path("empty")).unwrap();
    expect_another("a folder that is gone").await;
    stagewright_files::remove_tree(&world.path("sub")).unwrap();
    world.write("sub", "");
    expect_another("a file in place of a folder").await;
}

#[tokio::test]
async fn equal_content_is_captured_once_and_similar_captures_share_files() {
    let world = World::new(&[("a", "1"), ("b", "2"), (".git/HEAD", "x"), (".stagewright/state", "y")]);
    let first = world.capture(&["."]).await;
    assert_eq!((first.files, first.bytes), (3, 3), "the engine's own files are left out, HEAD is not");
    assert_eq!(world.capture(&["."]).await, first);
    let trees = || {
        let folders = fs::read_dir(world.captures.join("trees")).unwrap().map(|entry| entry.unwrap().path());
        folders.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    assert_eq!(trees().len(), 1);
    world.write("a", "3");
    world.capture(&["."]).await;
    assert_eq!(trees().len(), 2);
    let links = |name: &str| trees().iter().map(|tree| tree.join(name).metadata().unwrap().nlink()).collect::<Vec<_>>();
    assert_eq!((links("a"), links("b")), (vec![1, 1], vec![2, 2]));
}

#[tokio::test]
async fn a_stage_behind_a_gate_sees_the_captured_files_and_nothing_newer() {
    let world = World::new(&[("app", "approved"), ("target/app", "built")]);
    let capture = world.capture(&["."]).await;
    world.write("app", "changed");
    world.write("new", "slipped in");
    world.write("target/app", "an editor's build");
    let stage =
        Stage { read: &["."], write: &["deployed"], basis: behind(&capture, &["deployed"]), ..Stage::default() };
    let (workspace, late) = (world.workspace.clone(), world.path("app"));
    let ran = world.run(stage, move |folder| {
        assert_ne!(folder, workspace);
        fs::write(&late, "changed while it runs").unwrap();
        let text = ["app", "new", "target/app"].map(|name| read_text(&folder.join(name)).unwrap_or_default());
        fs::write(folder.join("deployed"), text.join(",")).unwrap();
    });
    let ran = ran.await;
    assert!(ran.failure.is_none(), "{:?}", ran.failure);
    assert_eq!(world.read("deployed"), "approved,,built", "and it is in the workspace");
    assert_eq!(world.read("target/app"), "an editor's build", "the workspace keeps its own");
}

#[tokio::test]
async fn files_written_behind_a_gate_reach_later_stages_and_never_overwrite_changes_of_others() {
    let world = World::new(&[("out/a", "1"), ("out/gone", "2"), ("out/mine", "3")]);
    let capture = world.capture(&["out"]).await;
    let stage = |basis| Stage { read: &["out"], write: &["out"], basis, ..Stage::default() };
    world.write("out/mine", "my own");
    let ran = world.run(stage(behind(&capture, &["out"])), |folder| {
        fs::write(folder.join("out/a"), "new").unwrap();
        fs::write(folder.join("out/mine"), "the run's").unwrap();
        fs::remove_file(folder.join("out/gone")).unwrap();
        fs::create_dir_all(folder.join("out/deep/er")).unwrap();
        symlink("../a", folder.join("out/deep/link")).unwrap();
    });
    let ran = ran.await;
    assert_eq!((world.read("out/a"), world.read("out/gone")), ("new".to_owned(), "entity not found".to_owned()));
    assert!(world.path("out/deep/er").is_dir() && world.read("out/deep/link") == "new");
    assert_eq!(world.read("out/mine"), "my own");
    assert!(ran.said.contains("`out/mine`"), "{}", ran.said);
    // The next stage sees the run's own version.
    let seen = world.run(stage(behind(&capture, &["out"])), |folder| {
        assert_eq!(read_text(&folder.join("out/mine")).unwrap(), "the run's");
        fs::write(folder.join("out/a"), "newer").unwrap();
    });
    assert!(seen.await.failure.is_none());
    assert_eq!(world.read("out/a"), "newer", "the run replaces its own earlier version");
}

/// Files that no stage behind the gate may write are hard links to the capture.
#[tokio::test]
async fn a_file_written_in_place_is_unchanged_in_the_capture() {
    let world = World::new(&[("out/a", "approved"), ("config", "approved")]);
    let capture = world.capture(&["."]).await;
    let stage = Stage { read: &["."], write: &["out"], basis: behind(&capture, &["out"]), ..Stage::default() };
    let ran = world.run(stage, |folder| {
        let mut open = fs::File::options().append(true).open(folder.join("out/a")).unwrap();
        std::io::Write::write_all(&mut open, b" and changed").unwrap();
    });
    assert!(ran.await.failure.is_none());
    assert_eq!(world.read("out/a"), "approved and changed");
    let tree = world.captures.join("trees").join(capture.digest.trim_start_matches("sha256:"));
    for name in ["out/a", "config"] {
        assert_eq!(read_text(&tree.join(name)).unwrap(), "approved", "{name}");
    }
}

/// A program outside of a sandbox can write to every file of its view.
#[tokio::test]
async fn without_a_sandbox_a_view_consists_of_copies() {
    let world = World { sandboxed: false, ..World::new(&[("config", "approved")]) };
    let capture = world.capture(&["."]).await;
    let stage = Stage { read: &["."], basis: behind(&capture, &[]), ..Stage::default() };
    let ran = world.run(stage, |folder| fs::write(folder.join("config"), "changed").unwrap());
    assert!(ran.await.failure.is_none());
    let tree = world.captures.join("trees").join(capture.digest.trim_start_matches("sha256:"));
    assert_eq!(read_text(&tree.join("config")).unwrap(), "approved");
}

#[tokio::test]
async fn a_stage_does_not_start_on_files_that_another_run_made() {
    let world = World::new(&[("base", "")]);
    let readers = Basis { results: all(&["app"]), readers: all(&["app"]), ..Basis::default() };
    let build = Stage { write: &["app"], basis: readers, ..Stage::default() };
    let built = world.run(build, |folder| fs::write(folder.join("app"), "1").unwrap()).await;
    let made = built.made.expect("what it made is recorded");
    let basis = Basis { made: vec![made_by("build", &made, &["app"])], ..Basis::default() };
    let image = Stage { read: &["app"], basis, ..Stage::default() };
    assert!(world.run(image.clone(), |_| {}).await.failure.is_none());

    world.write("app", "2");
    let refused = world.run(image.clone(), |_| panic!("it is started")).await.failure.unwrap();
    assert!(refused.message.contains("`app` is not what `build` made"), "{}", refused.message);
    assert!(refused.help.unwrap().contains("resume r1 --from build"));
    assert!(
        world.try_capture(&["app"], image.basis.clone()).await.is_err(),
        "such files aren't captured for an approval either"
    );

    // An earlier attempt of the stage may have left its own changes where the stage may write.
    let again = Stage { earlier: 1, ..image.clone() };
    assert!(world.run(again.clone(), |_| panic!("it is started")).await.failure.is_some(), "it may not write the file");
    assert!(world.run(Stage { write: &["app"], ..again }, |_| {}).await.failure.is_none());

    // They must not be replaced while the stage runs either.
    world.write("app", "1");
    let late = world.path("app");
    let broken = world.run(image.clone(), move |_| fs::write(&late, "2").unwrap()).await.failure.unwrap();
    assert!(broken.message.contains("while `stage` ran"), "{}", broken.message);

    // Paths that other stages of the run may be writing are not checked.
    let unordered = Basis { unordered: all(&["app"]), ..image.basis.clone() };
    assert!(world.run(Stage { basis: unordered, ..image.clone() }, |_| {}).await.failure.is_none());
    // A file with the same content counts as unchanged.
    world.write("app", "1");
    assert!(world.run(image, |_| {}).await.failure.is_none());
}

#[tokio::test]
async fn files_made_while_a_gate_was_open_are_copied_to_the_stages_behind_it() {
    let world = World::new(&[("app", "old"), ("config", "approved")]);
    let capture = world.capture(&["."]).await;
    let readers = Basis { results: all(&["app"]), readers: all(&["."]), ..Basis::default() };
    let build = Stage { write: &["app"], basis: readers, ..Stage::default() };
    let made = world.run(build, |folder| fs::write(folder.join("app"), "new").unwrap()).await.made.unwrap();
    world.write("config", "changed");
    let basis = Basis { made: vec![made_by("build", &made, &["app"])], ..behind(&capture, &[]) };
    let stage = Stage { read: &["."], basis, ..Stage::default() };
    let ran = world.run(stage.clone(), |folder| {
        let text = ["app", "config"].map(|name| read_text(&folder.join(name)).unwrap());
        assert_eq!(text, ["new", "approved"]);
    });
    assert!(ran.await.failure.is_none());
    // Once the file is in the view, changes in the workspace don't matter.
    world.write("app", "another run's");
    assert!(world.run(stage, |_| {}).await.failure.is_none());
}

#[tokio::test]
async fn a_file_that_changed_between_two_approvals_is_refused() {
    let world = World::new(&[("app", "1")]);
    let first = world.capture(&["."]).await;
    world.write("app", "2");
    let second = world.capture(&["."]).await;
    let both = |written_since: &[&str]| {
        let approved = |gate: &str, capture: &Capture| ApprovedCapture {
            stage_id: gate.to_owned(),
            capture: capture.clone(),
            written_since: all(written_since),
        };
        Basis { captures: vec![approved("first", &first), approved("second", &second)], ..Basis::default() }
    };
    let stage = |basis| Stage { read: &["app"], basis, ..Stage::default() };
    let refused = world.run(stage(both(&[])), |_| panic!("it is started")).await.failure.unwrap();
    assert!(refused.message.contains("`app` was changed between the approvals at `first` and `second`"));
    assert!(world.run(stage(both(&["app"])), |_| {}).await.failure.is_none(), "the run itself has made it");
}

#[tokio::test]
async fn a_capture_follows_no_links_and_skips_pipes() {
    let world = World::new(&[("real/app", "1")]);
    fs::write(world.workspace.parent().unwrap().join("private"), "secret").unwrap();
    symlink("../private", world.path("out")).unwrap();
    symlink("real", world.path("current")).unwrap();
    symlink("current", world.path("loop")).unwrap();
    let made = std::process::id().to_string();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.path(&made),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let capture = world.capture(&["."]).await;
    let tree = |capture: &Capture| world.captures.join("trees").join(capture.digest.trim_start_matches("sha256:"));
    assert!(tree(&capture).join("out").is_symlink() && !tree(&capture).join(&made).exists());
    // A grant that leads through a link of the workspace includes the link's target.
    let through = world.capture(&["loop/app"]).await;
    assert_eq!(read_text(&tree(&through).join("loop/app")).unwrap(), "1");
    let outside = world.capture(&["out"]).await;
    assert_eq!(outside.files, 1, "the link alone");
}

#[test]
fn a_path_through_a_link_is_not_found() {
    let world = World::new(&[("real/app", "1")]);
    symlink("real", world.path("current")).unwrap();
    let root = super::walk::Root::open(&world.workspace).unwrap();
    assert!(root.file(b"real/app").is_ok());
    for path in [&b"current/app"[..], b"current", b"../w/real/app", b"real/../../w/real/app"] {
        assert!(root.file(path).is_err(), "{}", String::from_utf8_lossy(path));
    }
}

#[tokio::test]
async fn a_capture_that_was_damaged_by_a_crash_is_not_used() {
    let world = World::new(&[("app", "approved")]);
    let capture = world.capture(&["."]).await;
    let tree = world.captures.join("trees").join(capture.digest.trim_start_matches("sha256:"));
    let stage = Stage { read: &["."], basis: behind(&capture, &[]), ..Stage::default() };
    // As after a reboot.
    let restart = || fs::write(tree.with_extension("boot"), "an earlier one").unwrap();
    restart();
    assert!(world.run(stage.clone(), |_| {}).await.failure.is_none(), "an intact capture is used");
    fs::write(tree.join("app"), "").unwrap();
    restart();
    let refused = world.run(stage.clone(), |_| panic!("it is started")).await.failure.unwrap();
    assert!(
        refused.message.contains("damaged") && refused.help.unwrap().contains("--from gate"),
        "{}",
        refused.message
    );
    // The same content can be captured again.
    assert_eq!(world.capture(&["."]).await.digest, capture.digest);
    assert!(world.run(stage, |_| {}).await.failure.is_none());
}

#[tokio::test]
async fn captures_are_removed_when_no_run_needs_them() {
    let world = World::new(&[("app", "1")]);
    let capture = world.capture(&["."]).await;
    let basis = Basis { results: all(&["out"]), readers: all(&["."]), ..behind(&capture, &["out"]) };
    let stage = Stage { read: &["."], write: &["out"], basis, ..Stage::default() };
    let made = world.run(stage, |folder| fs::write(folder.join("out"), "2").unwrap()).await.made.unwrap();
    let there = |part: &str| world.captures.join(part).exists();
    let tree = format!("trees/{}", capture.digest.trim_start_matches("sha256:"));
    let list = format!("contents/{}", made.digest.trim_start_matches("sha256:"));
    let gc = |needed| gc_captures(&world.captures, |_| needed, false).unwrap();
    assert_eq!(gc(CapturesNeeded::All).captures, 0);
    assert!(there(&tree) && there("views/r1/7/files"));
    assert_eq!(gc(CapturesNeeded::Lists).captures, 1);
    assert!(!there(&tree) && !there("views/r1") && there(&list));
    gc(CapturesNeeded::Nothing);
    assert!(!there(&list) && !there("runs/r1"));
    assert_eq!(gc_captures(Path::new("/nowhere/at/all"), |_| CapturesNeeded::All, false).unwrap(), Default::default());
}
