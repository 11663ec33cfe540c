//! Why pods aren't ready: their states, the events about them, and what they have written.

use serde_json::Value as Json;
use stagewright_sdk::Result;

use crate::cluster::Cluster;

/// The most pods of a workload that are looked at.
const PODS: usize = 20;
/// The most events that are shown of a pod.
const EVENTS: usize = 5;

/// The pods of a workload as it is in the cluster, without those of an earlier release of it.
pub(crate) fn of(cluster: &Cluster, workload: &Json) -> Result<Vec<Json>> {
    let Some(labels) = selector(workload) else { return Ok(Vec::new()) };
    let namespace = workload["metadata"]["namespace"].as_str().unwrap_or_default();
    let own = images(&workload["spec"]["template"]["spec"]);
    let pods = cluster.list("v1", "pods", namespace, &labels)?;
    Ok(pods.into_iter().filter(|pod| images(&pod["spec"]) == own).take(PODS).collect())
}

/// What keeps a pod from being ready, as in `pod web-1: container web: CrashLoopBackOff: back-off 10s restarting`.
pub(crate) fn trouble(pod: &Json) -> Option<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let of_container = |status: &Json| {
        let state = status["state"]["waiting"].as_object().or_else(|| status["state"]["terminated"].as_object())?;
        let text = |key: &str| state.get(key).and_then(Json::as_str).filter(|text| !text.is_empty());
        let reason = text("reason").filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))?;
        let exit = state.get("exitCode").map(|code| format!(" (exit code {code})")).unwrap_or_default();
        let message = text("message").map(|message| format!(": {message}")).unwrap_or_default();
        let container = status["name"].as_str().unwrap_or_default();
        Some(format!("pod {name}: container {container}: {reason}{exit}{message}"))
    };
    let unscheduled = || {
        let scheduled = crate::workload::condition(pod, "PodScheduled").filter(|found| found["status"] == "False")?;
        let message = scheduled["message"].as_str().unwrap_or_default();
        Some(format!("pod {name} can't be scheduled: {message}"))
    };
    let unready = |status: &Json| {
        let is_unready = status["state"]["running"].is_object() && status["ready"] == false;
        let container = status["name"].as_str().unwrap_or_default();
        is_unready.then(|| format!("pod {name}: container {container} runs, but doesn't pass its probes"))
    };
    let of_containers = || statuses(pod).find_map(of_container).or_else(|| statuses(pod).find_map(unready));
    of_containers().or_else(unscheduled)
}

/// What a pod's containers wrote last, before their last restart if they were restarted, and the warnings about the pod.
pub(crate) fn account(cluster: &Cluster, pod: &Json, lines: u32) -> Result<String> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let mut account = Vec::new();
    let is_ready = is_ready(pod);
    for status in statuses(pod).filter(|status| is_ready || status["ready"] != true) {
        let container = status["name"].as_str().unwrap_or_default();
        let was_restarted = !is_ready && status["restartCount"].as_i64().unwrap_or_default() > 0;
        // A container that never started has no log, which isn't an error worth reporting here.
        let log = cluster.log_tail((namespace, name, container), lines, was_restarted).unwrap_or_default();
        account.extend(log.lines().map(|line| format!("{name}/{container}: {line}")));
    }
    let warnings = cluster.events(namespace, "Pod", name)?.into_iter().filter(|event| event["type"] == "Warning");
    // Every pod of a cluster without a name server has it.
    let warnings = warnings.filter(|event| event["reason"] != "MissingClusterDNS").collect::<Vec<_>>();
    account.extend(warnings.iter().rev().take(EVENTS).rev().map(|event| {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        format!("{name}: {}: {}", text("reason"), text("message"))
    }));
    Ok(account.join("\n"))
}

/// The labels of a workload's pods; none for a kind without such labels.
fn selector(workload: &Json) -> Option<String> {
    if workload["kind"] == "Job" {
        return workload["metadata"]["name"].as_str().map(|name| format!("job-name={name}"));
    }
    let labels = workload["spec"]["selector"]["matchLabels"].as_object()?;
    let pairs = labels.iter().filter_map(|(label, value)| Some(format!("{label}={}", value.as_str()?)));
    Some(pairs.collect::<Vec<_>>().join(",")).filter(|labels| !labels.is_empty())
}

fn images(pod: &Json) -> Vec<&str> {
    let containers = pod["containers"].as_array().into_iter().flatten();
    let mut images: Vec<&str> = containers.filter_map(|container| container["image"].as_str()).collect();
    images.sort_unstable();
    images
}

pub(crate) fn is_ready(pod: &Json) -> bool {
    crate::workload::condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn statuses(pod: &Json) -> impl Iterator<Item = &Json> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|key| pod["status"][key].as_array().into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn troubles_have_a_reason() {
        let pod = |state: Json| json!({ "metadata": { "name": "web-1" }, "status": { "containerStatuses": [{ "name": "web", "state": state }] } });
        let crash = pod(json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } }));
        assert_eq!(trouble(&crash).as_deref(), Some("pod web-1: container web: CrashLoopBackOff: back-off 10s"));
        let ended = pod(json!({ "terminated": { "reason": "Error", "exitCode": 3 } }));
        assert_eq!(trouble(&ended).as_deref(), Some("pod web-1: container web: Error (exit code 3)"));
        assert_eq!(trouble(&pod(json!({ "waiting": { "reason": "ContainerCreating" } }))), None);
        assert_eq!(trouble(&pod(json!({ "running": {} }))), None);
        let mut unready = pod(json!({ "running": {} }));
        unready["status"]["containerStatuses"][0]["ready"] = false.into();
        assert_eq!(trouble(&unready).as_deref(), Some("pod web-1: container web runs, but doesn't pass its probes"));
        let conditions = json!([{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" }]);
        let pending = json!({ "metadata": { "name": "web-1" }, "status": { "conditions": conditions } });
        assert_eq!(trouble(&pending).as_deref(), Some("pod web-1 can't be scheduled: 0/1 nodes are available"));
    }
}
