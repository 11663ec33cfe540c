//! The sample pipeline: test, audit, build, push, deploy, approve, deploy to production, smoke test.

use std::path::Path;

use crate::environment::{TestEnvironment, outcomes, text};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in from.read_dir().expect("a folder").flatten() {
        let name = entry.file_name();
        if name == "target" {
            continue;
        }
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to.join(name)),
            false => drop(std::fs::copy(entry.path(), to.join(name)).expect("a copy")),
        }
    }
}

/// A repository with the sample only.
pub(crate) fn sample() -> TestEnvironment {
    let environment = TestEnvironment::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    copy(&here.join("pipelines"), &environment.root().join("pipelines"));
    environment
}

#[test]
fn rehearse_the_release() {
    let environment = sample();
    let (code, events) = environment.events(&["run", "release", "--rehearse"]);
    let failed = events.iter().filter(|event| event["type"] == "attempt-ended" && !event["failure"].is_null());
    assert_eq!(code, 0, "{:#?}", failed.collect::<Vec<_>>());
    assert!(outcomes(&events).values().all(|outcome| outcome == "succeeded"), "{:#?}", outcomes(&events));
    let outputs = |stage: &str| {
        let ended = events.iter().find(|event| event["type"] == "attempt-ended" && event["stage-id"] == stage);
        ended.unwrap()["outputs"].clone()
    };
    assert_eq!(outputs("image")["digest"], outputs("push")["digest"]);
    assert_eq!(text(&outputs("deploy-production")["image"]), text(&outputs("push")["reference"]));
    let services = environment.run(&["service", "status", "--rehearsal", "--json"]).exits(0);
    assert!(!services.stdout.contains("\"running\""), "a rehearsal left services running: {}", services.stdout);

    // Equal sources give equal images.
    let (code, again) = environment.events(&["run", "release", "--rehearse", "--only", "push"]);
    assert_eq!(code, 0);
    let ended = again.iter().find(|event| event["type"] == "attempt-ended" && event["stage-id"] == "push").unwrap();
    assert_eq!(ended["outputs"]["digest"], outputs("push")["digest"]);
}
