//! The containers of a project.

use compose_file::Release;
use docker_engine::{Engine, Inspected, Listed};
use rollout::Progress;
use stagewright_sdk::{LiveDifference, Result};

/// Labels of Compose.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
/// `True` for a container of `docker compose run`.
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// The containers of a release's services.
pub(crate) fn list(engine: &Engine, project: &str) -> Result<Vec<Listed>> {
    let listed = engine.containers(PROJECT, project)?;
    Ok(listed
        .into_iter()
        .filter(|container| container.labels.get(ONE_OFF).is_none_or(|value| value != "True"))
        .collect())
}

/// What the least advanced container of a release is.
pub(crate) fn progress(engine: &Engine, project: &str, release: &Release) -> Result<Progress> {
    let listed = list(engine, project)?;
    let mut starting = None;
    for service in release.services().keys() {
        let own: Vec<&Listed> = listed.iter().filter(|container| service_of(container) == Some(service)).collect();
        if own.is_empty() && !has_no_containers(release, service) {
            return Ok(Progress::Failed(format!("lost the containers of `{service}`")));
        }
        for container in own {
            match progress_of(&engine.inspect(&container.id)?, container.name(), ends(release, service)) {
                Progress::Running => {}
                Progress::Starting(reason) => starting = starting.or(Some(reason)),
                failed @ Progress::Failed(_) => return Ok(failed),
            }
        }
    }
    Ok(starting.map_or(Progress::Running, Progress::Starting))
}

/// How the containers differ from those of the release: in their images, and in services that it doesn't have. Compose keeps
/// no record of their other settings that could be compared.
pub(crate) fn drift(engine: &Engine, project: &str, release: &Release) -> Result<Vec<LiveDifference>> {
    let (services, mut found) = (release.services(), Vec::new());
    for container in list(engine, project)? {
        let service = service_of(&container).and_then(|service| services.get(service));
        let expected = service.and_then(|service| service["image"].as_str());
        let image = engine.inspect(&container.id)?.config.image;
        if expected != Some(image.as_str()) {
            let what = format!("image of {}", container.name());
            found.push(LiveDifference { what, expected: expected.map(str::to_owned), found: Some(image) });
        }
    }
    Ok(found)
}

/// What says why a release isn't ready: the last check of a container's health, and the last lines of its log.
pub(crate) fn diagnosis(engine: &Engine, project: &str, release: &Release, lines: u32) -> Result<String> {
    for container in list(engine, project)? {
        let service = service_of(&container).unwrap_or_default();
        let inspected = engine.inspect(&container.id)?;
        if progress_of(&inspected, container.name(), ends(release, service)) == Progress::Running {
            continue;
        }
        let check = inspected.state.health.as_ref().and_then(|health| health.log.last());
        let check = check
            .filter(|check| check.exit_code != 0)
            .map(|check| format!("its health check ended with code {}: {}\n", check.exit_code, check.output.trim()));
        let log = engine.log_tail(&container.id, lines)?;
        if check.is_some() || !log.trim().is_empty() {
            return Ok(format!("{}:\n{}{log}", container.name(), check.unwrap_or_default()));
        }
    }
    Ok(String::new())
}

/// What a container is. One that other services wait for to end may have ended.
fn progress_of(inspected: &Inspected, name: &str, ends: bool) -> Progress {
    let state = &inspected.state;
    let health = state.health.as_ref().map(|health| health.status.as_str());
    match (state.status.as_str(), health) {
        ("running", None | Some("healthy" | "none")) => Progress::Running,
        ("running", Some("unhealthy")) => Progress::Failed(format!("has an unhealthy container, {name},")),
        ("running", Some(health)) => Progress::Starting(format!("the health check of {name} reports `{health}`")),
        ("exited", _) if ends && state.exit_code == 0 => Progress::Running,
        _ if state.oom_killed => Progress::Failed(format!("lost {name}, which ran out of memory,")),
        ("exited" | "dead" | "restarting", _) => {
            Progress::Failed(format!("lost {name}, which exited with code {},", state.exit_code))
        }
        (status, _) => Progress::Starting(format!("{name} is {status}")),
    }
}

fn service_of(container: &Listed) -> Option<&str> {
    container.labels.get(SERVICE).map(String::as_str)
}

/// Whether a service is meant to end: another one starts after that.
fn ends(release: &Release, service: &str) -> bool {
    release
        .services()
        .values()
        .any(|other| other["depends_on"][service]["condition"] == "service_completed_successfully")
}

/// Whether a service has no containers on purpose.
fn has_no_containers(release: &Release, service: &str) -> bool {
    let replicas =
        release.services().get(service).map(|service| service["deploy"]["replicas"].clone()).unwrap_or_default();
    replicas == 0 || replicas == "0"
}
