//! Programs of the machine, within the `process` grant. Their output streams to the stage's log, except with
//! [`Command::quiet`].

use std::fmt;
use std::time::Duration;

use crate::duration::millis;
use crate::poll::{self, Pollable};
use crate::secrets::Secret;
use crate::{Result, host::process as host};

pub use crate::bindings::imports::process::{ExitStatus, Source};

/// The default limit of [`Command::output`], in bytes.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// A program that hasn't been started yet.
#[derive(Debug)]
pub struct Command {
    inner: host::Command,
    limit: Option<u64>,
}

/// The output of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A line of a program's output, without its line end. Invalid UTF-8 is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The stream it was written to.
    pub source: Source,
    /// The text.
    pub text: &'a str,
}

impl Command {
    /// `program` is a name looked up in `PATH`, or a path.
    pub fn new(program: impl AsRef<str>) -> Command {
        Command { inner: host::Command::new(program.as_ref()), limit: None }
    }

    /// Adds arguments.
    pub fn args<A: Into<String>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Command {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.inner.args(&args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Command {
        self.inner.env(name, value);
        self
    }

    /// Sets variables of the environment.
    pub fn envs<'v>(&mut self, variables: impl IntoIterator<Item = (&'v String, &'v String)>) -> &mut Command {
        variables.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Sets a variable to a secret, which the guest doesn't see.
    pub fn secret_env(&mut self, name: &str, value: &Secret) -> &mut Command {
        self.inner.secret_env(name, &value.0);
        self
    }

    /// Sets the working folder, relative to the workspace.
    pub fn current_dir(&mut self, path: &str) -> &mut Command {
        self.inner.current_dir(path);
        self
    }

    /// Sets its standard input. Default: empty.
    pub fn stdin(&mut self, data: &[u8]) -> &mut Command {
        self.inner.stdin(data);
        self
    }

    /// Appends to its standard input, which [`Command::stdin`] replaces.
    ///
    /// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
    pub fn append_stdin(&mut self, data: &[u8]) -> &mut Command {
        self.inner.append_stdin(data);
        self
    }

    /// Appends a secret's value to its standard input, where other programs don't see it.
    ///
    /// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
    pub fn append_stdin_secret(&mut self, value: &Secret) -> &mut Command {
        self.inner.append_stdin_secret(&value.0, "plain");
        self
    }

    /// Appends a secret's value as double quotes have it between them, in a POSIX shell and in a configuration file of curl.
    ///
    /// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
    pub fn append_stdin_quoted_secret(&mut self, value: &Secret) -> &mut Command {
        self.inner.append_stdin_secret(&value.0, "quoted");
        self
    }

    /// Sets how long it may run before it is killed.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Command {
        self.inner.timeout_ms(millis(timeout));
        self
    }

    /// Sets the limit of captured output, in bytes; more is an error. The log gets all of it, unless [`Command::quiet`] is
    /// set.
    pub fn capture_limit(&mut self, bytes: u64) -> &mut Command {
        self.limit = Some(bytes);
        self
    }

    /// Keeps the output out of the log. Requires that the output is captured.
    pub fn quiet(&mut self) -> &mut Command {
        self.inner.quiet();
        self
    }

    /// Promises that the program only reads from what it reaches. [`crate::Reconcile::observe`] may start such programs
    /// alone.
    pub fn read_only(&mut self) -> &mut Command {
        self.inner.read_only();
        self
    }

    /// Runs it until it exits.
    ///
    /// # Errors
    /// When it can't be started. A program that fails isn't an error: see [`ExitStatus::success`].
    pub fn status(&mut self) -> Result<ExitStatus> {
        self.spawn_with(self.limit)?.wait()
    }

    /// Runs it until it exits, and returns its output.
    ///
    /// # Errors
    /// As [`Command::status`], and when it writes more than 16 MiB, or than [`Command::capture_limit`].
    pub fn output(&mut self) -> Result<Output> {
        let mut child = self.spawn_with(Some(self.limit.unwrap_or(OUTPUT_LIMIT)))?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some((source, data)) = child.next_chunk()? {
            match source {
                Source::Stdout => stdout.extend_from_slice(&data),
                Source::Stderr => stderr.extend_from_slice(&data),
            }
        }
        Ok(Output { status: child.wait()?, stdout, stderr })
    }

    /// Runs it until it exits, and calls `on_line` for each line of its output.
    ///
    /// # Errors
    /// As [`Command::status`].
    pub fn run_lines(&mut self, mut on_line: impl FnMut(Line<'_>)) -> Result<ExitStatus> {
        let (mut stdout, mut stderr) = (Lines::new(Source::Stdout), Lines::new(Source::Stderr));
        let status = self.run_chunks(|source, data| match source {
            Source::Stdout => stdout.push(data, &mut on_line),
            Source::Stderr => stderr.push(data, &mut on_line),
        })?;
        stdout.finish(&mut on_line);
        stderr.finish(&mut on_line);
        Ok(status)
    }

    /// Runs it until it exits, and calls `on_chunk` for each piece of its output. While `on_chunk` runs, the program blocks
    /// once its output fills the host's buffer.
    ///
    /// # Errors
    /// As [`Command::status`].
    pub fn run_chunks(&mut self, mut on_chunk: impl FnMut(Source, &[u8])) -> Result<ExitStatus> {
        let mut child = self.spawn_with(Some(self.limit.unwrap_or(u64::MAX)))?;
        while let Some((source, data)) = child.next_chunk()? {
            on_chunk(source, &data);
        }
        child.wait()
    }

    /// Starts it. Its output goes to the log, and to [`Child::next_chunk`] if [`Command::capture_limit`] is set.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&mut self) -> Result<Child> {
        self.spawn_with(self.limit)
    }

    fn spawn_with(&self, capture: Option<u64>) -> Result<Child> {
        if let Some(bytes) = capture {
            self.inner.capture(bytes);
        }
        Ok(Child(self.inner.spawn()?))
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Child(host::Child);

impl Child {
    /// The next piece of captured output; none at the end of both streams.
    ///
    /// # Errors
    /// When the stage is stopped.
    pub fn next_chunk(&mut self) -> Result<Option<(Source, Vec<u8>)>> {
        Ok(self.0.next_chunk()?.map(|chunk| (chunk.source, chunk.data)))
    }

    /// How it ended.
    ///
    /// # Errors
    /// When its timeout passed, or the stage is asked to stop.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.0.wait()?)
    }

    /// Ready once it has ended.
    pub fn ended(&self) -> Pollable {
        Pollable(self.0.ended())
    }

    /// Ready once [`Child::next_chunk`] returns without waiting.
    pub fn readable(&self) -> Pollable {
        Pollable(self.0.readable())
    }

    /// Kills it and all processes that it started.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&mut self) -> Result<()> {
        Ok(self.0.kill()?)
    }
}

/// The index of the first child that exits.
///
/// # Errors
/// As [`poll::wait_any`].
pub fn wait_any(children: &[&Child]) -> Result<usize> {
    let ended: Vec<Pollable> = children.iter().map(|child| child.ended()).collect();
    poll::wait_any(&ended.iter().collect::<Vec<_>>())
}

impl ExitStatus {
    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("no exit code"),
        }
    }
}

/// Splits a stream into lines.
struct Lines {
    source: Source,
    rest: Vec<u8>,
}

impl Lines {
    fn new(source: Source) -> Lines {
        Lines { source, rest: Vec::new() }
    }

    fn push(&mut self, data: &[u8], on_line: &mut impl FnMut(Line<'_>)) {
        self.rest.extend_from_slice(data);
        let mut start = 0;
        while let Some(length) = self.rest[start..].iter().position(|&byte| byte == b'\n') {
            self.emit(&self.rest[start..start + length], on_line);
            start += length + 1;
        }
        self.rest.drain(..start);
    }

    fn finish(self, on_line: &mut impl FnMut(Line<'_>)) {
        if !self.rest.is_empty() {
            self.emit(&self.rest, on_line);
        }
    }

    fn emit(&self, line: &[u8], on_line: &mut impl FnMut(Line<'_>)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        on_line(Line { source: self.source, text: &String::from_utf8_lossy(line) });
    }
}
