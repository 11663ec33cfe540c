//! Waits for a time or a signal: what they hold, what ends them, and how they survive a crash.

use std::time::Duration;

use serde_json::{Value as Json, json};
use stagewright_engine::{
    EffectClass, EnvironmentAnswer, Event, EventKind, GateKind, Input, Interrupt, Outcome, PluginFacts, RunCommand,
    RunId, RunValues, Scheduler, Signal, Timestamp, Wait,
};
use stagewright_model::{Stage, StageIndex};

use crate::fake::{Act, Ran, Script, WORK, World, granted, reach};
use crate::gates::{answer, gate};
use crate::plans::{cell, deploy, grouped, plan, plan_with, stage};

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn wait_for(token: &str, poll_after: Option<Duration>) -> Wait {
    Wait { token: token.to_owned(), reason: "the job is queued".to_owned(), poll_after, expires: None }
}

fn polled() -> Act {
    Act::Wait(wait_for("job-7", Some(HOUR)))
}

fn for_a_signal() -> Act {
    Act::Wait(wait_for("job-7", None))
}

pub(crate) fn signal(number: u64) -> Signal {
    let token = "job-7".to_owned();
    Signal { number, token, stage: None, payload: json!({ "exit": 0 }), by: "ada".to_owned(), at: Timestamp(number) }
}

fn send(signal: Signal) -> RunCommand {
    RunCommand::Signal(signal)
}

/// A stage `job` that performs the acts, and an independent stage `other` after it, with one slot.
fn world(acts: Vec<Act>) -> World {
    let stages = vec![stage("job", &[]), stage("other", &[])];
    World { jobs: 1, ..World::new(plan(stages), Script::of([("job", acts)])) }
}

fn deploying(acts: Vec<Act>) -> World {
    let stages = vec![deploy("rollout", &[]), deploy("check", &[])];
    World::new(plan(stages), Script::of([("rollout", acts)]))
}

fn resumptions(ran: &Ran) -> Vec<Json> {
    let seen = ran.seen.lock().expect("what was seen");
    seen.requests.iter().filter_map(|request| request.resumption.clone()).collect()
}

fn woken(cause: &str, payload: &Json) -> Json {
    json!({ "token": "job-7", "cause": cause, "payload": payload, "decisions": [] })
}

/// The journal of a process that died right after the first event that matches.
fn until(ran: &Ran, is_last: impl Fn(&EventKind) -> bool) -> Vec<Event> {
    let last = ran.recorded.iter().position(|event| is_last(&event.kind)).expect("such an event");
    ran.recorded[..=last].to_vec()
}

fn opened(kind: &EventKind) -> bool {
    matches!(kind, EventKind::GateOpened { .. })
}

/// Another process that continues after `past`, with the wall clock at `now`.
fn restarted(ran: &Ran, past: Vec<Event>, acts: Vec<Act>, now: Duration) -> World {
    let name = if ran.plan.stages[0].id == "job" { "job" } else { "rollout" };
    World { past, clock_from: now, jobs: 1, ..World::new(ran.plan.clone(), Script::of([(name, acts)])) }
}

fn said(ran: &Ran) -> Vec<String> {
    let said = ran.coordinator.said.lock().expect("a lock");
    said.iter().filter(|said| *said != "beat").cloned().collect()
}

fn story(ran: &Ran) -> Vec<&'static str> {
    let told = ran.recorded.iter().filter_map(|event| match &event.kind {
        EventKind::GateOpened { .. } => Some("opened"),
        EventKind::GateElapsed { .. } => Some("elapsed"),
        EventKind::GateSignalled { .. } => Some("signalled"),
        EventKind::SignalKept { .. } => Some("kept"),
        EventKind::RecoveryStarted { .. } => Some("recovery"),
        EventKind::RunSuspended { .. } => Some("suspended"),
        EventKind::AttemptEnded { .. } => Some("ended"),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_wait_holds_no_slot_and_the_same_attempt_goes_on() {
    let ran = world(vec![polled(), polled(), Act::Succeed]).run();
    assert_eq!(ran.starts(), ["job#1", "other#1", "job#1", "job#1"]);
    assert_eq!(ran.outcomes(), ["job succeeded", "other succeeded"]);
    assert_eq!(ran.took, 2 * HOUR + 3 * WORK);
    assert_eq!(resumptions(&ran), [woken("poll", &Json::Null), woken("poll", &Json::Null)]);
    assert_eq!(story(&ran), ["opened", "ended", "elapsed", "opened", "elapsed", "ended"]);
}

#[test]
fn a_signal_ends_a_wait_early() {
    let ran = world(vec![polled(), Act::Succeed]).command(Duration::from_secs(60), send(signal(1))).run();
    assert_eq!(ran.took, Duration::from_secs(60) + WORK);
    assert_eq!(resumptions(&ran), [woken("signal", &json!({ "exit": 0 }))]);
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn a_signal_before_its_wait_is_kept() {
    let early = world(vec![for_a_signal(), for_a_signal(), Act::Succeed])
        .command(Duration::from_millis(100), send(signal(1)))
        .command(Duration::from_millis(200), send(signal(2)))
        .run();
    assert_eq!(early.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(story(&early)[..5], ["kept", "kept", "opened", "signalled", "opened"]);
    assert_eq!(early.state(&[]).signals, []);
    let past = until(&early, |kind| matches!(kind, EventKind::SignalKept { .. }));
    let later = restarted(&early, past, vec![for_a_signal(), Act::Succeed], WORK).run();
    assert_eq!(later.starts()[..1], ["job#2"], "the first attempt was lost");
    assert_eq!(later.conclusion(), Some(Outcome::Succeeded), "the signal wasn't lost");
}

#[test]
fn a_signal_can_name_the_stage() {
    let both = || {
        let stages = vec![stage("a", &[]), stage("b", &[])];
        let script = Script::of([("a", vec![polled(), Act::Succeed]), ("b", vec![polled(), Act::Succeed])]);
        World::new(plan(stages), script)
    };
    let signalled = |only| {
        let ran = both().command(10 * WORK, send(Signal { stage: only, ..signal(1) })).run();
        ran.events(|kind| match kind {
            EventKind::GateSignalled { stage, .. } => Some(stage.0.to_string()),
            _ => None,
        })
    };
    assert_eq!(signalled(Some(StageIndex(1))), ["1"]);
    assert_eq!(signalled(None), ["0"], "the first that waits");
}

#[test]
fn a_timed_wait_is_not_idle() {
    let ran = world(vec![polled(), Act::Succeed]).command(Duration::ZERO, RunCommand::Suspend).run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.took, HOUR + 2 * WORK);
}

#[test]
fn a_wait_for_a_signal_alone_suspends() {
    let suspended = world(vec![for_a_signal(), Act::Succeed]).command(Duration::ZERO, RunCommand::Suspend).run();
    assert_eq!(story(&suspended), ["opened", "ended", "suspended"]);
    let past = suspended.recorded.clone();
    let again = restarted(&suspended, past, vec![Act::Succeed], HOUR).command(WORK, send(signal(1))).run();
    assert_eq!(again.starts(), ["job#1"]);
    assert_eq!(resumptions(&again), [woken("signal", &json!({ "exit": 0 }))]);
}

#[test]
fn after_a_crash_the_wait_goes_on_until_the_recorded_time() {
    let before = world(vec![polled(), Act::Succeed]).run();
    let again = |now: Duration| restarted(&before, until(&before, opened), vec![Act::Succeed], now).run();
    for (now, rest) in [(10 * WORK, HOUR + WORK - 10 * WORK), (HOUR + WORK, Duration::ZERO), (5 * HOUR, Duration::ZERO)]
    {
        let ran = again(now);
        assert_eq!(ran.starts().iter().filter(|start| *start == "job#1").count(), 1, "{now:?}");
        assert_eq!(ran.took.saturating_sub(rest).as_secs() / 3, 0, "{now:?}: {:?}", ran.took);
        assert!(ran.took >= rest, "{now:?}: {:?}", ran.took);
        assert_eq!(resumptions(&ran), [woken("poll", &Json::Null)]);
    }
}

#[test]
fn a_wait_follows_the_clock_when_it_is_set() {
    let forward = World { clock_jump: Some((100 * WORK, HOUR)), ..world(vec![polled(), Act::Succeed]) }.run();
    assert!(forward.took < Duration::from_secs(170), "{:?}", forward.took);
    let before = world(vec![polled(), Act::Succeed]).run();
    let past = until(&before, opened);
    // The machine's clock is an hour behind what the journal says.
    let behind = restarted(&before, past.into_iter().map(later_by_an_hour).collect(), vec![Act::Succeed], WORK).run();
    assert!(behind.took >= 2 * HOUR, "{:?}", behind.took);
}

fn later_by_an_hour(mut event: Event) -> Event {
    let hour = u64::try_from(HOUR.as_millis()).expect("few milliseconds");
    event.at.0 += hour;
    if let EventKind::GateOpened { gate, .. } = &mut event.kind {
        gate.until = gate.until.map(|until| Timestamp(until.0 + hour));
    }
    event
}

#[test]
fn a_waiting_attempt_keeps_its_environment() {
    let ran = deploying(vec![reach(polled()), reach(Act::Succeed)]).run();
    assert_eq!(ran.starts(), ["rollout#1", "rollout#1", "check#1"]);
    assert_eq!(
        said(&ran),
        ["claim production", "claim production!", "claim production!", "release_environment production"]
    );
    assert_eq!(ran.effects(), ["rollout#1", "rollout#1"]);
}

#[test]
fn a_wait_for_a_signal_alone_releases_the_environment() {
    let world =
        World::new(plan(vec![deploy("rollout", &[])]), Script::of([("rollout", vec![for_a_signal(), Act::Succeed])]));
    let ran = world.command(10 * WORK, send(signal(1))).run();
    let expected =
        ["claim production", "release_environment production", "claim production!", "release_environment production"];
    assert_eq!(said(&ran), expected);
}

#[test]
fn a_waiting_attempt_keeps_its_environment_while_another_stage_awaits_one() {
    let staging = |mut stage: Stage| {
        stage.environment.as_mut().unwrap().name = "staging".to_owned();
        stage
    };
    let stages = vec![deploy("rollout", &[]), staging(deploy("other", &[0])), staging(deploy("side", &[]))];
    let world = World::new(plan(stages), Script::of([("rollout", vec![polled(), Act::Succeed])]));
    let held = EnvironmentAnswer::Held { by: RunId("r0".to_owned()) };
    world.coordinator.claims.lock().unwrap().extend([granted(1), held.clone(), held, granted(1)]);
    let ran = world.run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    let said = said(&ran);
    let released = said.iter().position(|said| said == "release_environment production").unwrap();
    let continued = said.iter().position(|said| said == "claim production!").unwrap();
    assert!(continued < released, "{said:?}");
}

#[test]
fn after_a_crash_the_environment_is_acquired_again() {
    let before = deploying(vec![reach(polled()), reach(Act::Succeed)]).run();
    let past = until(&before, opened);
    let again = restarted(&before, past, vec![Act::Succeed], WORK).run();
    assert_eq!(said(&again)[..2], ["claim production!", "claim production!"], "on resume, and to continue");
    assert_eq!(again.starts(), ["rollout#1", "check#1"]);
    assert!(!story(&again).contains(&"recovery"), "its outcome isn't in doubt");
}

#[test]
fn after_a_crash_the_environment_is_acquired_before_a_slot_is_free_for_the_next_call() {
    let stages = vec![stage("job", &[]), deploy("rollout", &[])];
    let script = Script::of([("job", vec![Act::Fail]), ("rollout", vec![reach(polled()), reach(Act::Succeed)])]);
    let before = World { jobs: 1, ..World::new(plan(stages), script) }.run();
    let past = until(&before, |kind| matches!(kind, EventKind::GateElapsed { .. }));
    let again = restarted(&before, past, vec![Act::Succeed], 2 * HOUR).run();
    assert_eq!(again.starts(), ["job#2", "rollout#1"]);
    let expected = ["claim production!", "claim production!", "release_environment production"];
    assert_eq!(said(&again), expected, "on resume, and to continue");
}

#[test]
fn an_attempt_that_a_newer_run_superseded_never_acts() {
    let before = deploying(vec![reach(polled()), reach(Act::Succeed)]).run();
    let past = until(&before, opened);
    let world = restarted(&before, past.clone(), vec![reach(Act::Succeed)], WORK);
    let superseded = || EnvironmentAnswer::Superseded { by: RunId("r2".to_owned()) };
    world.coordinator.claims.lock().unwrap().extend([superseded(), superseded(), superseded()]);
    let again = world.run();
    assert_eq!((again.starts(), again.effects()), (Vec::<String>::new(), Vec::new()));
    assert_eq!(again.outcomes()[0], "rollout errored");
    assert_eq!(again.state(&past).stages[0].unresolved_attempt, Some(1));
}

#[test]
fn a_resumed_run_enters_its_group_before_it_holds_an_environment() {
    let stages = vec![deploy("rollout", &[])];
    let before = World::new(grouped(stages, false), Script::of([("rollout", vec![polled(), Act::Succeed])])).run();
    assert!(!said(&before)[..3].contains(&"leave g".to_owned()), "{:?}", said(&before));
    let past = until(&before, opened);
    let world = restarted(&before, past, vec![Act::Succeed], WORK);
    let waiting = || stagewright_engine::GroupAnswer::Waiting { holder: RunId("r0".to_owned()) };
    world.coordinator.joins.lock().unwrap().extend([waiting(), waiting()]);
    let said = said(&world.run());
    assert_eq!(said[..5], ["join g", "join g", "join g", "claim production!", "claim production!"]);
}

#[test]
fn a_wait_that_is_cancelled_leaves_its_effect_unresolved() {
    let external = RunValues {
        plugins: vec![PluginFacts { effect: EffectClass::External, ..PluginFacts::default() }; 2],
        ..RunValues::default()
    };
    let world = World { values: external, ..world(vec![reach(polled()), Act::Succeed]) };
    let cancel = RunCommand::Cancel { how: Interrupt::Graceful, reason: "Ctrl-C".to_owned() };
    let ran = world.command(10 * WORK, cancel).run();
    assert_eq!(ran.outcomes()[0], "job cancelled");
    assert_eq!(ran.state(&[]).stages[0].unresolved_attempt, Some(1));
}

#[test]
fn nobody_can_answer_a_wait() {
    let ran = world(vec![polled(), Act::Succeed]).answer(10 * WORK, 0, answer(true, "ada")).run();
    let reason = ran.observed.iter().find_map(|event| match &event.kind {
        EventKind::DecisionRefused { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(reason, Some("the stage waits for a time or a signal, not for an answer"));
    assert_eq!(ran.took, HOUR + 2 * WORK);
}

#[test]
fn approvals_outlast_a_wait_but_not_a_change() {
    let bound = |binding: &str| RunValues { binding: Some(binding.to_owned()), ..RunValues::default() };
    let plan = plan_with(vec![deploy("rollout", &[])], &["ada"], None);
    let script = || Script::of([("rollout", vec![polled(), Act::Succeed])]);
    let world = World { values: bound("one"), ..World::new(plan, script()) };
    let ran = world.answer(WORK, 0, answer(true, "ada")).run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(story(&ran), ["opened", "opened", "elapsed", "ended"]);
    let past = until(&ran, |kind| matches!(kind, EventKind::GateOpened { gate, .. } if gate.kind == GateKind::Wait));
    let changed = World { values: bound("two"), ..restarted(&ran, past, vec![Act::Succeed], 2 * HOUR) };
    let again = changed.answer(10 * WORK, 0, answer(true, "ada")).run();
    assert_eq!(story(&again), ["elapsed", "opened", "ended"], "its approvers are asked before it continues");
    assert_eq!(again.starts(), ["rollout#1"]);
    assert_eq!(resumptions(&again), [woken("poll", &Json::Null)]);
}

#[test]
fn a_decision_is_known_after_a_later_wait() {
    let acts = vec![Act::Ask(gate()), polled(), polled(), Act::Succeed];
    let ran = world(acts).answer(2 * WORK, 0, answer(true, "ada")).run();
    assert_eq!(ran.outcomes(), ["job succeeded", "other succeeded"]);
    let known = resumptions(&ran).into_iter().map(|resumption| resumption["decisions"][0]["by"].clone());
    assert_eq!(known.collect::<Vec<_>>(), ["ada", "ada", "ada"]);
    let causes = resumptions(&ran).into_iter().map(|resumption| resumption["cause"].clone());
    assert_eq!(causes.collect::<Vec<_>>(), [json!(null), json!("poll"), json!("poll")]);
}

#[test]
fn an_invalid_wait_ends_the_stage() {
    for (token, after) in [
        (String::new(), HOUR),
        ("x".repeat(257), HOUR),
        ("a\u{1b}[1m".to_owned(), HOUR),
        ("job".to_owned(), Duration::from_millis(999)),
        ("job".to_owned(), 31 * 24 * HOUR),
    ] {
        let ran = world(vec![Act::Wait(wait_for(&token, Some(after)))]).run();
        assert_eq!(ran.outcomes()[0], "job inconclusive", "{token:?} {after:?}");
    }
}

#[test]
fn a_rehearsal_cuts_waits_short() {
    let rehearsal = RunValues { rehearsal: true, ..RunValues::default() };
    let timed = World { values: rehearsal.clone(), ..world(vec![polled(), Act::Succeed]) }.run();
    assert_eq!(timed.took, 3 * WORK);
    assert_eq!(resumptions(&timed), [woken("poll", &Json::Null)]);
    let signalled = World { values: rehearsal, ..world(vec![for_a_signal(), Act::Succeed]) }.run();
    assert_eq!(resumptions(&signalled), [woken("signal", &Json::Null)]);
    assert_eq!(signalled.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn a_run_keeps_a_bounded_number_of_signals() {
    let mut scheduler = Scheduler::new(plan(vec![stage("job", &[])]), RunValues::default(), 1);
    let mut send = |input| scheduler.on_input(Timestamp(1), input).expect("a sound run").events.len();
    send(Input::Start(RunId("r1".to_owned())));
    let recorded: usize = (1..=105).map(|number| send(Input::Signalled(signal(number)))).sum();
    assert_eq!(recorded, 100);
    let large = Signal { payload: json!("x".repeat(64 * 1024)), ..signal(0) };
    assert_eq!(send(Input::Signalled(large)), 0);
}

#[test]
fn a_rejection_after_a_wait_leaves_the_effect_unresolved() {
    let bound = |binding: &str| RunValues { binding: Some(binding.to_owned()), ..RunValues::default() };
    let plan = plan_with(vec![deploy("rollout", &[])], &["ada"], None);
    let script = Script::of([("rollout", vec![reach(polled()), Act::Succeed])]);
    let ran = World { values: bound("one"), ..World::new(plan, script) }.answer(WORK, 0, answer(true, "ada")).run();
    let past = until(&ran, |kind| matches!(kind, EventKind::GateOpened { gate, .. } if gate.kind == GateKind::Wait));
    let changed = World { values: bound("two"), ..restarted(&ran, past.clone(), vec![Act::Succeed], 2 * HOUR) };
    let again = changed.answer(10 * WORK, 0, answer(false, "ada")).run();
    assert_eq!(again.outcomes(), ["rollout rejected"]);
    assert_eq!(again.state(&past).stages[0].unresolved_attempt, Some(1));
}

#[test]
fn a_release_is_recorded_before_the_wait_and_confirmed_after_it() {
    let ran = deploying(vec![reach(Act::DeployAndWait("sha256:a", wait_for("job-7", Some(HOUR)))), Act::Succeed]).run();
    let told = ran.events(|kind| match kind {
        EventKind::ReleaseRecorded { release, .. } => Some(release.artifact.clone()),
        EventKind::ReleaseConfirmed { .. } => Some("confirmed".to_owned()),
        EventKind::GateOpened { .. } => Some("waits".to_owned()),
        _ => None,
    });
    assert_eq!(told, ["sha256:a", "waits", "confirmed"]);
}

#[test]
fn a_cell_that_waits_counts_for_max_parallel() {
    let stages = vec![cell("region", 1, Some(1)), cell("region", 2, Some(1))];
    let ran = World::new(plan(stages), Script::of([("region (n=1)", vec![polled(), Act::Succeed])])).run();
    assert_eq!(ran.starts(), ["region (n=1)#1", "region (n=1)#1", "region (n=2)#1"]);
}

#[test]
fn a_wait_that_expires_ends_its_stage_as_timed_out() {
    let wait = |poll_after, hours| Act::Wait(Wait { expires: Some(hours * HOUR), ..wait_for("job-7", poll_after) });
    // A run whose waits end with a signal alone is idle: a process that stays attached sees that they expire.
    let attached = world(vec![wait(None, 2)]).command(3 * HOUR, RunCommand::Suspend).run();
    assert_eq!(attached.outcomes(), ["job timed-out", "other succeeded"]);
    assert_eq!(attached.took, WORK + 2 * HOUR);
    // While no process runs, both times can pass.
    for (poll_after, end) in [(3, "timed-out"), (1, "succeeded")] {
        let left = world(vec![wait(Some(poll_after * HOUR), 2), Act::Succeed]).run();
        let again = restarted(&left, until(&left, opened), vec![Act::Succeed], 9 * HOUR).run();
        assert_eq!(again.outcomes()[0], format!("job {end}"));
    }
    // A poll that comes first ends the wait, and the next one has a limit of its own.
    let polled = world(vec![wait(Some(HOUR), 2), wait(Some(3 * HOUR), 2), Act::Succeed]).run();
    assert_eq!(polled.outcomes(), ["job timed-out", "other succeeded"]);
    assert_eq!(polled.took, 2 * WORK + 3 * HOUR);
}
