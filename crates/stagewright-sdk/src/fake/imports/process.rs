//! Scripted programs.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::files::check_folder;
use super::poll::Pollable;
use super::secrets::Secret;
use super::types;
use crate::bindings::imports::process::Chunk;
use crate::fake::report::Spawned;
use crate::fake::rules::{byte_size, exhausted};
use crate::fake::script::ProcessScript;
use crate::fake::state::{Interface, State, on};
use crate::process::ExitStatus;
use crate::{Error, ErrorCode, Permission, Result};

type Answer<T> = std::result::Result<T, types::Error>;

/// The most programs of an attempt that run at a time.
const CHILDREN: usize = 256;

#[derive(Debug)]
pub(crate) struct Command(RefCell<Spawned>);

impl Command {
    pub(crate) fn new(program: &str) -> Command {
        Command(RefCell::new(Spawned { program: program.to_owned(), ..Spawned::default() }))
    }

    pub(crate) fn args(&self, args: &[String]) {
        self.0.borrow_mut().args.extend_from_slice(args);
    }

    pub(crate) fn env(&self, name: &str, value: &str) {
        self.0.borrow_mut().env.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn secret_env(&self, name: &str, value: &Secret) {
        self.0.borrow_mut().secret_env.insert(name.to_owned(), value.name.clone());
    }

    pub(crate) fn current_dir(&self, path: &str) {
        self.0.borrow_mut().current_dir = Some(path.to_owned());
    }

    pub(crate) fn stdin(&self, data: &[u8]) {
        self.0.borrow_mut().stdin = data.to_vec();
    }

    pub(crate) fn append_stdin(&self, data: &[u8]) {
        self.0.borrow_mut().stdin.extend_from_slice(data);
    }

    pub(crate) fn append_stdin_secret(&self, value: &Secret, encoding: &str) {
        let form = if encoding == "quoted" { "quoted secret" } else { "secret" };
        self.append_stdin(format!("{{{form} {}}}", value.name).as_bytes());
    }

    pub(crate) fn timeout_ms(&self, timeout: u64) {
        self.0.borrow_mut().timeout = Some(Duration::from_millis(timeout));
    }

    pub(crate) fn capture(&self, max_bytes: u64) {
        self.0.borrow_mut().capture = Some(max_bytes);
    }

    pub(crate) fn quiet(&self) {
        self.0.borrow_mut().quiet = true;
    }

    pub(crate) fn read_only(&self) {
        self.0.borrow_mut().read_only = true;
    }

    pub(crate) fn spawn(&self) -> Answer<Child> {
        let spawned = self.0.borrow().clone();
        on(|host| Ok(start(host, spawned)?))
    }
}

fn start(host: &mut State, spawned: Spawned) -> Result<Child> {
    let program = spawned.program.clone();
    if host.cancelled {
        return Err(Error::cancelled(format!("`{program}` was not started: the stage is being cancelled")));
    }
    host.grant(Permission::Process, &[&program], &format!("start the program `{program}`"))?;
    host.fault(Interface::Process, &program)?;
    if spawned.quiet && spawned.capture.is_none() {
        let message = format!("the output of `{program}` would be lost: `quiet` requires `capture`");
        return Err(Error::invalid(message));
    }
    if host.children.iter().filter(|end| **end > host.elapsed).count() >= CHILDREN {
        return Err(exhausted(format!("could not start `{program}`: the stage already runs {CHILDREN} programs"))
            .help("wait for some to end"));
    }
    spawned.current_dir.as_deref().map_or(Ok(()), |path| check_folder(host, path))?;
    let fits = |script: &ProcessScript| script.program == program && spawned.args.starts_with(&script.args);
    let mut script = host.processes.next(fits).ok_or_else(|| {
        let line = format!("{program} {}", spawned.args.join(" "));
        Error::new(ErrorCode::NotFound, format!("the fake host has no script for `{}`", line.trim_end()))
    })?;
    if !spawned.read_only {
        host.announce(&format!("run {program}"))?;
    }
    for (path, content) in script.files.drain(..) {
        host.files.insert(path, content);
    }
    let end = match spawned.timeout.filter(|timeout| *timeout < script.takes) {
        Some(timeout) => {
            let message = format!("`{program}` took longer than {timeout:?} and was killed");
            End { at: host.elapsed + timeout, status: Err(Error::new(ErrorCode::DeadlineExceeded, message)) }
        }
        None => End { at: host.elapsed + script.takes, status: Ok(script.status) },
    };
    let (capture, index) = (spawned.capture, host.spawned.len());
    host.spawned.push(spawned);
    host.children.push(end.at);
    let room = Cell::new(capture.map_or(0, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
    Ok(Child {
        index,
        program,
        capture,
        room,
        overflow: Cell::new(false),
        script: RefCell::new(script),
        end: RefCell::new(end),
    })
}

/// When and how a program ends.
#[derive(Debug)]
struct End {
    at: Duration,
    status: Result<ExitStatus>,
}

#[derive(Debug)]
pub(crate) struct Child {
    index: usize,
    program: String,
    capture: Option<u64>,
    /// How many more bytes of output are captured.
    room: Cell<usize>,
    /// Whether the program has written more than that.
    overflow: Cell<bool>,
    script: RefCell<ProcessScript>,
    end: RefCell<End>,
}

impl Child {
    pub(crate) fn next_chunk(&self) -> Answer<Option<Chunk>> {
        let program = &self.program;
        let Some(limit) = self.capture else {
            let message = format!("the output of `{program}` isn't captured");
            return Err(Error::failed(message).help("call `capture` before `spawn`").into());
        };
        while let Some((source, mut data)) = self.script.borrow_mut().chunks.pop_front() {
            self.overflow.set(self.overflow.get() || data.len() > self.room.get());
            data.truncate(self.room.get());
            self.room.set(self.room.get() - data.len());
            if !data.is_empty() {
                return Ok(Some(Chunk { source, data }));
            }
        }
        on(|host| host.pass_until(self.end.borrow().at));
        if self.overflow.get() {
            let limit = byte_size(limit);
            return Err(exhausted(format!("the output of `{program}` exceeds the capture limit of {limit}")).into());
        }
        Ok(None)
    }

    pub(crate) fn wait(&self) -> Answer<ExitStatus> {
        let End { at, status } = &*self.end.borrow();
        let is_cancelled = on(|host| {
            host.pass_until(*at);
            host.cancelled
        });
        match status {
            Ok(ExitStatus { code: Some(0), signal: None }) => {}
            _ if is_cancelled => {
                return Err(Error::cancelled(format!("`{}` was stopped with its stage", self.program)).into());
            }
            _ => {}
        }
        Ok(status.clone()?)
    }

    pub(crate) fn kill(&self) -> Answer<()> {
        let mut end = self.end.borrow_mut();
        on(|host| {
            host.spawned[self.index].killed = true;
            // A program that has ended keeps its status.
            if end.at > host.elapsed {
                *end = End { at: host.elapsed, status: Ok(ExitStatus { code: None, signal: Some(9) }) };
                host.children[self.index] = host.elapsed;
            }
        });
        Ok(())
    }

    pub(crate) fn ended(&self) -> Pollable {
        Pollable::at(self.end.borrow().at)
    }

    /// A script prints at once, so there is always something to read, or the end to wait for.
    pub(crate) fn readable(&self) -> Pollable {
        match self.script.borrow().chunks.is_empty() {
            true => self.ended(),
            false => Pollable::at(Duration::ZERO),
        }
    }
}
