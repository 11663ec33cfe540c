//! The containers of one service as a target.
//!
//! The container that serves has the service's name; a version that isn't finished has its fencing token after it, as in
//! `app.7`. Labels say which service, run and token a container belongs to; they can't change, which is why the name says
//! which of them serves.

use std::collections::BTreeMap;

use docker_engine::{ARTIFACT, ContainerState, Engine, FENCE, Inspected, Listed, Provenance, RELEASE, RUN};
use rollout::{Described, HeaderMatch, Progress, Serving, Share, Target, secret_handles};
use serde_json::{Value as Json, json};
use stagewright_sdk::environment::Release;
use stagewright_sdk::{Error, ErrorCode, Manifest, Requirement, Result, clock, context, log, secrets};

use crate::config::Config;

/// The requests to the engine that a deploy takes.
const REQUESTS: [(&str, &str, &str); 10] = [
    ("GET", "/containers/json", "finds the releases"),
    ("GET", "/containers/*/json", "observes the release"),
    ("GET", "/containers/*/logs", "shows why a release failed"),
    ("GET", "/images/json", "looks whether the engine has the image"),
    ("POST", "/images/create", "pulls the image"),
    ("POST", "/containers/create", "creates the release"),
    ("POST", "/containers/*/start", "starts the release"),
    ("POST", "/containers/*/stop", "stops the old release"),
    ("POST", "/containers/*/rename", "makes the release the one that serves"),
    ("POST", "/containers/*/update", "restarts the release after a crash"),
];

const SERVICE: &str = "stagewright.service";

/// The containers of one service.
pub(crate) struct Containers {
    config: Config,
    engine: Engine,
}

/// A container that this run has started.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    id: String,
    /// As in `app.7`.
    release: String,
    /// Where it answers requests, as in `127.0.0.1:32768`.
    address: Option<String>,
}

impl Target for Containers {
    type Config = Config;
    type Version = Container;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let engine = Engine::at(&config.socket);
        let remove = engine.requirement("DELETE", "/containers/*").because("removes the old release");
        // The engine publishes a free port, and the checks go there.
        let checks = config.port.map(|_| Requirement::net("http://127.0.0.1:*").because("checks the release"));
        REQUESTS
            .iter()
            .map(|(method, path, reason)| engine.requirement(method, path).because(*reason))
            .chain([remove])
            .chain(rollout::secret_requirements(&config.secret_env))
            .chain(checks)
            .chain(config.traffic.iter().flat_map(rollout::Traffic::requirements))
            .chain(config.strategy.iter().flat_map(rollout::Strategy::requirements))
            .collect()
    }

    fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
        Ok(rollout::secret_parts(&config.secret_env).collect())
    }

    fn open(config: &Config, _restored: Option<&Release>) -> Result<Containers> {
        Ok(Containers { config: config.clone(), engine: Engine::at(&config.socket) })
    }

    fn artifact(&self) -> &str {
        self.config.image.as_str()
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let Some(listed) = self.serving_container(&self.list()?) else { return Ok(None) };
        let inspected = self.engine.inspect(&listed.id)?;
        let label = |name: &str| listed.labels.get(name).cloned();
        Ok(Some(Serving {
            version: label(RELEASE).unwrap_or_else(|| listed.name().to_owned()),
            artifact: label(ARTIFACT).unwrap_or_default(),
            address: self.address(&inspected).map(|address| format!("http://{address}")),
            fence: fence_of(&listed),
            run: label(RUN),
            is_running: inspected.state.status == "running",
            has_failed: has_ended(&inspected.state),
        }))
    }

    fn unfinished(&self) -> Result<Option<Container>> {
        let listed = self.list()?;
        let (run, serving) = (context::run_id(), self.serving_container(&listed));
        let own = |listed: &&Listed| {
            let is_of_run = listed.labels.get(RUN) == Some(&run);
            let is_same = listed.labels.get(ARTIFACT).map(String::as_str) == Some(self.artifact());
            is_of_run && is_same && serving.as_ref().is_none_or(|serving| serving.id != listed.id)
        };
        let Some(own) = listed.iter().find(own) else { return Ok(None) };
        // Only one that was never started. One that has ended must be found to have.
        if own.state == "created" {
            self.refuse_stale(&listed)?;
            self.engine.start(&own.id)?;
        }
        self.container(&own.id, release_of(own)).map(Some)
    }

    fn apply(&self) -> Result<Container> {
        let listed = self.list()?;
        self.refuse_stale(&listed)?;
        self.refuse_foreign(&listed)?;
        self.engine.ensure_image(self.artifact())?;
        let serving = self.serving_container(&listed);
        self.remove_leftovers(&listed, serving.as_ref())?;
        // Created before the old one is stopped, so that a mistake in the configuration stops nothing.
        let provenance = Provenance::of_this_attempt(&self.config.service, self.artifact());
        let release = provenance.release.clone();
        let id = self
            .engine
            .create(&release, &self.specification(&provenance), &secret_handles(&self.config.secret_env)?)
            .map_err(|error| error.context(format!("can't create a container of {}", self.artifact())))?;
        self.start(&id, &release, serving.as_ref()).map_err(|error| {
            let error = error.context(format!("can't start {} as `{release}`", self.artifact()));
            match self.undo(&Container { id, release, address: None }) {
                Ok(()) => error,
                Err(failure) => error.cause(format!("removing the container failed: {failure}")),
            }
        })
    }

    fn describe(&self, container: &Container) -> Described {
        let advice = match self.config.port {
            Some(port) => format!("the program has to listen on port {port} of all addresses of its container"),
            None => "the program has to keep running".to_owned(),
        };
        let address = container.address.as_ref().map(|address| format!("http://{address}"));
        Described { name: container.release.clone(), address, advice }
    }

    fn observe(&self, container: &Container) -> Result<Progress> {
        let state = match self.engine.inspect(&container.id) {
            Ok(inspected) => inspected.state,
            Err(error) if error.is_not_found() => return Ok(Progress::Failed("was removed".to_owned())),
            Err(error) => return Err(error),
        };
        let health = state.health.as_ref().map(|health| health.status.as_str());
        Ok(match (state.status.as_str(), health) {
            ("running", None | Some("healthy" | "none")) => Progress::Running,
            ("running", Some(health)) => Progress::Starting(format!("its HEALTHCHECK reports `{health}`")),
            ("created", _) => Progress::Starting("its container hasn't started".to_owned()),
            _ if state.oom_killed => Progress::Failed("was killed because it ran out of memory".to_owned()),
            ("exited" | "dead" | "restarting", _) => Progress::Failed(format!("exited with code {}", state.exit_code)),
            (status, _) => Progress::Starting(format!("its container is {status}")),
        })
    }

    fn log_tail(&self, container: &Container, lines: u32) -> Result<String> {
        self.engine.log_tail(&container.id, lines)
    }

    fn shift(&self, container: &Container, weight: u32) -> Result<()> {
        self.shift_matching(container, weight, &[])
    }

    fn shift_matching(&self, container: &Container, weight: u32, conditions: &[HeaderMatch]) -> Result<()> {
        let Some(traffic) = &self.config.traffic else { return Ok(()) };
        self.refuse_stale(&self.list()?)?;
        let own = container.address.clone().ok_or_else(|| self.unpublished(&container.release))?;
        let earlier = self.serving_address()?.filter(|earlier| *earlier != own);
        traffic.direct(&match earlier {
            Some(earlier) => vec![
                Share::new(&earlier, 100 - weight.min(100)),
                Share { conditions: conditions.to_vec(), ..Share::new(&own, weight.min(100)) },
            ],
            // There is nothing else that could answer.
            None => vec![Share::all(&own)],
        })
    }

    fn finish(&self, container: &Container) -> Result<()> {
        let listed = self.list()?;
        self.refuse_stale(&listed)?;
        // Until now a crash had to be noticed. From now on the release is back after one, and after a reboot.
        self.engine.restart_always(&container.id)?;
        let service = &self.config.service;
        let (own, others): (Vec<Listed>, Vec<Listed>) =
            listed.into_iter().partition(|listed| listed.id == container.id);
        if let Some(earlier) = others.iter().find(|listed| listed.name() == service) {
            self.engine.rename(&earlier.id, &replaced(service, fence_of(earlier)))?;
        }
        if !own.iter().any(|own| own.name() == service) {
            self.engine.rename(&container.id, service)?;
        }
        if !others.is_empty() {
            self.drain()?;
        }
        // With the last of them the switch has ended. Before that, the replaced one counts as serving.
        others.iter().try_for_each(|earlier| self.discard(&earlier.id))
    }

    fn undo(&self, container: &Container) -> Result<()> {
        let listed = self.list()?;
        self.refuse_stale(&listed)?;
        let serving = self.serving_container(&listed).filter(|serving| serving.id != container.id);
        let Some(serving) = serving else { return self.discard(&container.id) };
        if self.config.stops_first() {
            // It has the port that the earlier release needs.
            self.discard(&container.id)?;
            self.engine.start(&serving.id)?;
            return self.direct_to(&serving);
        }
        self.direct_to(&serving)?;
        self.discard(&container.id)
    }
}

impl Containers {
    fn list(&self) -> Result<Vec<Listed>> {
        self.engine.containers(SERVICE, &self.config.service)
    }

    /// The container with the service's name. During a switch, until the earlier one is removed, that one.
    fn serving_container(&self, listed: &[Listed]) -> Option<Listed> {
        let replaced = listed.iter().find(|listed| is_replaced(listed.name()));
        replaced.or_else(|| listed.iter().find(|listed| listed.name() == self.config.service)).cloned()
    }

    /// Starts a created container, after the earlier one was stopped if two can't run.
    fn start(&self, id: &str, release: &str, earlier: Option<&Listed>) -> Result<Container> {
        if let Some(earlier) = earlier.filter(|_| self.config.stops_first()) {
            log::info(format!("stopping {} before the new release starts", release_of(earlier)));
            self.engine.stop(&earlier.id, self.config.stop_grace_seconds())?;
        }
        self.engine.start(id)?;
        self.container(id, release)
    }

    /// Gives all requests to a container, and lets those in flight end. One that doesn't run has no address.
    fn direct_to(&self, listed: &Listed) -> Result<()> {
        let Some(traffic) = &self.config.traffic else { return Ok(()) };
        let Some(address) = self.address(&self.engine.inspect(&listed.id)?) else { return Ok(()) };
        traffic.direct(&[Share::all(&address)])?;
        self.drain()
    }

    fn serving_address(&self) -> Result<Option<String>> {
        let Some(serving) = self.serving_container(&self.list()?) else { return Ok(None) };
        Ok(self.address(&self.engine.inspect(&serving.id)?))
    }

    /// Refuses to act when a container of the service was started under a newer token.
    fn refuse_stale(&self, listed: &[Listed]) -> Result<()> {
        listed.iter().try_for_each(|listed| {
            let (release, artifact) = (release_of(listed).to_owned(), String::new());
            Provenance { release, artifact, fence: fence_of(listed), run: None }.refuse_newer(&self.config.service)
        })
    }

    /// Refuses to begin when a container that no deploy has created has the name that the release gets at the end.
    fn refuse_foreign(&self, listed: &[Listed]) -> Result<()> {
        let service = &self.config.service;
        let named = match self.engine.inspect(service) {
            Err(error) if error.is_not_found() => return Ok(()),
            named => named?,
        };
        if listed.iter().any(|own| own.id == named.id) {
            return Ok(());
        }
        let message = format!("the container `{service}` wasn't created by a deploy, and the release needs its name");
        Err(Error::new(ErrorCode::FailedPrecondition, message)
            .help(format!("rename or remove it (`docker rename {service} {service}-by-hand`), then deploy again")))
    }

    /// Removes what interrupted deploys of earlier runs have left.
    fn remove_leftovers(&self, listed: &[Listed], serving: Option<&Listed>) -> Result<()> {
        let is_left = |listed: &&Listed| serving.is_none_or(|serving| serving.id != listed.id);
        let left: Vec<&Listed> = listed.iter().filter(is_left).collect();
        if let Some(serving) = serving.filter(|_| !left.is_empty()) {
            self.direct_to(serving)?;
        }
        left.into_iter().try_for_each(|leftover| {
            log::info(format!("removing {}, which an earlier deploy has left", leftover.name()));
            self.discard(&leftover.id)
        })
    }

    /// Lets a release that gets no more requests finish those in flight. A cancelled deploy doesn't wait.
    fn drain(&self) -> Result<()> {
        match clock::sleep(self.config.drain()) {
            Err(error) if error.is_cancelled() => Ok(()),
            result => result,
        }
    }

    /// Stops and removes a container.
    fn discard(&self, id: &str) -> Result<()> {
        self.engine.stop(id, self.config.stop_grace_seconds())?;
        self.engine.remove(id)
    }

    fn container(&self, id: &str, release: &str) -> Result<Container> {
        let address = self.address(&self.engine.inspect(id)?);
        Ok(Container { id: id.to_owned(), release: release.to_owned(), address })
    }

    fn address(&self, inspected: &Inspected) -> Option<String> {
        inspected.network_settings.published(self.config.port?)
    }

    fn unpublished(&self, release: &str) -> Error {
        let port = self.config.port.unwrap_or_default();
        Error::failed(format!("port {port} of {release} isn't published, so that no requests can be directed to it"))
    }

    /// The body of the request that creates a container.
    fn specification(&self, provenance: &Provenance) -> Json {
        let Config { image, args, env, secret_env, port, publish, network, volumes, memory, .. } = &self.config;
        let ports = port.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect::<BTreeMap<_, _>>();
        let (host, host_port) = match publish {
            Some(publish) => ("", publish.to_string()),
            // A free port, which only this machine reaches.
            None => ("127.0.0.1", String::new()),
        };
        let bindings = ports.keys().map(|port| (port, json!([{ "HostIp": host, "HostPort": host_port }])));
        let mounts = volumes.iter().map(|(volume, folder)| {
            json!({ "Type": "volume", "Source": volume, "Target": folder, "VolumeOptions": { "Labels": { SERVICE: self.config.service } } })
        });
        let secret = secret_env.iter().map(|(name, secret)| format!("{name}={}", secrets::placeholder(secret)));
        let variables = env.iter().map(|(name, value)| format!("{name}={value}")).chain(secret);
        let mut labels = provenance.labels();
        labels.insert(SERVICE.to_owned(), self.config.service.clone());
        json!({
            "Image": image.as_str(),
            "Cmd": if args.is_empty() { Json::Null } else { json!(args) },
            "Env": variables.collect::<Vec<_>>(),
            "Labels": labels,
            "ExposedPorts": ports,
            "HostConfig": {
                "PortBindings": bindings.collect::<BTreeMap<_, _>>(),
                "NetworkMode": network.as_deref().unwrap_or("bridge"),
                "Mounts": mounts.collect::<Vec<_>>(),
                "Memory": memory.map_or(0, |memory| memory.0),
            },
        })
    }
}

fn release_of(listed: &Listed) -> &str {
    listed.labels.get(RELEASE).map_or_else(|| listed.name(), String::as_str)
}

fn fence_of(listed: &Listed) -> Option<u64> {
    listed.labels.get(FENCE)?.parse().ok()
}

/// The name of a container that has been replaced, until it is removed.
fn replaced(service: &str, fence: Option<u64>) -> String {
    format!("{service}.{}{REPLACED}", fence.unwrap_or_default())
}

const REPLACED: &str = ".replaced";

fn is_replaced(name: &str) -> bool {
    name.ends_with(REPLACED)
}

fn has_ended(state: &ContainerState) -> bool {
    matches!(state.status.as_str(), "exited" | "dead")
}
