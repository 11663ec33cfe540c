//! `process`.

use std::time::Duration;

use stagewright_process::{ExitStatus, Source};
use wasmtime::component::Resource;

use super::stagewright::process::process::{self as wit, Host, HostChild, HostCommand};
use super::{Answer, size_of};
use crate::attempt::Attempt;
use crate::capability::poll::Pollable;
use crate::capability::process::{ChildHandle, CommandBuilder};
use crate::capability::secrets::{LONGEST_SECRET, SecretHandle};

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

    async fn append_stdin(&mut self, command: Resource<CommandBuilder>, data: Vec<u8>) -> wasmtime::Result<()> {
        let size = data.len();
        self.handles.grow(&command, size)?.append_stdin(&data);
        Ok(())
    }

    async fn append_stdin_secret(
        &mut self,
        command: Resource<CommandBuilder>,
        value: Resource<SecretHandle>,
        encoding: String,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        self.handles.grow(&command, LONGEST_SECRET)?.append_stdin_secret(&secret, &encoding);
        Ok(())
    }

    async fn timeout_ms(&mut self, command: Resource<CommandBuilder>, timeout: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.timeout = Some(Duration::from_millis(timeout));
        Ok(())
    }

    async fn capture(&mut self, command: Resource<CommandBuilder>, max_bytes: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.capture = Some(max_bytes);
        Ok(())
    }

    async fn quiet(&mut self, command: Resource<CommandBuilder>) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.quiet = true;
        Ok(())
    }

    async fn read_only(&mut self, command: Resource<CommandBuilder>) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.read_only = true;
        Ok(())
    }

    async fn spawn(&mut self, command: Resource<CommandBuilder>) -> Answer<Resource<ChildHandle>> {
        let command = self.handles.get(&command)?.clone();
        let spawned = self.spawn_unless_cancelled(command).await;
        self.answer_with_handle(spawned)
    }

    async fn drop(&mut self, command: Resource<CommandBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(command)?;
        Ok(())
    }
}

impl HostChild for Attempt {
    async fn next_chunk(&mut self, child: Resource<ChildHandle>) -> Answer<Option<wit::Chunk>> {
        let chunk = self.handles.get_mut(&child)?.next_chunk().await;
        self.answer(chunk.map(|chunk| {
            chunk.map(|(source, data)| wit::Chunk {
                source: match source {
                    Source::Stdout => wit::Source::Stdout,
                    Source::Stderr => wit::Source::Stderr,
                },
                data,
            })
        }))
    }

    async fn wait(&mut self, child: Resource<ChildHandle>) -> Answer<wit::ExitStatus> {
        let child = self.handles.get_mut(&child)?;
        let ended = child.wait_unless_stopped(&self.cancel).await;
        self.answer(ended.map(|ExitStatus { code, signal }| wit::ExitStatus { code, signal }))
    }

    async fn kill(&mut self, child: Resource<ChildHandle>) -> Answer<()> {
        self.handles.get(&child)?.kill();
        Ok(Ok(()))
    }

    async fn ended(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<Resource<Pollable>> {
        let ended = Pollable::new(self.handles.get(&child)?.ended());
        Ok(self.handles.push(ended)?)
    }

    async fn readable(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<Resource<Pollable>> {
        let readable = Pollable::new(self.handles.get(&child)?.readable());
        Ok(self.handles.push(readable)?)
    }

    async fn drop(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.handles.delete(child)?.kill();
        Ok(())
    }
}

impl Host for Attempt {}
