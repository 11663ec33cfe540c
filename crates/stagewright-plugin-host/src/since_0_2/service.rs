//! `service`.

use std::time::Duration;

use stagewright_process::supervisor::Phase;
use wasmtime::component::Resource;

use super::stagewright::service::service::{Host, HostHeaderMatches, HostInstance, HostRelease};
use super::{Answer, size_of};
use crate::attempt::Attempt;
use crate::call::CallError;
use crate::capability::secrets::SecretHandle;
use crate::capability::service::{HeaderMatches, InstanceHandle, ReleaseBuilder};
use crate::service::HeaderValueMatch;

impl HostRelease for Attempt {
    async fn new(&mut self, service: String, image: String) -> wasmtime::Result<Resource<ReleaseBuilder>> {
        let size = service.len() + image.len();
        self.handles.push_sized(ReleaseBuilder::new(service, image), size)
    }

    async fn args(&mut self, release: Resource<ReleaseBuilder>, args: Vec<String>) -> wasmtime::Result<()> {
        self.handles.grow(&release, size_of(&args))?.args.extend(args);
        Ok(())
    }

    async fn env(&mut self, release: Resource<ReleaseBuilder>, name: String, value: String) -> wasmtime::Result<()> {
        self.handles.grow(&release, name.len() + value.len())?.env.insert(name, value);
        Ok(())
    }

    async fn secret_env(
        &mut self,
        release: Resource<ReleaseBuilder>,
        name: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        self.handles.grow(&release, name.len())?.secret_env(name, &secret);
        Ok(())
    }

    async fn port(&mut self, release: Resource<ReleaseBuilder>, port: u16) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.port = port;
        Ok(())
    }

    async fn keep(&mut self, release: Resource<ReleaseBuilder>, releases: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.keep = releases;
        Ok(())
    }

    async fn stop_grace_ms(&mut self, release: Resource<ReleaseBuilder>, grace: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.stop_grace = Duration::from_millis(grace);
        Ok(())
    }

    async fn proxy(&mut self, release: Resource<ReleaseBuilder>, address: String) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.proxy(&address);
        Ok(())
    }

    async fn drain_ms(&mut self, release: Resource<ReleaseBuilder>, drain: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.behind().drain = Duration::from_millis(drain);
        Ok(())
    }

    async fn replicas(&mut self, release: Resource<ReleaseBuilder>, replicas: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.behind().replicas = replicas;
        Ok(())
    }

    async fn stop_first(&mut self, release: Resource<ReleaseBuilder>) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.behind().stops_first = true;
        Ok(())
    }

    async fn root(&mut self, release: Resource<ReleaseBuilder>, root: String) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.root(&root);
        Ok(())
    }

    async fn volume(&mut self, release: Resource<ReleaseBuilder>, name: String, path: String) -> wasmtime::Result<()> {
        self.handles.grow(&release, name.len() + path.len())?.volumes.insert(name, path);
        Ok(())
    }

    async fn start(&mut self, release: Resource<ReleaseBuilder>) -> Answer<Resource<InstanceHandle>> {
        let release = self.handles.get(&release)?.clone();
        let started = self.start_release(release).await;
        self.answer_with_handle(started)
    }

    async fn drop(&mut self, release: Resource<ReleaseBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(release)?;
        Ok(())
    }
}

impl Attempt {
    fn add_match(
        &mut self,
        matches: &Resource<HeaderMatches>,
        header: String,
        value: HeaderValueMatch,
        size: usize,
    ) -> wasmtime::Result<()> {
        self.handles.grow(matches, size)?.add(header, value);
        Ok(())
    }
}

impl HostHeaderMatches for Attempt {
    async fn new(&mut self) -> wasmtime::Result<Resource<HeaderMatches>> {
        self.handles.push_sized(HeaderMatches::default(), 0)
    }

    async fn exact(&mut self, it: Resource<HeaderMatches>, header: String, value: String) -> wasmtime::Result<()> {
        let size = header.len() + value.len();
        self.add_match(&it, header, HeaderValueMatch::Exact(value), size)
    }

    async fn prefix(&mut self, it: Resource<HeaderMatches>, header: String, value: String) -> wasmtime::Result<()> {
        let size = header.len() + value.len();
        self.add_match(&it, header, HeaderValueMatch::Prefix(value), size)
    }

    async fn regex(&mut self, it: Resource<HeaderMatches>, header: String, expression: String) -> wasmtime::Result<()> {
        let size = header.len() + expression.len();
        self.add_match(&it, header, HeaderValueMatch::Regex(expression), size)
    }

    async fn drop(&mut self, matches: Resource<HeaderMatches>) -> wasmtime::Result<()> {
        self.handles.delete(matches)?;
        Ok(())
    }
}

/// The name of a phase, as `service.current` has it.
fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Exited => "exited",
    }
}

impl HostInstance for Attempt {
    async fn release(&mut self, instance: Resource<InstanceHandle>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&instance)?.release.clone())
    }

    async fn address(&mut self, instance: Resource<InstanceHandle>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&instance)?.address.clone())
    }

    async fn state(&mut self, instance: Resource<InstanceHandle>) -> Answer<String> {
        let phase = self.services.phase(self.handles.get(&instance)?).await;
        self.answer(phase.map(|phase| phase_name(phase).to_owned()))
    }

    async fn log_tail(&mut self, instance: Resource<InstanceHandle>, lines: u32) -> Answer<String> {
        let tail = self.services.log_tail(self.handles.get(&instance)?, lines as usize).await;
        let tail = tail.map(|tail| self.log.masker().text(&tail));
        self.answer(tail)
    }

    async fn promote(&mut self, instance: Resource<InstanceHandle>) -> Answer<()> {
        let handle = self.handles.get(&instance)?.clone();
        let promoted = self.services.promote(&handle).await;
        self.answer(promoted)
    }

    async fn discard(&mut self, instance: Resource<InstanceHandle>) -> Answer<()> {
        let handle = self.handles.get(&instance)?.clone();
        let discarded = self.services.discard(&handle).await;
        self.answer(discarded)
    }

    async fn addresses(&mut self, instance: Resource<InstanceHandle>) -> wasmtime::Result<Vec<String>> {
        // A settled release has no addresses any more.
        Ok(self.services.addresses(self.handles.get(&instance)?).unwrap_or_default())
    }

    async fn route(&mut self, instance: Resource<InstanceHandle>, weight: u32) -> Answer<()> {
        let handle = self.handles.get(&instance)?.clone();
        let routed = self.services.route(&handle, weight).await;
        self.answer(routed)
    }

    async fn route_matching(
        &mut self,
        instance: Resource<InstanceHandle>,
        weight: u32,
        matches: Resource<HeaderMatches>,
    ) -> Answer<()> {
        let (handle, matches) = (self.handles.get(&instance)?.clone(), self.handles.get(&matches)?.clone());
        let routed = self.services.route_matching(&handle, weight, matches).await;
        self.answer(routed)
    }

    async fn scale(&mut self, instance: Resource<InstanceHandle>, replicas: u32, current: u32) -> Answer<()> {
        let handle = self.handles.get(&instance)?.clone();
        let scaled = self.services.scale(&handle, replicas, current).await;
        self.answer(scaled)
    }

    /// Doesn't end the release: `promote`, `discard` or the end of the attempt decides about it.
    async fn drop(&mut self, instance: Resource<InstanceHandle>) -> wasmtime::Result<()> {
        self.handles.delete(instance)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn current(&mut self, service: String) -> Answer<Option<String>> {
        let current = self.services.current(&service).await;
        self.answer(current)
    }

    async fn unfinished(&mut self, service: String, image: String) -> Answer<Option<Resource<InstanceHandle>>> {
        let found = self.services.unfinished(&service, &image).await;
        let handle = match found {
            Ok(found) => found.map(|handle| self.handles.push(handle)).transpose().map_err(CallError::from),
            Err(error) => Err(error.into()),
        };
        self.answer(handle)
    }
}
