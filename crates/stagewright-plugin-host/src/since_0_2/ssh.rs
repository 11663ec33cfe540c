//! `ssh`.

use std::time::Duration;

use wasmtime::component::Resource;

use super::stagewright::ssh::ssh::{Host, HostCommand, HostOutput};
use super::{Answer, size_of};
use crate::attempt::Attempt;
use crate::capability::secrets::{LONGEST_SECRET, SecretHandle};
use crate::capability::ssh::{CommandInput, RemoteCommand, RemoteOutput};

impl HostCommand for Attempt {
    async fn new(
        &mut self,
        credential: String,
        host: String,
        program: String,
    ) -> wasmtime::Result<Resource<RemoteCommand>> {
        let size = credential.len() + host.len() + program.len();
        self.handles.push_sized(RemoteCommand::new(credential, host, program), size)
    }

    async fn args(&mut self, command: Resource<RemoteCommand>, args: Vec<String>) -> wasmtime::Result<()> {
        self.handles.grow(&command, size_of(&args))?.args.extend(args);
        Ok(())
    }

    async fn input(&mut self, command: Resource<RemoteCommand>, data: Vec<u8>) -> wasmtime::Result<()> {
        let size = data.len();
        self.handles.grow(&command, size)?.append(data);
        Ok(())
    }

    async fn input_secret(
        &mut self,
        command: Resource<RemoteCommand>,
        value: Resource<SecretHandle>,
        encoding: String,
    ) -> wasmtime::Result<()> {
        let secret = self.handles.get(&value)?.clone();
        self.handles.grow(&command, LONGEST_SECRET)?.append_secret(secret, &encoding);
        Ok(())
    }

    async fn input_file(&mut self, command: Resource<RemoteCommand>, path: String) -> wasmtime::Result<()> {
        let size = path.len();
        self.handles.grow(&command, size)?.input = CommandInput::File(path);
        Ok(())
    }

    async fn input_artifact(&mut self, command: Resource<RemoteCommand>, name: String) -> wasmtime::Result<()> {
        let size = name.len();
        self.handles.grow(&command, size)?.input = CommandInput::Artifact(name);
        Ok(())
    }

    async fn timeout_ms(&mut self, command: Resource<RemoteCommand>, timeout: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.timeout = Some(Duration::from_millis(timeout));
        Ok(())
    }

    async fn read_only(&mut self, command: Resource<RemoteCommand>) -> wasmtime::Result<()> {
        self.handles.get_mut(&command)?.read_only = true;
        Ok(())
    }

    async fn run(&mut self, command: Resource<RemoteCommand>) -> Answer<Resource<RemoteOutput>> {
        let command = self.handles.get(&command)?.clone();
        match self.remote_hosts.run(&command).await {
            Ok(output) => {
                let size = output.stdout.len() + output.stderr.len();
                Ok(Ok(self.handles.push_sized(output, size)?))
            }
            Err(error) => self.answer(Err(error)),
        }
    }

    async fn drop(&mut self, command: Resource<RemoteCommand>) -> wasmtime::Result<()> {
        self.handles.delete(command)?;
        Ok(())
    }
}

impl HostOutput for Attempt {
    async fn exit_code(&mut self, output: Resource<RemoteOutput>) -> wasmtime::Result<i32> {
        Ok(self.handles.get(&output)?.exit_code)
    }

    async fn stdout(&mut self, output: Resource<RemoteOutput>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.handles.get(&output)?.stdout.clone())
    }

    async fn stderr(&mut self, output: Resource<RemoteOutput>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.handles.get(&output)?.stderr.clone())
    }

    async fn drop(&mut self, output: Resource<RemoteOutput>) -> wasmtime::Result<()> {
        self.handles.delete(output)?;
        Ok(())
    }
}

impl Host for Attempt {}
