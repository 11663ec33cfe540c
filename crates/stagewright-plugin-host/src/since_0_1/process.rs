//! `process`.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use stagewright_process::{ExitStatus, Source};
use wasmtime::component::Resource;

use super::size_of;
use super::stagewright::stage::process::{self as wit, Host, HostChild, HostCommand};
use crate::attempt::Attempt;
use crate::call::CallResult;
use crate::capability::process::{ChildHandle, CommandBuilder};
use crate::capability::secrets::SecretHandle;
use crate::error::{CapabilityError, ErrorCode};

impl HostCommand for Attempt {
    async fn new(&mut self, program: String) -> wasmtime::Result<Resource<CommandBuilder>> {
        let size = program.len();
        self.handles.push_sized(CommandBuilder::new(program), size)
    }

    async fn args(&mut self, command: Resource<CommandBuilder>, args: Vec<String>) -> wasmtime::Result<()> {
        self.handles.grow(&command, size_of(&args))?.args.extend(args);
        Ok(())
    }

    async fn env(&mut self, command: Resource<CommandBuilder>, name: String, value: String) -> wasmtime::Result<()> {
        self.handles.grow(&command, name.len() + value.len())?.env(name, value);
        Ok(())
    }

    async fn secret_env(
        &mut self,
        command: Resource<CommandBuilder>,
        name: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        self.handles.grow(&command, name.len())?.secret_env(name, &secret);
        Ok(())
    }

    async fn current_dir(&mut self, command: Resource<CommandBuilder>, path: String) -> wasmtime::Result<()> {
        let size = path.len();
        self.handles.grow(&command, size)?.current_dir = Some(path);
        Ok(())
    }

    async fn stdin(&mut self, command: Resource<CommandBuilder>, data: Vec<u8>) -> wasmtime::Result<()> {
        let size = data.len();
        self.handles.grow(&command, size)?.stdin = Some(data);
        Ok(())
    }

    async fn timeout_ms(&mut self, command: Resource<CommandBuilder>, timeout: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.timeout = Some(Duration::from_millis(timeout.into()));
        Ok(())
    }

    async fn capture(&mut self, command: Resource<CommandBuilder>, max_bytes: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.capture = Some(max_bytes.into());
        Ok(())
    }

    async fn quiet(&mut self, command: Resource<CommandBuilder>) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.quiet = true;
        Ok(())
    }

    async fn spawn(&mut self, command: Resource<CommandBuilder>) -> CallResult<Resource<ChildHandle>> {
        let command = self.handles.get(&command)?.clone();
        let child = self.spawn_unless_cancelled(command).await?;
        Ok(self.handles.push(child)?)
    }

    async fn drop(&mut self, command: Resource<CommandBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(command)?;
        Ok(())
    }
}

impl HostChild for Attempt {
    async fn next_chunk(&mut self, child: Resource<ChildHandle>) -> CallResult<Option<wit::Chunk>> {
        let chunk = self.handles.get_mut(&child)?.next_chunk().await?;
        Ok(chunk.map(|(source, data)| wit::Chunk {
            source: match source {
                Source::Stdout => wit::Source::Stdout,
                Source::Stderr => wit::Source::Stderr,
            },
            data,
        }))
    }

    async fn wait(&mut self, child: Resource<ChildHandle>) -> CallResult<wit::ExitStatus> {
        let child = self.handles.get_mut(&child)?;
        let ExitStatus { code, signal } = child.wait_unless_stopped(&self.cancel).await?;
        Ok(wit::ExitStatus { code, signal })
    }

    async fn kill(&mut self, child: Resource<ChildHandle>) -> CallResult<()> {
        self.handles.get(&child)?.kill();
        Ok(())
    }

    async fn drop(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.handles.delete(child)?.kill();
        Ok(())
    }
}

impl Host for Attempt {
    async fn wait_any(&mut self, children: Vec<Resource<ChildHandle>>) -> CallResult<u32> {
        let mut ends = Vec::new();
        for child in &children {
            ends.push(Box::pin(self.handles.get(child)?.ended()));
        }
        if ends.is_empty() {
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, "no child process to wait for").into());
        }
        let first = poll_fn(|context| {
            let done = ends.iter_mut().position(|end| end.as_mut().poll(context).is_ready());
            done.map_or(Poll::Pending, Poll::Ready)
        });
        Ok(u32::try_from(first.await).unwrap_or(u32::MAX))
    }
}
