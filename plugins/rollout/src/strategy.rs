//! How the requests go from the earlier version to the new one. The names are those of Argo Rollouts.

mod rolling;

use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, schemars};

use crate::analysis::Analysis;
use crate::header_route::{HeaderMatch, HeaderRoute};
pub use rolling::{Amount, Rolling};

/// How the requests go from the earlier version to the new one.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The earlier version is stopped before the new one starts. Between them the service doesn't answer.
    Recreate(Recreate),
    /// The orchestrator replaces the earlier version's replicas by new ones, a few at a time.
    Rolling(Rolling),
    /// The new version starts beside the earlier one, and gets all requests at once when it is ready.
    BlueGreen(BlueGreen),
    /// The new version gets a growing share of the requests.
    Canary(Canary),
    /// The hosts of the target get the new version one wave after the other.
    Waves(Waves),
}

/// Stops the earlier version first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recreate {}

/// Switches all requests at once.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BlueGreen {
    /// Whether the requests are switched as soon as the version is ready. Otherwise the rollout waits for `stagewright
    /// rollout promote`.
    pub auto_promotion_enabled: bool,
    /// Decides whether the version gets requests. It is carried out before the switch, and before a person is waited for.
    pub pre_promotion_analysis: Option<Analysis>,
    /// Decides whether the version keeps the requests. It is carried out after the switch.
    pub post_promotion_analysis: Option<Analysis>,
    /// How long the earlier version keeps running after the switch, so that the rollout can still be aborted.
    pub scale_down_delay: DurationText,
}

impl Default for BlueGreen {
    fn default() -> BlueGreen {
        BlueGreen {
            auto_promotion_enabled: true,
            pre_promotion_analysis: None,
            post_promotion_analysis: None,
            scale_down_delay: DurationText(Duration::from_secs(30)),
        }
    }
}

/// Shifts the requests step by step.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "steps": [{ "set-weight": 10 }, { "pause": { "duration": "5m" } }] }))]
pub struct Canary {
    /// What happens in turn. After the last step the version gets all requests.
    pub steps: Vec<CanaryStep>,
    /// Whether requests can be directed by their headers.
    #[serde(skip)]
    pub(crate) routes_headers: bool,
}

/// A step of a canary.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CanaryStep {
    /// Gives the new version this percentage of the requests, 0 to 100.
    SetWeight(u32),
    /// Sends all requests with certain headers to the new version, or no longer.
    SetHeaderRoute(HeaderRoute),
    /// Waits.
    Pause(Pause),
    /// Measures the version. The rollout goes on if the verdict is good, waits for a person if it is inconclusive, and is
    /// aborted otherwise.
    Analysis(Analysis),
}

/// A pause of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pause {
    /// How long to wait. Without it, the rollout waits for `stagewright rollout promote`.
    #[serde(default)]
    pub duration: Option<DurationText>,
}

/// Gives the hosts the version in waves. `serial` means what it means in a playbook of Ansible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(example = serde_json::json!({ "serial": [1, "50%"], "pause": { "duration": "5m" }, "on-failure": "stop" }))]
pub struct Waves {
    /// How many hosts the waves have, as numbers or in percent of all hosts; the last entry counts for all further waves.
    /// Default: one host at a time.
    pub serial: Vec<Amount>,
    /// What happens after each wave but the last. Default: the next one follows when the hosts of this one are healthy.
    pub pause: Option<Pause>,
    /// What a failed wave means for the hosts of the waves before it.
    pub on_failure: OnFailure,
    /// How many hosts the target has; none for a target that has no hosts of its own.
    #[serde(skip)]
    pub(crate) hosts: u32,
}

/// What a failed wave means for the hosts of the waves before it. Its own hosts always get the earlier version back, and those
/// of later waves aren't touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// They get the earlier version back as well.
    #[default]
    Undo,
    /// They keep the new version, until `stagewright rollout retry` or `stagewright rollout abort`.
    Stop,
}

impl Waves {
    fn problems(&self, key: &str) -> Vec<Problem> {
        if self.hosts == 0 {
            let problem =
                Problem::at(key, "`waves` is for targets with several hosts, and this one has none of its own");
            return vec![problem.help("use another strategy, or leave out `strategy`")];
        }
        let invalid = self.serial.iter().enumerate().filter(|(_, amount)| !amount.is_valid() || amount.is_zero());
        let message = "must be a number above 0, or a percentage as in \"25%\"";
        let mut found: Vec<Problem> =
            invalid.map(|(index, _)| Problem::at(format!("{key}.serial[{index}]"), message)).collect();
        found.extend(self.pause.iter().filter_map(|pause| pause.problem(&format!("{key}.pause"))));
        found
    }

    /// How many percent of the hosts have the version after each wave. Rounded up, so that the number of hosts follows from
    /// it again.
    fn weights(&self) -> Vec<u32> {
        let (mut done, mut weights) = (0, Vec::new());
        while done < self.hosts {
            let size = self
                .serial
                .get(weights.len())
                .or(self.serial.last())
                .map_or(1, |amount| amount.of(self.hosts, false).max(1));
            done = done.saturating_add(size).min(self.hosts);
            weights.push(done.saturating_mul(100).div_ceil(self.hosts));
        }
        weights
    }
}

impl Pause {
    fn problem(self, key: &str) -> Option<Problem> {
        let key = format!("{key}.duration");
        match self.duration?.0 {
            duration if duration < SHORTEST_PAUSE => Some(Problem::at(key, "a pause takes at least 1 s")),
            duration if duration > LONGEST_PAUSE => Some(
                Problem::at(key, "a pause takes at most 30 days")
                    .help("leave the duration out to wait for `stagewright rollout promote`"),
            ),
            _ => None,
        }
    }
}

/// The most steps of a canary.
const MOST_STEPS: usize = 100;

impl Strategy {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Strategy::Recreate(_) => "recreate",
            Strategy::Rolling(_) => "rolling",
            Strategy::BlueGreen(_) => "blue-green",
            Strategy::Canary(_) => "canary",
            Strategy::Waves(_) => "waves",
        }
    }

    /// All at once, and without keeping the earlier version: what a deploy does by default.
    pub fn switch() -> Strategy {
        Strategy::BlueGreen(BlueGreen { scale_down_delay: DurationText(Duration::ZERO), ..BlueGreen::default() })
    }

    /// The earlier version is stopped first.
    pub fn recreate() -> Strategy {
        Strategy::Recreate(Recreate {})
    }

    /// The strategy for a target with this number of hosts, of at most 100. Only with them, `waves` can be carried out.
    #[must_use]
    pub fn over(self, hosts: u32) -> Strategy {
        match self {
            Strategy::Waves(waves) => Strategy::Waves(Waves { hosts, ..waves }),
            other => other,
        }
    }

    /// The strategy for a target that implements [`crate::Target::shift_matching`]. Only with it, `set-header-route` can be
    /// carried out.
    #[must_use]
    pub fn routing_headers(self) -> Strategy {
        match self {
            Strategy::Canary(canary) => Strategy::Canary(Canary { routes_headers: true, ..canary }),
            other => other,
        }
    }

    /// Whether one of its steps directs requests by their headers.
    pub fn has_header_routes(&self) -> bool {
        self.steps().iter().any(|step| matches!(step, Step::SetHeaderRoute(_)))
    }

    /// The conditions of all of its steps that direct requests by their headers.
    pub fn header_conditions(&self) -> Vec<HeaderMatch> {
        let conditions = |step: Step| match step {
            Step::SetHeaderRoute(route) => route.conditions,
            _ => Vec::new(),
        };
        self.steps().into_iter().flat_map(conditions).collect()
    }

    /// Whether a failure leaves the version where it has arrived.
    pub(crate) fn stops_on_failure(&self) -> bool {
        matches!(self, Strategy::Waves(Waves { on_failure: OnFailure::Stop, .. }))
    }

    /// What a weight is a percentage of.
    pub(crate) fn share(&self) -> &'static str {
        match self {
            Strategy::Waves(_) => "hosts",
            _ => "requests",
        }
    }

    /// Whether two versions run side by side for a time, so that something has to direct the requests to one of them.
    pub fn takes_time(&self) -> bool {
        is_gradual(&self.steps())
    }

    /// Mistakes that parsing doesn't catch, in the strategy at this key of `with`.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let canary = match self {
            Strategy::Recreate(_) => return Vec::new(),
            Strategy::Rolling(rolling) => return rolling.problems(&format!("{key}.rolling")),
            Strategy::Waves(waves) => return waves.problems(&format!("{key}.waves")),
            Strategy::BlueGreen(BlueGreen { pre_promotion_analysis: pre, post_promotion_analysis: post, .. }) => {
                let named = [("pre-promotion-analysis", pre), ("post-promotion-analysis", post)];
                let analyses = named.into_iter().filter_map(|(name, analysis)| Some((name, analysis.as_ref()?)));
                return analyses
                    .flat_map(|(name, analysis)| analysis.problems(&format!("{key}.blue-green.{name}"), true))
                    .collect();
            }
            Strategy::Canary(canary) => canary,
        };
        let Canary { steps, routes_headers } = canary;
        let at = |index: usize| format!("{key}.canary.steps[{index}]");
        let mut found = Vec::new();
        if steps.is_empty() || steps.len() > MOST_STEPS {
            let message = format!("a canary has 1 to {MOST_STEPS} steps, not {}", steps.len());
            found.push(Problem::at(format!("{key}.canary.steps"), message));
        }
        for (index, step) in steps.iter().enumerate() {
            match step {
                CanaryStep::SetWeight(weight) if *weight > 100 => {
                    let message = format!("a weight is 0 to 100 percent, not {weight}");
                    found.push(Problem::at(format!("{}.set-weight", at(index)), message));
                }
                CanaryStep::Pause(pause) => found.extend(pause.problem(&format!("{}.pause", at(index)))),
                CanaryStep::Analysis(analysis) => {
                    found.extend(analysis.problems(&format!("{}.analysis", at(index)), true));
                }
                CanaryStep::SetHeaderRoute(_) if !routes_headers => {
                    let message = "nothing here directs requests by their headers";
                    let problem = Problem::at(format!("{}.set-header-route", at(index)), message);
                    found.push(problem.help("use `set-weight`, or what directs requests by their headers"));
                }
                CanaryStep::SetHeaderRoute(route) => {
                    let key = format!("{}.set-header-route", at(index));
                    found.extend(route.problems(&key));
                    let is_set = |step: &CanaryStep| {
                        let CanaryStep::SetHeaderRoute(earlier) = step else { return false };
                        earlier.name == route.name && !earlier.conditions.is_empty()
                    };
                    if route.conditions.is_empty() && !steps[..index].iter().any(is_set) {
                        let message =
                            format!("no step before this one sets the route `{}`, which it removes", route.name);
                        found.push(Problem::at(key, message).help("add `match` to set it"));
                    }
                }
                CanaryStep::SetWeight(_) => {}
            }
        }
        found
    }

    /// The grants that its analyses take.
    pub fn requirements(&self) -> Vec<Requirement> {
        let requirements = |step: &Step| match step {
            Step::Analysis(analysis) => analysis.requirements(),
            _ => Vec::new(),
        };
        self.steps().iter().flat_map(requirements).collect()
    }

    /// Its steps, once the version is ready.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        match self {
            Strategy::Recreate(_) | Strategy::Rolling(_) => steps.push(Step::SetWeight(100)),
            Strategy::BlueGreen(BlueGreen {
                auto_promotion_enabled,
                pre_promotion_analysis,
                post_promotion_analysis,
                scale_down_delay,
            }) => {
                steps.extend(pre_promotion_analysis.clone().map(Step::Analysis));
                if !auto_promotion_enabled {
                    steps.push(Step::Pause(None));
                }
                steps.push(Step::SetWeight(100));
                steps.extend(post_promotion_analysis.clone().map(Step::Analysis));
                if !scale_down_delay.0.is_zero() {
                    steps.push(Step::Pause(Some(scale_down_delay.0)));
                }
            }
            Strategy::Canary(Canary { steps: own, .. }) => {
                steps.extend(own.iter().map(|step| match step {
                    CanaryStep::SetWeight(weight) => Step::SetWeight(*weight),
                    CanaryStep::SetHeaderRoute(route) => Step::SetHeaderRoute(route.clone()),
                    CanaryStep::Pause(Pause { duration }) => Step::Pause(duration.map(|duration| duration.0)),
                    CanaryStep::Analysis(analysis) => Step::Analysis(analysis.clone()),
                }));
                steps.push(Step::SetWeight(100));
            }
            Strategy::Waves(waves) => {
                for weight in waves.weights() {
                    steps.push(Step::SetWeight(weight));
                    let pause = waves.pause.filter(|_| weight < 100);
                    steps.extend(pause.map(|pause| Step::Pause(pause.duration.map(|duration| duration.0))));
                }
            }
        }
        steps.push(Step::Finish);
        steps
    }
}

/// Whether two versions share the requests for a time, or a person decides. Only then is there something to show and to keep.
pub(crate) fn is_gradual(steps: &[Step]) -> bool {
    steps.len() > 2
}

/// The range of a durable wait.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a rollout does in turn once its version is ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Gives the version this percentage of the requests.
    SetWeight(u32),
    /// Gives the version all requests with certain headers, beside its weight.
    SetHeaderRoute(HeaderRoute),
    /// Waits for this time; none to wait for a person.
    Pause(Option<Duration>),
    /// Measures the version.
    Analysis(Analysis),
    /// Makes the version the serving one.
    Finish,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strategy(table: serde_json::Value) -> Strategy {
        serde_json::from_value(table).expect("a strategy")
    }

    #[test]
    fn steps_follow_from_the_strategy() {
        let weight = Step::SetWeight;
        assert_eq!(strategy(json!({ "recreate": {} })).steps(), [weight(100), Step::Finish]);
        assert_eq!(Strategy::switch().steps(), [weight(100), Step::Finish]);
        let delay = Step::Pause(Some(Duration::from_secs(30)));
        assert_eq!(strategy(json!({ "blue-green": {} })).steps(), [weight(100), delay, Step::Finish]);
        let asks = json!({ "blue-green": { "auto-promotion-enabled": false, "scale-down-delay": "0s" } });
        assert_eq!(strategy(asks).steps(), [Step::Pause(None), weight(100), Step::Finish]);
        let canary =
            json!({ "canary": { "steps": [{ "set-weight": 5 }, { "pause": {} }, { "pause": { "duration": "2m" } }] } });
        let pauses = [Step::Pause(None), Step::Pause(Some(Duration::from_secs(120)))];
        let [person, time] = pauses;
        assert_eq!(strategy(canary).steps(), [weight(5), person, time, weight(100), Step::Finish]);
    }

    #[test]
    fn mistakes_name_their_key() {
        let keys = |steps: serde_json::Value| -> Vec<String> {
            let found = strategy(json!({ "canary": { "steps": steps } })).problems("strategy");
            found.into_iter().map(|problem| problem.key.unwrap_or_default()).collect()
        };
        assert_eq!(keys(json!([])), ["strategy.canary.steps"]);
        assert_eq!(keys(json!([{ "set-weight": 101 }])), ["strategy.canary.steps[0].set-weight"]);
        let pauses =
            json!([{ "pause": { "duration": "1ms" } }, { "set-weight": 1 }, { "pause": { "duration": "31d" } }]);
        assert_eq!(
            keys(pauses),
            ["strategy.canary.steps[0].pause.duration", "strategy.canary.steps[2].pause.duration"]
        );
        assert!(keys(json!([{ "set-weight": 0 }, { "pause": {} }])).is_empty());
    }

    #[test]
    fn amounts_are_rounded_to_whole_replicas() {
        let quarter = Amount::Percent("25%".to_owned());
        assert_eq!((quarter.of(4, true), quarter.of(5, true), quarter.of(5, false)), (1, 2, 1));
        assert_eq!(Amount::Count(3).of(5, false), 3);
    }

    #[test]
    fn waves_grow_as_in_ansible_and_the_last_size_repeats() {
        let steps = |hosts: u32, table: serde_json::Value| strategy(json!({ "waves": table })).over(hosts).steps();
        let weights = |hosts: u32, serial: serde_json::Value| -> Vec<u32> {
            let weight = |step: &Step| if let Step::SetWeight(weight) = step { Some(*weight) } else { None };
            steps(hosts, json!({ "serial": serial })).iter().filter_map(weight).collect()
        };
        assert_eq!(weights(3, json!([])), [34, 67, 100]);
        assert_eq!(weights(10, json!([1, "30%"])), [10, 40, 70, 100]);
        assert_eq!(weights(10, json!([1, 5])), [10, 60, 100]);
        assert_eq!(weights(2, json!([9])), [100]);
        assert_eq!(weights(5, json!(["1%"])), [20, 40, 60, 80, 100]);
        let pause = Step::Pause(None);
        let expected = [Step::SetWeight(50), pause, Step::SetWeight(100), Step::Finish];
        assert_eq!(steps(2, json!({ "pause": {} })), expected);
        // The number of hosts follows from the weight.
        for hosts in 1..=100 {
            let counts = strategy(json!({ "waves": {} })).over(hosts).steps();
            let of = |step: &Step| if let Step::SetWeight(weight) = step { Some(weight * hosts / 100) } else { None };
            assert_eq!(counts.iter().filter_map(of).collect::<Vec<_>>(), (1..=hosts).collect::<Vec<_>>());
        }
    }

    #[test]
    fn waves_need_hosts_and_valid_sizes() {
        let keys = |hosts: u32, table: serde_json::Value| -> Vec<String> {
            let found = strategy(json!({ "waves": table })).over(hosts).problems("strategy");
            found.into_iter().map(|problem| problem.key.unwrap_or_default()).collect()
        };
        assert_eq!(keys(0, json!({})), ["strategy.waves"]);
        assert!(keys(3, json!({ "serial": [1, "50%"], "pause": {} })).is_empty());
        assert_eq!(
            keys(3, json!({ "serial": [0, "a%", "0%"] })),
            [0, 1, 2].map(|at| format!("strategy.waves.serial[{at}]"))
        );
        assert_eq!(keys(3, json!({ "pause": { "duration": "1ms" } })), ["strategy.waves.pause.duration"]);
    }

    #[test]
    fn a_rolling_update_that_cannot_progress_is_refused() {
        let keys = |table: serde_json::Value| -> Vec<String> {
            let found = strategy(json!({ "rolling": table })).problems("strategy");
            found.into_iter().map(|problem| problem.key.unwrap_or_default()).collect()
        };
        assert_eq!(keys(json!({})), Vec::<String>::new());
        assert_eq!(keys(json!({ "max-surge": 0, "max-unavailable": "25%" })), Vec::<String>::new());
        assert_eq!(keys(json!({ "max-surge": 0, "max-unavailable": "0%" })), ["strategy.rolling.max-surge"]);
        assert_eq!(
            keys(json!({ "max-surge": "a%", "max-unavailable": "+1%" })),
            ["strategy.rolling.max-surge", "strategy.rolling.max-unavailable"]
        );
        let late = json!({ "min-ready-seconds": 60, "progress-deadline-seconds": 60 });
        assert_eq!(keys(late), ["strategy.rolling.progress-deadline-seconds"]);
    }
}
