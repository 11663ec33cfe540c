//! How far a release is: what its workloads say, and why.

use std::time::Duration;

use rollout::Progress;
use serde_json::Value as Json;
use stagewright_sdk::{Error, Result, clock};

use crate::cluster::Cluster;
use crate::object::{Identity, pod_pointer};
use crate::pods;
use crate::workload::{State, state};

/// Time between two looks at a release.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far the workloads among these objects are. One that has failed decides, and otherwise the first that isn't ready.
///
/// # Errors
/// If the cluster can't be asked.
pub fn progress(cluster: &Cluster, objects: &[Identity]) -> Result<Progress> {
    let mut starting = None;
    for identity in objects.iter().filter(|identity| is_workload(identity) && identity.kind != "CronJob") {
        let Some(live) = cluster.get(identity)? else {
            // The cluster removes jobs that have ended, if they say so.
            if identity.kind == "Job" {
                continue;
            }
            return Ok(Progress::Failed(format!("has lost its {identity}, which was deleted")));
        };
        match state(&live) {
            State::Ready => {}
            State::Failed(reason) => return Ok(Progress::Failed(format!("can't start: {identity} {reason}"))),
            State::Waiting(reason) if starting.is_none() => {
                let pods = pods::of(cluster, &live)?;
                let unready = pods.iter().filter(|pod| !pods::is_ready(pod));
                let trouble = unready.filter_map(pods::trouble).next().map(|trouble| format!("; {trouble}"));
                starting = Some(format!("{identity}: {reason}{}", trouble.unwrap_or_default()));
            }
            State::Waiting(_) => {}
        }
    }
    Ok(starting.map_or(Progress::Running, Progress::Starting))
}

/// Waits until the workloads among these objects of a release are ready.
///
/// # Errors
/// If one has failed, if they aren't ready by the deadline, or if the deploy is cancelled.
pub fn wait_until_ready(cluster: &Cluster, objects: &[Identity], release: &str, deadline: Duration) -> Result<()> {
    let start = clock::monotonic();
    loop {
        match progress(cluster, objects)? {
            Progress::Running => return Ok(()),
            Progress::Failed(reason) => return Err(Error::failed(format!("the release {release} {reason}"))),
            Progress::Starting(reason) if clock::monotonic().saturating_sub(start) > deadline => {
                return Err(Error::failed(format!("the release {release} isn't ready: {reason}")));
            }
            Progress::Starting(_) => clock::sleep(INTERVAL)?,
        }
    }
}

/// What the pods of the workloads among these objects wrote last, and the warnings about them.
///
/// # Errors
/// If the cluster can't be asked.
pub fn log_tail(cluster: &Cluster, objects: &[Identity], lines: u32) -> Result<String> {
    let mut pods = Vec::<Json>::new();
    for identity in objects.iter().filter(|identity| is_workload(identity)) {
        if let Some(workload) = cluster.get(identity)? {
            pods.extend(pods::of(cluster, &workload)?);
        }
    }
    // Those that aren't ready have the reason. If all are, all of them have served.
    let is_any_unready = pods.iter().any(|pod| !pods::is_ready(pod));
    let shown = pods.iter().filter(|pod| !is_any_unready || !pods::is_ready(pod));
    let account = shown.map(|pod| pods::account(cluster, pod, lines)).collect::<Result<Vec<_>>>()?;
    Ok(account.join("\n"))
}

fn is_workload(identity: &Identity) -> bool {
    pod_pointer(&identity.kind).is_some()
}
