//! Environments with regions, and the waves of their stages.

use std::collections::BTreeSet;

use serde_json::json;
use stagewright_model::{LockedPipeline, Permissions, Plan, PluginPin, PluginRef, Stage, StageIndex, lock_of};

use crate::{file, plan};

const REGIONS: &str = "[environments.production]\napprovers = ['ada']\nurl = 'https://example.org'\n\
    regions.us = { values = { size = 3 }, url = 'https://us.example.org' }\n\
    regions.eu.values.size = 2\nregions.ap.values.size = 1\n";

const STAGES: &str = "[stages.build]\nuses = 'noop'\n\
    [stages.deploy]\nuses = 'exec'\nneeds = ['build']\nenvironment = 'production'\nwith.size = '${{ region.size }}'\n\
    [stages.smoke]\nuses = 'noop'\nneeds = ['deploy']\nenvironment = 'production'\ncompensate = ['deploy']\n\
    [stages.done]\nuses = 'noop'\nneeds = ['smoke']\n";

#[track_caller]
fn planned(waves: &str, stages: &str) -> Plan {
    plan(&file(&format!("{REGIONS}{waves}\n{stages}")))
}

fn stage<'p>(plan: &'p Plan, id: &str) -> &'p Stage {
    plan.stages.iter().find(|stage| stage.id == id).unwrap_or_else(|| panic!("{id}: {:?}", ids(plan, plan.indices())))
}

fn ids(plan: &Plan, indices: impl IntoIterator<Item = StageIndex>) -> Vec<&str> {
    indices.into_iter().map(|index| plan.stage(index).id.as_str()).collect()
}

fn needs<'p>(plan: &'p Plan, id: &str) -> Vec<&'p str> {
    ids(plan, stage(plan, id).needs.iter().copied())
}

fn undone<'p>(plan: &'p Plan, id: &str) -> Vec<&'p str> {
    ids(plan, stage(plan, id).compensate.iter().copied())
}

#[test]
fn stages_that_belong_together_run_region_by_region() {
    let plan = planned("", STAGES);
    let order: Vec<&str> = ids(&plan, plan.indices());
    let regions =
        ["us", "eu", "ap"].map(|region| ["deploy", "smoke"].map(|stage| format!("{stage} (region={region})")));
    assert_eq!(order[1..7], regions.concat());
    assert_eq!(needs(&plan, "deploy (region=us)"), ["build"]);
    assert_eq!(needs(&plan, "smoke (region=eu)"), ["deploy (region=eu)"]);
    assert_eq!(needs(&plan, "deploy (region=eu)"), ["build", "smoke (region=us)"]);
    assert_eq!(needs(&plan, "done"), ["smoke (region=us)", "smoke (region=eu)", "smoke (region=ap)"]);
    for (at, stage) in plan.stages.iter().enumerate() {
        assert!(stage.needs.iter().all(|need| need.get() < at), "{} comes before what it needs", stage.id);
    }
    let named: Vec<StageIndex> = plan.named("deploy").collect();
    assert_eq!(
        named.iter().map(|index| plan.region(*index).unwrap().name.as_str()).collect::<Vec<_>>(),
        ["us", "eu", "ap"]
    );
}

#[test]
fn a_region_is_an_environment_under_the_lock_of_the_whole() {
    let plan = planned("", STAGES);
    let environment = |id: &str| stage(&plan, id).environment.as_ref().unwrap().name.as_str();
    assert_eq!(environment("deploy (region=us)"), "production.us");
    assert_eq!((lock_of("production.us"), lock_of("production")), ("production", "production"));
    let (us, eu) = (&plan.environments["production.us"], &plan.environments["production.eu"]);
    assert_eq!(
        [us, eu].map(|region| region.url.as_deref().unwrap()),
        ["https://us.example.org", "https://example.org"]
    );
    assert_eq!(
        (us.approvers.as_slice(), &us.region.as_ref().unwrap().values["size"]),
        (&["ada".to_owned()][..], &json!(3))
    );
    assert_eq!(plan.environments["production"].regions, ["production.us", "production.eu", "production.ap"]);
}

#[test]
fn waves_have_sizes_and_pauses() {
    let plan = planned("waves = { serial = [1, '100%'], pause = {} }", STAGES);
    assert_eq!(needs(&plan, "production (wave 2)"), ["smoke (region=us)"]);
    assert_eq!(needs(&plan, "deploy (region=ap)"), ["build", "production (wave 2)"]);
    let pause = stage(&plan, "production (wave 2)");
    assert_eq!(
        (&pause.uses, pause.approves().collect::<Vec<_>>()),
        (&PluginRef::Builtin("approve".to_owned()), vec!["production"])
    );
    assert_eq!(pause.with.source()["message"], "Continue with production in eu, ap?");
    assert!(pause.line > 1, "it is shown where the file demands it");

    let timed = planned("waves.pause.duration = '1h'", STAGES);
    let pause = stage(&timed, "production (wave 3)");
    assert_eq!((&pause.uses, &pause.with.source()["duration"]), (&PluginRef::Builtin("wait".to_owned()), &json!("1h")));
    let half = planned("waves.serial = ['50%']", STAGES);
    assert_eq!(stage(&half, "deploy (region=ap)").wave.as_ref().unwrap().number, 3, "a wave has one region at least");
}

#[test]
fn a_failure_undoes_what_was_deployed_so_far_unless_it_only_stops() {
    let plan = planned("target = 'process'\nwaves.serial = [1, 2]", &STAGES.replace("'exec'", "'deploy'"));
    assert_eq!(undone(&plan, "deploy (region=us)"), [""; 0]);
    assert_eq!(undone(&plan, "deploy (region=eu)"), ["deploy (region=us)", "deploy (region=ap)"]);
    assert_eq!(undone(&plan, "smoke (region=eu)"), ["deploy (region=eu)", "deploy (region=us)", "deploy (region=ap)"]);
    let stopping = planned("waves.on-failure = 'stop'", STAGES);
    assert_eq!(undone(&stopping, "smoke (region=eu)"), ["deploy (region=eu)"]);
    assert_eq!(undone(&stopping, "deploy (region=eu)"), [""; 0]);
}

#[test]
fn a_stage_outside_waits_for_all_regions_and_those_after_it_are_a_group_of_their_own() {
    let stages = format!(
        "{STAGES}[stages.migrate]\nuses = 'exec'\nneeds = ['done']\nenvironment = 'production'\nmatrix.table = ['a', 'b']\n"
    );
    let plan = planned("", &stages);
    assert_eq!(needs(&plan, "migrate (table=a, region=us)"), ["done"]);
    let before = ["migrate (table=a, region=us)", "migrate (table=b, region=us)"];
    assert_eq!(needs(&plan, "migrate (table=b, region=eu)"), [&["done"][..], &before].concat());
}

#[test]
fn regions_of_a_plan_without_waves_run_at_once() {
    let plan = planned("waves.pause = {}", STAGES).without_waves();
    assert_eq!(needs(&plan, "deploy (region=ap)"), ["build"]);
    assert_eq!(undone(&plan, "smoke (region=ap)"), ["deploy (region=ap)"]);
    let edges = plan.graph.edge_count();
    assert_eq!(edges, plan.stages.iter().map(|stage| stage.needs.len()).sum::<usize>());
}

#[test]
fn pauses_belong_to_the_stages_around_them() {
    let plan = planned("waves.pause = {}", STAGES);
    let chosen = |ids: &[&str]| -> BTreeSet<StageIndex> {
        plan.indices().filter(|index| ids.contains(&plan.stage(*index).id.as_str())).collect()
    };
    let both = chosen(&["smoke (region=us)", "deploy (region=eu)"]);
    assert_eq!(ids(&plan, plan.pauses_between(&both)), ["production (wave 2)"]);
    assert_eq!(ids(&plan, plan.pauses_between(&chosen(&["deploy (region=eu)"]))), [""; 0]);
}

#[test]
fn a_credential_of_a_region_is_granted_to_no_other() {
    let credential = |name: &str| {
        format!(
            "[secrets.{name}]\nfrom = 'env:{name}'\nhosts = ['{name}.example.org']\n[credentials.{name}]\ntype = 'bearer'\n\
                 token = '{name}'\norigins = ['https://{name}.example.org']\n"
        )
    };
    let stages = "[stages.deploy]\nuses = 'exec'\nenvironment = 'production'\npermissions.credentials = ['us', 'ap', 'all']\n\
                  rehearse.permissions.credentials = ['us', 'ap', 'all']\n";
    let own = "regions.us.url = 'https://us.example.org'\nregions.us.credentials = ['us']\nregions.ap.credentials = ['ap']\nregions.eu = {}\n";
    let environment = format!("[environments.production]\n{own}");
    let plan = plan(&file(&format!("{environment}{}{stages}", ["us", "ap", "all"].map(credential).concat())));
    let granted = |region: &str| {
        let index = plan.indices().find(|index| plan.region(*index).unwrap().name == region).unwrap();
        let stage = plan.stage(index);
        let names = |granted: &Permissions| -> Vec<String> {
            granted.credentials.iter().map(|rule| rule.name().to_owned()).collect()
        };
        assert_eq!(names(stage.rehearsal_grants().expect("grants")), names(&stage.permissions));
        names(&stage.permissions)
    };
    assert_eq!(granted("us"), ["us", "all"]);
    assert_eq!(granted("eu"), ["all"]);
    assert_eq!(granted("ap"), ["ap", "all"]);
    let locked = LockedPipeline::of(&plan, &[PluginPin::default(), PluginPin::default(), PluginPin::default()], &[]);
    let of_all = &locked.stages["deploy"];
    for granted in [&of_all.permissions, &of_all.rehearse] {
        let names = granted.credentials.iter().map(|rule| rule.name()).collect::<Vec<_>>();
        assert_eq!(names, ["all", "ap", "us"], "the lock has what the file grants");
    }
}
