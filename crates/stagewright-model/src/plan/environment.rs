//! Environments, their regions, and the waves in which stages are carried out in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::{Plan, Stage, StageIndex};
use crate::expression::Template;
use crate::freeze::{self, Freeze, Frozen};

/// What separates an environment's name from its region's, in the names of environments. Neither of the two contains it.
const SEPARATOR: char = '.';

/// `environment`, as in `"staging"` or `{ name = "staging", url = "${{ … }}" }`.
#[derive(Clone, Debug)]
pub struct EnvironmentRef {
    /// A key of `[environments]`.
    pub name: String,
    /// The URL of this deploy; overrides the environment's `url`.
    pub url: Option<Template>,
}

/// `[environments.NAME]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// `target`: the kind of target, such as `process`, or a plugin of the user's own.
    pub target: Option<String>,
    /// `url`: where users reach the environment.
    pub url: Option<String>,
    /// `approvers`: who may approve a deploy, as user names and `team:NAME`. Empty if deploys need no approval.
    pub approvers: Vec<String>,
    /// `config`: configuration files; later ones override earlier ones.
    pub config: Vec<String>,
    /// `protected`: whether deploys must name an image by digest.
    pub protected: bool,
    /// `freeze`: times without deploys.
    pub freeze: Vec<Freeze>,
    /// `regions`: the keys of its regions in the plan's `environments`, as in `production.eu`. Stages never act on an
    /// environment with regions itself.
    pub regions: Vec<String>,
    /// What distinguishes a region; none for other environments.
    pub region: Option<Region>,
}

/// What expressions read of environments, as `environments`.
pub fn environment_values(environments: &BTreeMap<String, Environment>) -> Json {
    let declared = environments.iter().filter(|(_, environment)| environment.region.is_none());
    let values = declared.map(|(name, Environment { target, url, config, protected, .. })| {
        (name.clone(), json!({ "target": target, "url": url, "config": config, "protected": protected }))
    });
    Json::Object(values.collect())
}

impl Environment {
    /// The freeze in force at `at` (milliseconds since the Unix epoch): the one that ends last if there are several.
    pub fn frozen(&self, at: u64) -> Option<Frozen> {
        freeze::in_force(&self.freeze, at)
    }
}

/// `[environments.NAME.regions.REGION]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its key in `regions`.
    pub name: String,
    /// `values`: what expressions of its stages read from `region`.
    pub values: BTreeMap<String, Json>,
    /// `credentials`: the credentials that only its stages may use.
    pub credentials: BTreeSet<String>,
}

/// The place of a stage in the waves over the regions of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// The environment that has the regions.
    pub environment: String,
    /// From 1; a pause has the number of the wave before which it is.
    pub number: u32,
    /// Whether the stage is the pause before the wave. It isn't from the file.
    pub is_pause: bool,
    /// The needs that only separate the waves. If a stage of the waves before didn't succeed, this one doesn't run, whatever
    /// its condition. One that was skipped because of its own condition doesn't count.
    pub after: Vec<StageIndex>,
    /// The stages to compensate if this one fails only because of `on-failure = "undo"`.
    pub undo: Vec<StageIndex>,
}

/// The name of a region's environment, as in `production.eu`.
pub(crate) fn environment_of_region(environment: &str, region: &str) -> String {
    format!("{environment}{SEPARATOR}{region}")
}

/// The environment that is locked for a deploy to this one: a region's environment, or itself.
pub fn lock_of(environment: &str) -> &str {
    environment.split_once(SEPARATOR).map_or(environment, |(whole, _)| whole)
}

impl Stage {
    /// The needs without those that only separate the waves over regions.
    pub fn own_needs(&self) -> impl Iterator<Item = StageIndex> {
        let after = self.wave.as_ref().map_or(&[][..], |wave| &wave.after);
        self.needs.iter().copied().filter(move |need| !after.contains(need))
    }

    /// Whether it needs a stage only because that is in an earlier wave.
    pub fn follows_in_waves(&self, other: StageIndex) -> bool {
        self.wave.as_ref().is_some_and(|wave| wave.after.contains(&other))
    }
}

impl Plan {
    /// The region that a stage acts on; none if its environment has no regions.
    pub fn region(&self, stage: StageIndex) -> Option<&Region> {
        let environment = self.stage(stage).environment.as_ref()?;
        self.environments.get(&environment.name)?.region.as_ref()
    }

    /// The pauses between these stages and those of the waves before them that are among them.
    pub fn pauses_between(&self, stages: &BTreeSet<StageIndex>) -> Vec<StageIndex> {
        let is_between = |index: &StageIndex| {
            let before = |wave: &Wave| wave.after.iter().any(|stage| stages.contains(stage));
            let behind = || stages.iter().any(|stage| self.stage(*stage).follows_in_waves(*index));
            self.stage(*index).wave.as_ref().is_some_and(|wave| wave.is_pause && before(wave)) && behind()
        };
        self.indices().filter(is_between).collect()
    }

    /// The same plan without waves: the stages of all regions run at the same time, and neither stop nor undo each other.
    #[must_use]
    pub fn without_waves(mut self) -> Plan {
        let mut stages = std::mem::take(&mut self.stages);
        for stage in &mut stages {
            if let Some(wave) = stage.wave.take() {
                stage.needs.retain(|need| !wave.after.contains(need));
                stage.compensate.retain(|other| !wave.undo.contains(other));
            }
        }
        self.with_stages(stages)
    }
}
