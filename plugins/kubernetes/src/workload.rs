//! Whether what runs pods has arrived at what was applied, by the rules of `kubectl rollout status`.

use serde_json::Value as Json;

/// How far a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has arrived.
    Ready,
    /// What is missing.
    Waiting(String),
    /// Why it won't become ready.
    Failed(String),
}

/// How far an object is. One without pods of its own is ready once it exists.
pub(crate) fn state(object: &Json) -> State {
    let kind = object["kind"].as_str().unwrap_or_default();
    let is_observed = number(object, "/status/observedGeneration") >= number(object, "/metadata/generation");
    if matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet") && !is_observed {
        return State::Waiting("its controller hasn't seen the change yet".to_owned());
    }
    match kind {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "Job" => job(object),
        "Pod" => pod(object),
        _ => State::Ready,
    }
}

fn deployment(object: &Json) -> State {
    if condition(object, "Progressing").is_some_and(|progress| progress["reason"] == "ProgressDeadlineExceeded") {
        let deadline = number(object, "/spec/progressDeadlineSeconds");
        return State::Failed(format!("made no progress within its progressDeadlineSeconds of {deadline}"));
    }
    let wanted = replicas(object);
    let [updated, running, available] =
        ["/status/updatedReplicas", "/status/replicas", "/status/availableReplicas"].map(|at| number(object, at));
    let refused = condition(object, "ReplicaFailure")
        .filter(|failure| failure["status"] == "True")
        .map(|failure| format!(": {}", failure["message"].as_str().unwrap_or_default()))
        .unwrap_or_default();
    if updated < wanted {
        State::Waiting(format!("{updated} of {wanted} {} updated{refused}", replicas_are(wanted)))
    } else if running > updated {
        State::Waiting(format!("{} of the earlier release still to be stopped", counted(running - updated)))
    } else if available < updated {
        State::Waiting(format!("{available} of {updated} updated {} available", replicas_are(updated)))
    } else {
        State::Ready
    }
}

fn stateful_set(object: &Json) -> State {
    if object["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return State::Ready;
    }
    let (wanted, partition) = (replicas(object), number(object, "/spec/updateStrategy/rollingUpdate/partition"));
    let [updated, ready] = ["/status/updatedReplicas", "/status/readyReplicas"].map(|at| number(object, at));
    // When the last one is updated, the controller makes the new revision the current one and counts no updates any more.
    let is_current = object["status"]["updateRevision"] == object["status"]["currentRevision"];
    let to_update = wanted - partition.min(wanted);
    if !is_current && updated < to_update {
        State::Waiting(format!("{updated} of {to_update} {} updated", replicas_are(to_update)))
    } else if ready < wanted {
        State::Waiting(format!("{ready} of {wanted} {} ready", replicas_are(wanted)))
    } else {
        State::Ready
    }
}

fn daemon_set(object: &Json) -> State {
    if object["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return State::Ready;
    }
    let [wanted, updated, available] =
        ["/status/desiredNumberScheduled", "/status/updatedNumberScheduled", "/status/numberAvailable"]
            .map(|at| number(object, at));
    if updated < wanted {
        State::Waiting(format!("its pod is updated on {updated} of {wanted} nodes"))
    } else if available < wanted {
        State::Waiting(format!("its pod is available on {available} of {wanted} nodes"))
    } else {
        State::Ready
    }
}

fn job(object: &Json) -> State {
    let is = |name: &str| condition(object, name).filter(|found| found["status"] == "True");
    if is("Complete").is_some() {
        return State::Ready;
    }
    if let Some(failure) = is("Failed") {
        let text = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
        return State::Failed(format!("failed ({}): {}", text("reason"), text("message")));
    }
    let wanted = object["spec"]["completions"].as_i64().unwrap_or(1);
    State::Waiting(format!("{} of {wanted} completions", number(object, "/status/succeeded")))
}

fn pod(object: &Json) -> State {
    match object["status"]["phase"].as_str() {
        Some("Succeeded") => State::Ready,
        Some("Failed") => State::Failed("failed".to_owned()),
        _ if condition(object, "Ready").is_some_and(|ready| ready["status"] == "True") => State::Ready,
        phase => State::Waiting(format!("it is {}", phase.unwrap_or("Pending"))),
    }
}

/// The condition of this type in an object's status.
pub(crate) fn condition<'a>(object: &'a Json, name: &str) -> Option<&'a Json> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

fn replicas(object: &Json) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn replicas_are(count: i64) -> &'static str {
    if count == 1 { "replica is" } else { "replicas are" }
}

fn counted(count: i64) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}

fn number(object: &Json, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Json::as_i64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn waiting(text: &str) -> State {
        State::Waiting(text.to_owned())
    }

    fn deployment_with(status: Json) -> State {
        let mut object = json!({ "kind": "Deployment", "metadata": { "generation": 2 }, "spec": { "replicas": 3, "progressDeadlineSeconds": 60 } });
        object["status"] = status;
        state(&object)
    }

    #[test]
    fn a_deployment_is_ready_when_only_available_new_replicas_are_left() {
        let status = |updated: i64, running: i64, available: i64| {
            deployment_with(
                json!({ "observedGeneration": 2, "updatedReplicas": updated, "replicas": running, "availableReplicas": available }),
            )
        };
        assert_eq!(
            deployment_with(json!({ "observedGeneration": 1 })),
            waiting("its controller hasn't seen the change yet")
        );
        assert_eq!(status(1, 4, 3), waiting("1 of 3 replicas are updated"));
        assert_eq!(status(3, 4, 3), waiting("1 replica of the earlier release still to be stopped"));
        assert_eq!(status(3, 3, 2), waiting("2 of 3 updated replicas are available"));
        assert_eq!(status(3, 3, 3), State::Ready);
    }

    #[test]
    fn a_deployment_that_makes_no_progress_has_failed() {
        let conditions = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" }]);
        let failed = deployment_with(json!({ "observedGeneration": 2, "conditions": conditions }));
        assert_eq!(failed, State::Failed("made no progress within its progressDeadlineSeconds of 60".to_owned()));
        let conditions = json!([{ "type": "ReplicaFailure", "status": "True", "message": "exceeded quota" }]);
        let refused = deployment_with(json!({ "observedGeneration": 2, "conditions": conditions }));
        assert_eq!(refused, waiting("0 of 3 replicas are updated: exceeded quota"));
    }

    #[test]
    fn a_stateful_set_is_updated_down_to_its_partition() {
        let set = |partition: i64, status: Json| {
            state(&json!({ "kind": "StatefulSet", "spec": { "replicas": 3,
                "updateStrategy": { "rollingUpdate": { "partition": partition } } }, "status": status }))
        };
        let revisions = |updated: i64| json!({ "updateRevision": "b", "currentRevision": "a", "updatedReplicas": updated, "readyReplicas": 3 });
        assert_eq!(set(0, revisions(2)), waiting("2 of 3 replicas are updated"));
        assert_eq!(set(1, revisions(2)), State::Ready);
        let done = json!({ "updateRevision": "b", "currentRevision": "b", "readyReplicas": 2 });
        assert_eq!(set(0, done), waiting("2 of 3 replicas are ready"));
    }

    #[test]
    fn other_workloads_have_rules_of_their_own() {
        let set = json!({ "kind": "DaemonSet", "status": { "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1 } });
        assert_eq!(state(&set), waiting("its pod is available on 1 of 2 nodes"));
        let job =
            |conditions: Json| state(&json!({ "kind": "Job", "spec": {}, "status": { "conditions": conditions } }));
        assert_eq!(job(json!([])), waiting("0 of 1 completions"));
        assert_eq!(job(json!([{ "type": "Complete", "status": "True" }])), State::Ready);
        let failed = job(
            json!([{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often" }]),
        );
        assert_eq!(failed, State::Failed("failed (BackoffLimitExceeded): too often".to_owned()));
        assert_eq!(state(&json!({ "kind": "Service" })), State::Ready);
    }
}
