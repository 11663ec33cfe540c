//! Sessions as a front end uses them, without the command line and with an explicit configuration.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the failure")]
#![expect(clippy::disallowed_methods, reason = "what a session is given, and isn't, is read here")]

mod front_end;
mod runtime;
mod signal;

#[path = "../../examples/run_pipeline.rs"]
#[expect(dead_code, reason = "the example's own `main` isn't called")]
mod run_pipeline;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use stagewright_engine::{Decision, EventKind, Outcome, RunCommand};
use stagewright_session::{
    Cancelled, ErrorKind, GateAnswer, GateHandling, Notice, Prompter, Question, RerunOptions, ResumeOptions, RunMode,
    RunOptions, RunRequest, StartOutcome, Verdict, captured_digest,
};

use front_end::{FrontEnd, drive, drive_options, plugins};

const TWO_STAGES: &str = r#"
schema = 1
[pipeline]
name = "two"
[inputs.who]
type = "string"
default = "world"
[stages.first]
uses = "noop"
with = { outputs = { who = "${{ inputs.who }}" } }
[stages.second]
uses = "noop"
needs = ["first"]
"#;

pub(crate) const GATE: &str = r#"
schema = 1
[pipeline]
name = "gated"
[stages.approve]
uses = "approve"
with = { message = "Go on?" }
[stages.after]
uses = "noop"
needs = ["approve"]
"#;

#[tokio::test]
async fn the_example_runs_a_pipeline() {
    let front_end = FrontEnd::with_pipeline(TWO_STAGES);
    let config = run_pipeline::config(&front_end.root(), &plugins(), front_end.variables());
    let lines = run_pipeline::OutputLines::default();
    assert_eq!(run_pipeline::run(config, None, &lines).await.unwrap(), Some(Outcome::Succeeded));
    let mut lines = lines.take();
    lines.retain(|line| !line.starts_with("compiling"));
    assert_eq!(lines, ["first: succeeded", "second: succeeded"]);
}

#[tokio::test]
async fn a_gate_is_answered_and_the_run_resumed_in_one_session() {
    let front_end = FrontEnd::with_pipeline(GATE);
    let session = front_end.session();
    let run = front_end.start(&session, &RunRequest::default()).await;
    let id = run.id().0.clone();
    let (summary, _) = drive(run, GateHandling::Suspend).await;
    assert_eq!((summary.conclusion, summary.waiting.len()), (None, 1));

    let answer = GateAnswer {
        run: id.clone(),
        stage: None,
        by: Some("ada".to_owned()),
        reason: None,
        verdict: Verdict::Approve(Vec::new()),
    };
    let recorded = session.answer(&answer).unwrap();
    assert!(recorded.needs_resume && recorded.missing.is_none(), "{recorded:?}");
    assert_eq!(session.answer(&answer).unwrap_err().kind, ErrorKind::NotReady, "it was answered");

    let resumed = session.resume_run(&id, &resume()).await.unwrap();
    assert!(matches!(resumed.past().first().map(|event| &event.kind), Some(EventKind::RunStarted { .. })));
    let busy = session.resume_run(&id, &resume()).await.map(drop).unwrap_err();
    assert_eq!(busy.kind, ErrorKind::NotReady, "{busy:?}");
    let (summary, _) = drive(resumed, GateHandling::Suspend).await;
    assert_eq!(summary.conclusion, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_person_at_the_front_end_is_asked_until_the_gate_is_answered() {
    let front_end = FrontEnd::with_pipeline(GATE);
    let session = front_end.session();
    let run = front_end.start(&session, &RunRequest::default()).await;
    let person = Arc::new(Person::default());
    let (summary, _) = drive(run, GateHandling::Ask(person.clone())).await;
    assert_eq!(summary.conclusion, Some(Outcome::Succeeded));
    // The engine refuses the first of the two answers, which has no name.
    assert_eq!(*person.asked.lock().unwrap(), ["approve", "approve"]);
    assert!(person.is_closed.load(Ordering::Relaxed));
}

/// Answers without a name first, then with one.
#[derive(Default)]
struct Person {
    asked: Mutex<Vec<String>>,
    is_closed: AtomicBool,
}

impl Prompter for Person {
    fn ask(&self, question: &Question, is_open: &dyn Fn() -> bool) -> RunCommand {
        assert!(is_open());
        let mut asked = self.asked.lock().unwrap();
        asked.push(question.id.clone());
        let decision = Decision {
            token: question.gate.token.clone(),
            capture: captured_digest(&question.gate),
            approved: true,
            by: if asked.len() == 1 { String::new() } else { "ada".to_owned() },
            ..Decision::default()
        };
        RunCommand::Decide { stage: question.stage, decision }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn dropped_run_can_be_resumed_with_its_stored_answers() {
    let front_end = FrontEnd::with_pipeline(GATE);
    let session = front_end.session();
    let run = front_end.start(&session, &RunRequest::default()).await;
    let id = run.id().clone();
    drive(run, GateHandling::Suspend).await;
    let answer = GateAnswer {
        run: id.0.clone(),
        stage: None,
        by: Some("ada".to_owned()),
        reason: None,
        verdict: Verdict::Approve(Vec::new()),
    };
    session.answer(&answer).unwrap();
    // Simulates a drive that was interrupted before it recorded the answer.
    assert_eq!(session.store().unwrap().lock().take_decisions(&id).unwrap().len(), 1);
    drop(session.resume_run(&id.0, &resume()).await.unwrap());
    let resumed = session.resume_run(&id.0, &resume()).await.unwrap();
    let (summary, _) = drive(resumed, GateHandling::Suspend).await;
    assert_eq!(summary.conclusion, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn waiting_run_can_be_cancelled() {
    let front_end = FrontEnd::with_pipeline(GATE);
    let session = front_end.session();
    let run = front_end.start(&session, &RunRequest::default()).await;
    let id = run.id().0.clone();
    drive(run, GateHandling::Suspend).await;
    let Cancelled::Waiting(run) = session.cancel(&id, Some("no longer needed")).await.unwrap() else {
        panic!("no process drives it")
    };
    let (summary, _) = drive(*run, GateHandling::Suspend).await;
    assert_eq!(summary.conclusion, Some(Outcome::Cancelled));
    assert_eq!(session.cancel(&id, None).await.map(drop).unwrap_err().kind, ErrorKind::NotReady);
}

#[tokio::test]
async fn rehearsal_approves_its_gates_regardless_of_the_gate_handling() {
    let front_end = FrontEnd::with_pipeline(GATE);
    let session = front_end.session();
    let request = RunRequest { mode: RunMode::Rehearsal { offline: true }, ..RunRequest::default() };
    let run = front_end.start(&session, &request).await;
    assert!(run.is_rehearsal());
    let (summary, _) = drive(run, GateHandling::Suspend).await;
    assert_eq!(summary.conclusion, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn runs_share_one_session_at_the_same_time() {
    let front_end = FrontEnd::with_pipeline(TWO_STAGES);
    let session = front_end.session();
    let request = |who: &str| RunRequest {
        inputs: BTreeMap::from([("who".to_owned(), who.to_owned())]),
        options: RunOptions { jobs: Some(1), ..RunOptions::default() },
        ..RunRequest::default()
    };
    let one = front_end.start(&session, &request("ada")).await;
    let two = front_end.start(&session, &request("bob")).await;
    assert_ne!(one.id(), two.id());
    let first = one.id().0.clone();
    let ((one, one_events), (two, _)) =
        tokio::join!(drive(one, GateHandling::Suspend), drive(two, GateHandling::Suspend));
    assert_eq!([one.conclusion, two.conclusion], [Some(Outcome::Succeeded); 2]);
    assert!(one_events.iter().enumerate().all(|(at, event)| event.seq == at as u64), "{one_events:?}");

    let again = session.rerun(&first, &RerunOptions::default()).await.unwrap();
    let (summary, _) = drive(again, GateHandling::Suspend).await;
    assert_eq!(summary.conclusion, Some(Outcome::Succeeded));
    assert_eq!(session.store().unwrap().lock().list(&Default::default()).unwrap().len(), 3);
}

#[tokio::test]
async fn errors_have_a_kind_and_leave_no_state() {
    let front_end = FrontEnd::with_pipeline("schema = 1\n[pipeline]\nname = \"p\"\n[stages.a]\nuses = \"nop\"\n");
    let session = front_end.session();
    let file = session.pipeline(None).unwrap();
    assert_eq!(session.load(file).unwrap_err().kind, ErrorKind::InvalidPipeline);
    assert!(front_end.collected().iter().any(|line| line.contains("`nop`")), "{:?}", front_end.collected());

    front_end.write("stagewright.toml", TWO_STAGES);
    let unknown = session.pipeline(Some("none")).unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::NotReady, "{unknown:?}");
    let pipeline = session.load(session.pipeline(None).unwrap()).unwrap();
    let only = RunRequest { only: vec!["third".to_owned()], ..RunRequest::default() };
    let error = session.start(pipeline.clone(), &only).await.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest, "{error:?}");
    let locked = RunRequest { options: RunOptions { locked: true, ..RunOptions::default() }, ..RunRequest::default() };
    let error = session.start(pipeline, &locked).await.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotReady, "{error:?}");
    assert!(!front_end.root().join(".stagewright/stagewright.db").exists());
}

#[test]
fn relative_paths_are_resolved_against_the_configured_folder() {
    let front_end = FrontEnd::with_pipeline(TWO_STAGES);
    front_end.write("sub/own.toml", GATE);
    let session = front_end.session();
    assert_eq!(session.repository().root, front_end.root().canonicalize().unwrap());
    assert_eq!(session.pipeline(Some("./own.toml")).unwrap().name, "sub/own.toml");
    assert_eq!(session.pipeline(Some("./stagewright.toml")).unwrap().name, "stagewright.toml", "of the root");
    // The current folder of this process is that of the crate.
    assert!(std::path::Path::new("Cargo.toml").is_file());
    assert!(session.pipeline(Some("Cargo.toml")).is_err());
}

#[tokio::test]
async fn only_configured_variables_are_used() {
    let text = "schema = 1\n[pipeline]\nname = \"p\"\n[secrets.token]\nfrom = \"env:CARGO_MANIFEST_DIR\"\n\
                [stages.a]\nuses = \"noop\"\npermissions = { secrets = [\"token\"] }\n";
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "this process has the variable");
    let mut front_end = FrontEnd::with_pipeline(text);
    let session = front_end.session();
    let pipeline = session.load(session.pipeline(None).unwrap()).unwrap();
    let error = session.start(pipeline, &RunRequest::default()).await.map(drop).unwrap_err();
    assert!(error.kind == ErrorKind::NotReady && error.message.contains("CARGO_MANIFEST_DIR"), "{error:?}");

    front_end.set("CARGO_MANIFEST_DIR", "abc");
    let session = front_end.session();
    let run = front_end.start(&session, &RunRequest::default()).await;
    assert!(front_end.notices().contains(&Notice::ShortSecret { name: "token".to_owned() }));
    assert_eq!(drive(run, GateHandling::Suspend).await.0.conclusion, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_front_end_can_spawn_what_a_session_does() {
    let front_end = FrontEnd::with_pipeline(TWO_STAGES);
    let session = front_end.session();
    let file = session.pipeline(None).unwrap();
    let spawned = tokio::spawn(async move {
        session.validate(&file, &mut |_| {}).await?;
        session.update_lock(true, true)?.add(file.clone()).await?;
        session.review(session.load(file.clone())?, &BTreeMap::new()).await?.refuse(&session)?;
        let StartOutcome::Run(run) = session.start(session.load(file)?, &RunRequest::default()).await? else {
            panic!("all of its stages are asked for")
        };
        run.drive(drive_options(GateHandling::Wait, &Default::default())).await
    });
    assert_eq!(spawned.await.unwrap().unwrap().conclusion, Some(Outcome::Succeeded));
}

fn resume() -> ResumeOptions {
    ResumeOptions {
        reason: "asked for".to_owned(),
        from: Vec::new(),
        accept_changes: false,
        options: RunOptions::default(),
    }
}
