//! Signals to a run that no process drives.

use serde_json::{Value as Json, json};
use stagewright_engine::{EventKind, Outcome};
use stagewright_session::{ErrorKind, GateAnswer, GateHandling, RunRequest, SignalRequest, Verdict};

use crate::front_end::{FrontEnd, drive};
use crate::{GATE, resume};

fn request(run: &str, stage: Option<&str>) -> SignalRequest {
    SignalRequest {
        run: run.to_owned(),
        token: "job-7".to_owned(),
        payload: json!({ "exit": 0 }),
        stage: stage.map(str::to_owned),
        by: Some("ada".to_owned()),
    }
}

#[tokio::test]
async fn signals_without_a_wait_are_kept_up_to_a_bound_and_reach_the_next_process() {
    let front_end = FrontEnd::with_pipeline(GATE);
    let session = front_end.session();
    let run = front_end.start(&session, &RunRequest::default()).await;
    let id = run.id().0.clone();
    drive(run, GateHandling::Suspend).await;
    for number in 0..100 {
        let sent = session.signal(&request(&id, Some("after"))).unwrap();
        assert!(sent.ends.is_none() && sent.needs_resume, "{number}: {sent:?}");
    }
    let full = session.signal(&request(&id, None)).unwrap_err();
    assert_eq!(full.kind, ErrorKind::NotReady, "{full:?}");
    let unknown = session.signal(&request(&id, Some("none"))).unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::InvalidRequest, "{unknown:?}");
    let large = SignalRequest { payload: Json::String("x".repeat(64 * 1024)), ..request(&id, None) };
    assert_eq!(session.signal(&large).unwrap_err().kind, ErrorKind::InvalidRequest);

    let verdict = Verdict::Approve(Vec::new());
    let answer = GateAnswer { run: id.clone(), stage: None, by: Some("ada".to_owned()), reason: None, verdict };
    session.answer(&answer).unwrap();
    let resumed = session.resume_run(&id, &resume()).await.unwrap();
    let (summary, events) = drive(resumed, GateHandling::Suspend).await;
    assert_eq!(summary.conclusion, Some(Outcome::Succeeded));
    let kept = events.iter().filter(|event| matches!(event.kind, EventKind::SignalKept { .. }));
    assert_eq!(kept.count(), 100);
    let ended = session.signal(&request(&id, None)).unwrap_err();
    assert!(ended.kind == ErrorKind::NotReady && ended.message.contains("the run has ended"), "{ended:?}");
}
