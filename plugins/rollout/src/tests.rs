//! Rollouts on a target that exists in memory.

mod drift;
mod header_routes;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use stagewright_sdk::environment::{Release, Rollout, RolloutPhase};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{
    Error, JsonSchema, LiveDifference, Manifest, Observation, Outcome, Problem, Requirement, Result, schemars,
};

use crate::{Described, HeaderMatch, Probe, Progress, ReleaseConfig, Serving, Strategy, Target};

const OLD: &str = "app@sha256:old";
const NEW: &str = "app@sha256:new";

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// What is on the target.
#[derive(Clone, Debug, Default)]
struct World {
    serving: Option<String>,
    unfinished: Option<String>,
    /// The calls that change something.
    calls: Vec<String>,
    /// The calls that fail.
    broken: Vec<&'static str>,
    has_exited: bool,
    /// The token of the release that the target was opened to restore.
    restored: Option<u64>,
    /// Another run has deployed what serves.
    is_foreign: bool,
    /// The token of what serves.
    fence: Option<u64>,
    drift: Vec<LiveDifference>,
}

fn change<T>(call: &str, change: impl FnOnce(&mut World) -> T) -> Result<T> {
    WORLD.with_borrow_mut(|world| {
        world.calls.push(call.to_owned());
        match world.broken.iter().any(|broken| call.starts_with(broken)) {
            true => Err(Error::failed(format!("`{call}` is broken"))),
            false => Ok(change(world)),
        }
    })
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    image: String,
    strategy: Strategy,
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        self.strategy.clone().routing_headers().problems("strategy")
    }

    fn service(&self) -> &'static str {
        "app"
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        vec![("health", Probe::default())]
    }

    fn strategy(&self) -> Strategy {
        self.strategy.clone()
    }
}

struct Memory(Config);

impl Target for Memory {
    type Config = Config;
    type Version = String;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.strategy.requirements()
    }

    fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([("object".to_owned(), format!("kind: App\nimage: {}\n", config.image))]))
    }

    fn open(config: &Config, restored: Option<&Release>) -> Result<Memory> {
        WORLD.with_borrow_mut(|world| world.restored = restored.map(|release| release.fence));
        Ok(Memory(config.clone()))
    }

    fn artifact(&self) -> &str {
        &self.0.image
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let World { serving, is_foreign, fence, .. } = WORLD.with_borrow(World::clone);
        Ok(serving.map(|artifact| Serving {
            version: "serving".to_owned(),
            address: None,
            fence,
            run: Some(if is_foreign { "other".to_owned() } else { stagewright_sdk::context::run_id() }),
            is_running: true,
            has_failed: false,
            artifact,
        }))
    }

    fn unfinished(&self) -> Result<Option<String>> {
        Ok(WORLD.with_borrow(|world| world.unfinished.clone()))
    }

    fn apply(&self) -> Result<String> {
        let image = self.0.image.clone();
        change("apply", |world| world.unfinished = Some(image.clone()))?;
        Ok(image)
    }

    fn describe(&self, _version: &String) -> Described {
        Described { name: "app.1".to_owned(), address: None, advice: "the program has to run".to_owned() }
    }

    fn observe(&self, _version: &String) -> Result<Progress> {
        let has_exited = WORLD.with_borrow(|world| world.has_exited);
        Ok(if has_exited { Progress::Failed("exited with code 1".to_owned()) } else { Progress::Running })
    }

    fn log_tail(&self, _version: &String, _lines: u32) -> Result<String> {
        Ok(String::new())
    }

    fn shift(&self, _version: &String, weight: u32) -> Result<()> {
        change(&format!("shift {weight}"), |_| ())
    }

    fn shift_matching(&self, version: &String, weight: u32, conditions: &[HeaderMatch]) -> Result<()> {
        match conditions {
            [] => self.shift(version, weight),
            _ => change(&format!("shift {weight}, {} by header", conditions.len()), |_| ()),
        }
    }

    fn finish(&self, _version: &String) -> Result<()> {
        change("finish", |world| world.serving = world.unfinished.take())
    }

    fn drift(&self, _serving: &Serving) -> Result<Vec<LiveDifference>> {
        Ok(WORLD.with_borrow(|world| world.drift.clone()))
    }

    fn undo(&self, _version: &String) -> Result<()> {
        change("undo", |world| world.unfinished = None)
    }
}

type Deploy = crate::Deploy<Memory>;

/// Sets what is on the target.
fn world(world: World) {
    WORLD.set(World { serving: Some(OLD.to_owned()), ..world });
}

fn calls() -> Vec<String> {
    WORLD.with_borrow(|world| world.calls.clone())
}

fn host(strategy: &Json) -> FakeHost {
    FakeHost::new().config(json!({ "image": NEW, "strategy": strategy })).environment("production")
}

fn canary() -> Json {
    json!({ "canary": { "steps": [
        { "set-weight": 10 }, { "pause": { "duration": "5m" } }, { "set-weight": 50 }, { "pause": {} },
    ] } })
}

/// The host of the call after a pause, of which `report` is the one before it.
fn after<T>(strategy: &Json, report: &Report<T>) -> (FakeHost, String) {
    let wait = report.suspended.as_ref().expect("a wait");
    (host(strategy).rollout(last(report)), wait.token.clone())
}

fn last<T>(report: &Report<T>) -> Rollout {
    report.rollouts.last().expect("a record").clone()
}

fn summary<T>(report: &Report<T>) -> (RolloutPhase, u32, u32) {
    let Rollout { phase, step, weight, .. } = last(report);
    (phase, step, weight)
}

#[test]
fn a_canary_goes_on_after_each_pause() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    assert!(matches!(first.result, Ok(Outcome::Suspended(_))), "{:?}", first.result);
    assert_eq!(summary(&first), (RolloutPhase::Paused, 1, 10));
    let wait = first.suspended.as_ref().unwrap();
    assert_eq!(wait.poll_after, Some(Duration::from_secs(300)));
    assert!(first.outputs.is_empty() && first.recorded.is_none());

    let (next, token) = after(&canary(), &first);
    let later = Duration::from_secs(1_700_000_000 + 300);
    let second = next.now(later).polled(&token).run::<Deploy>();
    assert_eq!(summary(&second), (RolloutPhase::Paused, 3, 50));
    assert_eq!(second.suspended.as_ref().unwrap().poll_after, None);

    let (next, token) = after(&canary(), &second);
    let third = next.signalled(&token, json!({ "rollout": "promote", "by": "ada" })).run::<Deploy>();
    assert_eq!(third.result, Ok(Outcome::Succeeded));
    assert_eq!(summary(&third), (RolloutPhase::Completed, 6, 100));
    assert_eq!(calls(), ["apply", "shift 10", "shift 50", "shift 100", "finish"]);
    assert_eq!(third.outputs["image"], NEW);
    assert_eq!(third.outputs["previous"], OLD);
    assert_eq!(third.recorded, Some((NEW.to_owned(), None)));
}

#[test]
fn a_pause_that_was_interrupted_lasts_no_longer() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    // The engine was killed: the call comes without a reason, 200 s later.
    let (next, _) = after(&canary(), &first);
    let again = next.now(Duration::from_secs(1_700_000_000 + 200)).run::<Deploy>();
    assert_eq!(again.suspended.as_ref().unwrap().poll_after, Some(Duration::from_secs(100)));
    let (next, _) = after(&canary(), &again);
    let over = next.now(Duration::from_secs(1_700_000_000 + 400)).run::<Deploy>();
    assert_eq!(summary(&over), (RolloutPhase::Paused, 3, 50));
    assert_eq!(calls(), ["apply", "shift 10", "shift 50"]);
}

#[test]
fn pauses_have_tokens_of_their_own() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    let (next, token) = after(&canary(), &first);
    let second = next.signalled(&token, Json::Null).run::<Deploy>();
    assert_ne!(second.suspended.as_ref().unwrap().token, token);
}

#[test]
fn a_signal_for_an_earlier_pause_does_not_end_the_next_one() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    let (next, token) = after(&canary(), &first);
    let second = next.signalled(&token, json!({ "rollout": "promote" })).run::<Deploy>();
    // Killed before the host knew of the second pause, which it then reports as after the first one.
    let (again, _) = after(&canary(), &second);
    let again = again.signalled(&token, json!({ "rollout": "promote" })).run::<Deploy>();
    assert_eq!(summary(&again), (RolloutPhase::Paused, 3, 50));
}

#[test]
fn a_rehearsal_shows_what_a_deploy_would_change_and_deploys_nothing() {
    world(World::default());
    let deployed = host(&json!({ "recreate": {} })).fence(4).run::<Deploy>();
    let parts = deployed.recorded_parts.clone();
    assert!(parts["object"].contains(NEW) && parts["with"].contains("recreate"), "{parts:?}");

    world(World::default());
    let first = host(&canary()).rehearsal().run::<Deploy>();
    assert_eq!(first.would.as_deref(), Some("would deploy app to production: 2 parts new"));

    let drift =
        LiveDifference { what: "object".to_owned(), expected: Some("1".to_owned()), found: Some("2".to_owned()) };
    world(World { serving: Some(OLD.to_owned()), is_foreign: true, drift: vec![drift], ..World::default() });
    let config = json!({ "image": OLD, "strategy": { "recreate": {} } });
    let old = BTreeMap::from([("object", format!("kind: App\nimage: {OLD}\n")), ("gone", "x".to_owned())]);
    let standing = json!({ "artifact": OLD, "config": config, "parts": old, "fence": 3 });
    let report = host(&canary()).rehearsal().standing(standing).run::<Deploy>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.would.as_deref(), Some("would deploy app to production: 1 changed, 1 new, 1 removed"));
    let logged: Vec<&str> = report.logs.iter().map(|line| line.message.as_str()).collect();
    let changed =
        ["- gone", "~ object", "    kind: App", &format!("  - image: {OLD}"), &format!("  + image: {NEW}"), "+ with"];
    assert_eq!(logged[1..7], changed, "{logged:#?}");
    assert_eq!(logged[7], "changed by someone else: object: 2 instead of 1");
    assert_eq!(calls(), [""; 0]);
}

#[test]
fn a_release_that_was_good_is_restored_at_once() {
    let config = json!({ "image": NEW, "strategy": canary() });
    let good = json!({ "artifact": NEW, "config": config, "fence": 3 });
    for ledger in [(Some(good.clone()), None), (None, Some(good.clone()))] {
        world(World::default());
        let restored = host(&canary()).ledger(ledger.0, ledger.1).run::<Deploy>();
        assert_eq!(restored.result, Ok(Outcome::Succeeded));
        assert_eq!(calls(), ["apply", "shift 100", "finish"]);
    }
    let mut other = good;
    other["config"]["strategy"] = json!({ "recreate": {} });
    world(World::default());
    let changed = host(&canary()).ledger(Some(other), None).run::<Deploy>();
    assert!(matches!(changed.result, Ok(Outcome::Suspended(_))), "its configuration was never rolled out");
}

#[test]
fn an_aborted_rollout_is_undone() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    let (next, token) = after(&canary(), &first);
    let aborted = next.signalled(&token, json!({ "rollout": "abort", "by": "ada" })).run::<Deploy>();
    let error = aborted.result.as_ref().unwrap_err();
    assert!(error.message.contains("app.1 was removed, and release serving (app@sha256:old) still serves"), "{error}");
    assert_eq!(error.causes, ["the rollout was aborted by ada"]);
    assert_eq!(summary(&aborted), (RolloutPhase::Aborted, 1, 0));
    assert_eq!(calls(), ["apply", "shift 10", "undo"]);
}

#[test]
fn a_full_promotion_skips_pauses_and_shares() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    let (next, token) = after(&canary(), &first);
    let full = next.signalled(&token, json!({ "rollout": "promote-full" })).run::<Deploy>();
    assert_eq!(full.result, Ok(Outcome::Succeeded));
    assert_eq!(calls(), ["apply", "shift 10", "shift 100", "finish"]);
}

#[test]
fn a_version_that_exits_during_a_pause_gets_no_more_requests() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    WORLD.with_borrow_mut(|world| world.has_exited = true);
    let (next, token) = after(&canary(), &first);
    let report = next.signalled(&token, Json::Null).run::<Deploy>();
    let error = report.result.unwrap_err();
    assert_eq!(error.causes, ["the release exited with code 1 while it had 10% of the requests"]);
    assert_eq!(calls(), ["apply", "shift 10", "undo"]);
}

#[test]
fn a_rollout_that_cannot_be_undone_is_degraded() {
    world(World { broken: vec!["shift 50", "undo"], ..World::default() });
    let first = host(&canary()).run::<Deploy>();
    let (next, token) = after(&canary(), &first);
    let report = next.signalled(&token, Json::Null).run::<Deploy>();
    assert!(report.result.as_ref().unwrap_err().message.contains("could not be removed"));
    assert_eq!(summary(&report), (RolloutPhase::Degraded, 2, 10));
    assert!(last(&report).message.contains("`undo` is broken"), "{}", last(&report).message);
}

#[test]
fn blue_green_waits_for_a_person_before_the_switch_and_keeps_the_earlier_version_after_it() {
    world(World::default());
    let strategy = json!({ "blue-green": { "auto-promotion-enabled": false } });
    let first = host(&strategy).run::<Deploy>();
    assert_eq!(summary(&first), (RolloutPhase::Paused, 0, 0));
    let (next, token) = after(&strategy, &first);
    let second = next.signalled(&token, Json::Null).run::<Deploy>();
    assert_eq!(summary(&second), (RolloutPhase::Paused, 2, 100));
    assert_eq!(second.suspended.as_ref().unwrap().poll_after, Some(Duration::from_secs(30)));
    assert_eq!(calls(), ["apply", "shift 100"]);
    let (next, token) = after(&strategy, &second);
    let aborted = next.signalled(&token, json!({ "rollout": "abort" })).run::<Deploy>();
    assert!(aborted.result.is_err());
    assert_eq!(calls(), ["apply", "shift 100", "undo"], "back at once, for the earlier version still runs");
}

#[test]
fn a_deploy_all_at_once_keeps_no_records() {
    world(World::default());
    let report = host(&json!({ "recreate": {} })).run::<Deploy>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert!(report.rollouts.is_empty());
    assert_eq!(calls(), ["apply", "shift 100", "finish"]);
}

#[test]
fn what_takes_time_needs_an_environment() {
    world(World::default());
    let report = FakeHost::new().config(json!({ "image": NEW, "strategy": canary() })).run::<Deploy>();
    let error = report.result.unwrap_err();
    assert!(error.message.contains("`canary` needs an environment"), "{error}");
    assert!(calls().is_empty());
}

#[test]
fn an_interrupted_rollout_counts_as_not_started_until_it_has_finished() {
    world(World::default());
    let first = host(&canary()).run::<Deploy>();
    let observed = host(&canary()).rollout(last(&first)).observe::<Deploy>();
    assert_eq!(observed.result, Ok(Observation::NotStarted));
    // Killed after the target had finished, and before that was recorded.
    WORLD.with_borrow_mut(|world| world.serving = world.unfinished.take());
    let observed = host(&canary()).rollout(last(&first)).observe::<Deploy>();
    assert!(matches!(observed.result, Ok(Observation::Applied(_))), "{:?}", observed.result);
    assert_eq!(summary(&observed), (RolloutPhase::Completed, 6, 100));
    // The same image, deployed by another run.
    WORLD.with_borrow_mut(|world| world.is_foreign = true);
    assert_eq!(host(&canary()).observe::<Deploy>().result, Ok(Observation::NotStarted));
}

#[test]
fn a_rollback_takes_no_pauses() {
    world(World::default());
    let good = json!({ "artifact": OLD, "config": { "image": OLD, "strategy": canary() }, "fence": 3 });
    WORLD.with_borrow_mut(|world| world.serving = Some(NEW.to_owned()));
    let report = host(&canary()).ledger(None, Some(good)).undo::<Deploy>();
    assert_eq!(report.result, Ok(()));
    assert_eq!(calls(), ["apply", "shift 100", "finish"]);
    assert_eq!(report.recorded, Some((OLD.to_owned(), None)));
}

#[test]
fn a_target_is_told_which_release_to_restore() {
    let release =
        |fence: u64| json!({ "artifact": OLD, "config": { "image": OLD, "strategy": canary() }, "fence": fence });
    let opened_for = || WORLD.with_borrow(|world| world.restored);
    world(World::default());
    host(&canary()).run::<Deploy>();
    assert_eq!(opened_for(), None);
    host(&canary()).restored(release(3)).run::<Deploy>();
    assert_eq!(opened_for(), Some(3), "in a run that rolls back");
    host(&canary()).ledger(None, Some(release(2))).undo::<Deploy>();
    assert_eq!(opened_for(), Some(2), "as a compensation");
}

fn analysed(condition: &str, more: Json) -> Json {
    let mut metric = json!({ "name": "queue", "http": { "url": "http://app/" }, "success-condition": condition });
    if let (Json::Object(metric), Json::Object(more)) = (&mut metric, more) {
        metric.extend(more);
    }
    json!({ "canary": { "steps": [{ "set-weight": 10 }, { "analysis": { "metrics": [metric] } }] } })
}

fn measuring(strategy: &Json) -> FakeHost {
    host(strategy).http(HttpScript::get("http://app/").body("7"))
}

#[test]
fn an_analysis_decides_whether_a_canary_gets_more() {
    world(World::default());
    let good = measuring(&analysed("result < 10", json!({}))).run::<Deploy>();
    assert_eq!(good.result, Ok(Outcome::Succeeded));
    assert_eq!(calls(), ["apply", "shift 10", "shift 100", "finish"]);

    world(World::default());
    let bad = measuring(&analysed("result < 5", json!({}))).run::<Deploy>();
    let error = bad.result.as_ref().unwrap_err();
    assert_eq!(error.causes, ["the analysis failed", "queue: 7 (failed)"]);
    assert_eq!(summary(&bad), (RolloutPhase::Aborted, 1, 0));
    assert_eq!(calls(), ["apply", "shift 10", "undo"]);
}

#[test]
fn an_inconclusive_analysis_waits_for_a_person() {
    world(World::default());
    let strategy = analysed("result < 5", json!({ "failure-condition": "result > 10" }));
    let first = measuring(&strategy).run::<Deploy>();
    assert_eq!(summary(&first), (RolloutPhase::Paused, 1, 10));
    assert!(first.logged("the analysis is inconclusive: queue: 7 (inconclusive, neither condition is met)"));
    let (next, token) = after(&strategy, &first);
    let promoted = next.signalled(&token, json!({ "rollout": "promote" })).run::<Deploy>();
    assert_eq!(promoted.result, Ok(Outcome::Succeeded));
    assert!(promoted.sent.is_empty(), "it isn't measured again");
}
