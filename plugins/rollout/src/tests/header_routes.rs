//! Requests that a canary gets because of their headers.

use serde_json::json;

use super::*;

fn by_header() -> Json {
    let route = |name: &str, value: &str| {
        json!({ "set-header-route": {
            "name": name, "match": [{ "header-name": "X-Canary", "header-value": { "exact": value } }],
        } })
    };
    json!({ "canary": { "steps": [
        route("testers", "always"), { "pause": {} }, { "set-weight": 10 }, route("partners", "yes"), { "pause": {} },
        { "set-header-route": { "name": "testers" } }, { "set-weight": 50 },
    ] } })
}

#[test]
fn routes_stay_across_pauses_and_weights_until_they_are_removed() {
    world(World::default());
    let first = host(&by_header()).run::<Deploy>();
    assert_eq!(summary(&first), (RolloutPhase::Paused, 1, 0));
    let (next, token) = after(&by_header(), &first);
    let second = next.signalled(&token, json!({ "rollout": "promote" })).run::<Deploy>();
    assert_eq!(summary(&second), (RolloutPhase::Paused, 4, 10));
    let (next, token) = after(&by_header(), &second);
    let third = next.signalled(&token, json!({ "rollout": "promote" })).run::<Deploy>();
    assert_eq!(third.result, Ok(Outcome::Succeeded));
    let expected = [
        "apply",
        "shift 0, 1 by header",
        "shift 10, 1 by header",
        "shift 10, 2 by header",
        "shift 10, 1 by header",
        "shift 50, 1 by header",
        "shift 100",
        "finish",
    ];
    assert_eq!(calls(), expected);
}

#[test]
fn a_full_promotion_leaves_no_route_behind() {
    world(World::default());
    let first = host(&by_header()).run::<Deploy>();
    let (next, token) = after(&by_header(), &first);
    let full = next.signalled(&token, json!({ "rollout": "promote-full" })).run::<Deploy>();
    assert_eq!(full.result, Ok(Outcome::Succeeded));
    assert_eq!(calls(), ["apply", "shift 0, 1 by header", "shift 100", "finish"]);
}

#[test]
fn a_target_that_cannot_read_headers_refuses_such_a_step() {
    let strategy: Strategy = serde_json::from_value(by_header()).expect("a strategy");
    let keys = |strategy: &Strategy| -> Vec<String> {
        strategy.problems("strategy").into_iter().filter_map(|problem| problem.key).collect()
    };
    let steps = [0, 3, 5].map(|index| format!("strategy.canary.steps[{index}].set-header-route"));
    assert_eq!(keys(&strategy), steps);
    assert!(keys(&strategy.routing_headers()).is_empty());
    let removed = json!({ "canary": { "steps": [{ "set-header-route": { "name": "testers" } }] } });
    let removed: Strategy = serde_json::from_value(removed).expect("a strategy");
    assert_eq!(keys(&removed.routing_headers()), ["strategy.canary.steps[0].set-header-route"]);
}
