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
        let command = self.handles.push(CommandBuilder::new(program))?;
        self.handles.keep(&command, size)?;
        Ok(command)
    }

    async fn args(&mut self, command: Resource<CommandBuilder>, args: Vec<String>) -> wasmtime::Result<()> {
        self.handles.keep(&command, size_of(&args))?;
        self.handles.get_mut(&command)?.args.extend(args);
        Ok(())
    }

    async fn env(&mut self, command: Resource<CommandBuilder>, name: String, value: String) -> wasmtime::Result<()> {
        self.handles.keep(&command, name.len() + value.len())?;
        self.handles.get_mut(&command)?.env(name, value);
        Ok(())
    }

    async fn secret_env(
        &mut self,
        command: Resource<CommandBuilder>,
        name: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        self.handles.keep(&command, name.len())?;
        self.handles.get_mut(&command)?.secret_env(name, &secret);
        Ok(())
    }

    async fn current_dir(&mut self, command: Resource<CommandBuilder>, path: String) -> wasmtime::Result<()> {
        self.handles.keep(&command, path.len())?;
        self.handles.get_mut(&command)?.current_dir = Some(path);
        Ok(())
    }

    async fn stdin(&mut self, command: Resource<CommandBuilder>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.handles.keep(&command, data.len())?;
        self.handles.get_mut(&command)?.stdin = Some(data);
        Ok(())
    }

    async fn timeout_ms(&mut self, command: Resource<CommandBuilder>, timeout: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.timeout = Some(Duration::from_millis(timeout.into()));
        Ok(())
    }

    async fn capture(&mut self, command: Resource<CommandBuilder>, max_bytes: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.capture = Some(max_bytes);
        Ok(())
    }

    async fn quiet(&mut self, command: Resource<CommandBuilder>) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.quiet = true;
        Ok(())
    }

    async fn spawn(&mut self, command: Resource<CommandBuilder>) -> CallResult<Resource<ChildHandle>> {
        let command = self.handles.get(&command)?.clone();
        if self.cancel.is_set() {
            let message = format!("`{}` was not started: the stage is being cancelled", command.program);
            return Err(CapabilityError::new(ErrorCode::Cancelled, message).into());
        }
        let child = self.processes.spawn(command).await?;
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
        let ended = child.wait().await;
        // Cancellation sends SIGTERM to the stage's programs, so a plugin that got the status of such a program would
        // report a crash.
        // It is checked after the program's end, because it may have been requested while the plugin waited.
        let status = if self.cancel.is_set() { child.unless_stopped(ended) } else { ended };
        let ExitStatus { code, signal } = status?;
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
