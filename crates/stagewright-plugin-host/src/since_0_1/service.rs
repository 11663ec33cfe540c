//! `service`.

use std::time::Duration;

use stagewright_process::supervisor::Phase;
use wasmtime::component::Resource;

use super::size_of;
use super::stagewright::stage::service::{Host, HostInstance, HostRelease, State};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::secrets::SecretHandle;
use crate::capability::service::{InstanceHandle, ReleaseBuilder};

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

    async fn stop_grace_ms(&mut self, release: Resource<ReleaseBuilder>, grace: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&release)?.stop_grace = Duration::from_millis(grace.into());
        Ok(())
    }

    async fn start(&mut self, release: Resource<ReleaseBuilder>) -> CallResult<Resource<InstanceHandle>> {
        let release = self.handles.get(&release)?.clone();
        let handle = self.start_release(release).await?;
        Ok(self.handles.push(handle)?)
    }

    async fn drop(&mut self, release: Resource<ReleaseBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(release)?;
        Ok(())
    }
}

impl HostInstance for Attempt {
    async fn release(&mut self, instance: Resource<InstanceHandle>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&instance)?.release.clone())
    }

    async fn address(&mut self, instance: Resource<InstanceHandle>) -> wasmtime::Result<String> {
        Ok(self.handles.get(&instance)?.address.clone())
    }

    async fn state(&mut self, instance: Resource<InstanceHandle>) -> CallResult<State> {
        Ok(match self.services.phase(self.handles.get(&instance)?).await? {
            Phase::Starting => State::Starting,
            Phase::Running => State::Running,
            Phase::Exited => State::Exited,
        })
    }

    async fn log_tail(&mut self, instance: Resource<InstanceHandle>, lines: u32) -> CallResult<String> {
        let tail = self.services.log_tail(self.handles.get(&instance)?, lines as usize).await?;
        Ok(self.log.masker().text(&tail))
    }

    async fn promote(&mut self, instance: Resource<InstanceHandle>) -> CallResult<()> {
        let handle = self.handles.get(&instance)?.clone();
        Ok(self.services.promote(&handle).await?)
    }

    async fn discard(&mut self, instance: Resource<InstanceHandle>) -> CallResult<()> {
        let handle = self.handles.get(&instance)?.clone();
        Ok(self.services.discard(&handle).await?)
    }

    /// Doesn't end the release: `promote`, `discard` or the end of the attempt decides about it.
    async fn drop(&mut self, instance: Resource<InstanceHandle>) -> wasmtime::Result<()> {
        self.handles.delete(instance)?;
        Ok(())
    }
}

impl Host for Attempt {
    async fn current(&mut self, service: String) -> CallResult<Option<String>> {
        Ok(self.services.current(&service).await?)
    }
}
