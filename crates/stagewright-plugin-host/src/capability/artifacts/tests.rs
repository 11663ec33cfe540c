use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stagewright_model::Permissions;

use super::*;
use crate::policy::Policy;

fn publication(name: &str, media_type: &str) -> Publication {
    Publication { name: name.to_owned(), path: "a".to_owned(), media_type: Some(media_type.to_owned()) }
}

/// The files of a folder, all of which may be written.
pub(super) fn files_in(folder: &Path) -> WorkspaceFiles {
    let permissions = Permissions { write: vec![".".parse().unwrap()], ..Permissions::default() };
    let policy = Policy::new("stages.test", &permissions, &Default::default(), Arc::default());
    let root = Dir::open_ambient_dir(folder, ambient_authority()).unwrap();
    WorkspaceFiles::new(Arc::new(root), Arc::new(policy), 1000)
}

#[test]
fn a_stage_fetches_what_another_stage_published() {
    let (store, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = files_in(folder.path());
    let of = |stage: &str| Artifacts::new(store.path().into(), "run-1".into(), stage.into());
    fs::write(folder.path().join("a"), "hello").unwrap();
    of("build").publish(&files, &publication("app", "text/plain")).unwrap();
    fs::write(folder.path().join("a"), "hello again").unwrap();
    let published = of("build").publish(&files, &publication("app", "text/plain")).unwrap().published;
    let before = BTreeSet::from(["build".to_owned()]);
    let fetched = of("deploy").fetch(&files, "app", "in/b", &before).unwrap().published;
    assert_eq!((fetched.digest, fetched.size, fetched.media_type), (published.digest, 11, "text/plain".into()));
    assert_eq!(fs::read_to_string(folder.path().join("in/b")).unwrap(), "hello again");

    let taken = of("deploy").publish(&files, &publication("app", "text/plain")).unwrap_err();
    assert_eq!(taken.code, ErrorCode::AlreadyExists);
    assert_eq!(of("deploy").fetch(&files, "other", "b", &before).unwrap_err().code, ErrorCode::NotFound);
    let unneeded = of("deploy").fetch(&files, "app", "b", &BTreeSet::new()).unwrap_err();
    assert_eq!(unneeded.code, ErrorCode::FailedPrecondition);
    assert_eq!(unneeded.message, "artifact `app` is of stage `build`, which this stage doesn't need");
    for name in ["", "../x", "a/b", ".hidden"] {
        assert_eq!(of("build").publish(&files, &publication(name, "")).unwrap_err().code, ErrorCode::InvalidArgument);
    }
}

#[test]
fn a_run_inherits_the_artifacts_of_another() {
    let (store, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = files_in(folder.path());
    let of = |run: &str, stage: &str| Artifacts::new(store.path().into(), run.into(), stage.into());
    fs::write(folder.path().join("a"), "hello").unwrap();
    let published = of("run-1", "build").publish(&files, &publication("app", "text/plain")).unwrap();
    let all = ArtifactFolder { root: store.path().into() };
    all.inherit(&RunId("run-1".into()), &RunId("run-2".into())).unwrap();
    // The content is kept for the second run.
    remove_runs(store.path(), &[RunId("run-1".into())]).unwrap();
    let before = BTreeSet::from(["build".to_owned()]);
    assert_eq!(of("run-2", "deploy").fetch(&files, "app", "b", &before).unwrap(), published);
    assert_eq!(fs::read_to_string(folder.path().join("b")).unwrap(), "hello");
}

#[test]
fn an_attempt_publishes_a_bounded_number_of_artifacts() {
    let (store, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = files_in(folder.path());
    let artifacts = Artifacts::new(store.path().into(), "run-1".into(), "build".into());
    fs::write(folder.path().join("a"), "").unwrap();
    let published = artifacts.publish(&files, &publication("last", "text/plain")).unwrap().published;
    let earlier = (1..MOST).map(|number| (format!("n{number}"), published.clone()));
    artifacts.published.lock().unwrap().extend(earlier);
    let refused = artifacts.publish(&files, &publication("more", "text/plain")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ResourceExhausted);
    assert_eq!(artifacts.fetch(&files, "more", "b", &BTreeSet::new()).unwrap_err().code, ErrorCode::NotFound);
    artifacts.publish(&files, &publication("last", "text/plain")).unwrap();
}

#[test]
fn a_damaged_artifact_is_not_fetched() {
    let (store, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = files_in(folder.path());
    let artifacts = Artifacts::new(store.path().into(), "run-1".into(), "build".into());
    fs::write(folder.path().join("a"), "hello").unwrap();
    let published = artifacts.publish(&files, &publication("app", "text/plain")).unwrap().published;
    fs::write(artifacts.blob(&published.digest), "hellO").unwrap();
    assert!(artifacts.fetch(&files, "app", "b", &BTreeSet::new()).unwrap_err().message.contains("damaged"));
    assert!(!folder.path().join("b").exists());
}

#[test]
fn removing_a_run_removes_contents_that_no_other_run_refers_to() {
    let (store, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, files) = (store.path(), files_in(folder.path()));
    let publish = |run: &str, name: &str, content: &str| {
        fs::write(folder.path().join("a"), content).unwrap();
        let artifacts = Artifacts::new(root.to_owned(), run.to_owned(), "build".to_owned());
        let published = artifacts.publish(&files, &publication(name, "text/plain")).unwrap().published;
        artifacts.blob(&published.digest)
    };
    let (shared, own) = (publish("old", "a", "shared"), publish("old", "b", "own"));
    publish("kept", "a", "shared");
    // A temporary file, as a killed stage leaves it.
    fs::write(root.join("runs/kept/.tmp123"), "{").unwrap();
    let runs = |names: &[&str]| names.iter().map(|name| RunId((*name).to_owned())).collect::<Vec<_>>();
    assert!(remove_runs(root, &runs(&[".."])).is_err() && own.exists());
    let removed = remove_runs(root, &runs(&["old", "unknown"])).unwrap();
    assert_eq!(removed, RemovedArtifacts { blobs: 1, bytes: 3 });
    assert_eq!((shared.exists(), own.exists(), root.join("runs/old").exists()), (true, false, false));

    fs::write(root.join("runs/kept/a.json"), "{").unwrap();
    let error = remove_runs(root, &[]).unwrap_err();
    assert!(error.to_string().contains("kept/a.json") && shared.exists(), "{error}");
}

#[test]
fn contents_are_not_removed_while_they_are_being_published() {
    let store = tempfile::tempdir().unwrap();
    let publishing = locked(store.path(), fs::File::lock_shared).unwrap();
    let root = store.path().to_owned();
    let (sender, done) = std::sync::mpsc::channel();
    let removing = std::thread::spawn(move || {
        let removed = remove_runs(&root, &[]);
        sender.send(()).unwrap();
        removed
    });
    let artifacts = Artifacts::new(store.path().to_owned(), "run".to_owned(), "build".to_owned());
    let (digest, _) = artifacts.store(&mut "content".as_bytes()).unwrap();
    // The removal waits until a record refers to the content.
    assert!(done.recv_timeout(std::time::Duration::from_millis(50)).is_err());
    let record = Record { digest, media_type: String::new(), size: 7, stage: "build".to_owned() };
    Artifacts::name(&artifacts.place("a").unwrap(), &record).unwrap();
    drop(publishing);
    assert_eq!(removing.join().unwrap().unwrap(), RemovedArtifacts::default());
}
