//! Scripted programs, servers and services.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::bindings::stage::stagewright::stage::types as wire;
use crate::fake::state::on;
use crate::{Error, ErrorCode};

use super::run::secrets::Secret;

pub(crate) mod process {
    use super::*;
    use crate::bindings::stage::stagewright::stage::process::Chunk;
    use crate::fake::report::Spawned;
    use crate::fake::script::ProcessScript;
    use crate::process::ExitStatus;

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

        pub(crate) fn timeout_ms(&self, timeout: u32) {
            self.0.borrow_mut().timeout = Some(Duration::from_millis(timeout.into()));
        }

        pub(crate) fn capture(&self, max_bytes: u32) {
            self.0.borrow_mut().capture = Some(max_bytes);
        }

        pub(crate) fn quiet(&self) {
            self.0.borrow_mut().quiet = true;
        }

        pub(crate) fn spawn(&self) -> Result<Child, wire::Error> {
            let spawned = self.0.borrow().clone();
            on(|host| {
                host.check("process", &spawned.program)?;
                let fits = |script: &ProcessScript| {
                    script.program == spawned.program && spawned.args.starts_with(&script.args)
                };
                let missing = || {
                    let line = format!("{} {}", spawned.program, spawned.args.join(" "));
                    Error::new(ErrorCode::NotFound, format!("the fake host has no script for `{}`", line.trim_end()))
                };
                let mut script = host.processes.next(fits).ok_or_else(missing)?;
                for (path, content) in script.files.drain(..) {
                    host.files.insert(path, content);
                }
                if spawned.capture.is_none() {
                    script.chunks.clear();
                }
                let room = Some(spawned.capture.unwrap_or(0) as usize);
                host.spawned.push(spawned);
                Ok(Child { index: host.spawned.len() - 1, room: Cell::new(room), script: RefCell::new(script) })
            })
        }
    }

    #[derive(Debug)]
    pub(crate) struct Child {
        index: usize,
        /// How many more bytes of output the guest may read; none once the program has written more.
        room: Cell<Option<usize>>,
        script: RefCell<ProcessScript>,
    }

    impl Child {
        pub(crate) fn next_chunk(&self) -> Result<Option<Chunk>, wire::Error> {
            let Some(room) = self.room.get() else {
                let message = "the output exceeds the capture limit";
                return Err(Error::new(ErrorCode::ResourceExhausted, message).into());
            };
            let Some((source, mut data)) = self.script.borrow_mut().chunks.pop_front() else { return Ok(None) };
            self.room.set(room.checked_sub(data.len()));
            data.truncate(room);
            if data.is_empty() { self.next_chunk() } else { Ok(Some(Chunk { source, data })) }
        }

        pub(crate) fn wait(&self) -> Result<ExitStatus, wire::Error> {
            let takes = std::mem::take(&mut self.script.borrow_mut().takes);
            on(|host| host.pass(takes));
            Ok(self.script.borrow().status)
        }

        pub(crate) fn kill(&self) -> Result<(), wire::Error> {
            on(|host| host.spawned[self.index].killed = true);
            self.script.borrow_mut().status = ExitStatus { code: None, signal: Some(9) };
            Ok(())
        }
    }

    pub(crate) fn wait_any(children: &[&Child]) -> Result<u32, wire::Error> {
        let first = children.iter().enumerate().min_by_key(|(_, child)| child.script.borrow().takes);
        let (index, _) = first.ok_or_else(|| wire::Error::from(Error::invalid("no child to wait for")))?;
        Ok(u32::try_from(index).unwrap_or(u32::MAX))
    }
}

pub(crate) mod http {
    use super::*;
    use crate::fake::report::Sent;
    use crate::fake::script::HttpScript;

    #[derive(Debug)]
    pub(crate) struct Request {
        sent: RefCell<Sent>,
        body_file: RefCell<Option<String>>,
    }

    impl Request {
        pub(crate) fn new(method: &str, url: &str) -> Request {
            let sent = Sent { method: method.to_owned(), url: url.to_owned(), ..Sent::default() };
            Request { sent: RefCell::new(sent), body_file: RefCell::new(None) }
        }

        pub(crate) fn header(&self, name: &str, value: &str) {
            self.sent.borrow_mut().headers.push((name.to_owned(), value.to_owned()));
        }

        pub(crate) fn secret_header(&self, name: &str, prefix: &str, value: &Secret) {
            let header = (name.to_owned(), prefix.to_owned(), value.name.clone());
            self.sent.borrow_mut().secret_headers.push(header);
        }

        pub(crate) fn body(&self, data: &[u8]) {
            self.sent.borrow_mut().body = data.to_vec();
        }

        pub(crate) fn body_file(&self, path: &str) {
            *self.body_file.borrow_mut() = Some(path.to_owned());
        }

        pub(crate) fn timeout_ms(&self, timeout: u32) {
            self.sent.borrow_mut().timeout = Some(Duration::from_millis(timeout.into()));
        }

        pub(crate) fn max_redirects(&self, count: u32) {
            self.sent.borrow_mut().max_redirects = Some(count);
        }

        pub(crate) fn send(&self) -> Result<Response, wire::Error> {
            if let Some(path) = self.body_file.borrow().as_deref() {
                self.sent.borrow_mut().body = super::super::workspace::read(path)?;
            }
            let sent = self.sent.borrow().clone();
            on(|host| {
                host.check("http", &sent.url)?;
                let fits = |script: &HttpScript| script.method == sent.method && script.url == sent.url;
                let missing = || {
                    let message = format!("the fake host has no script for `{} {}`", sent.method, sent.url);
                    Error::new(ErrorCode::Unavailable, message).retryable()
                };
                let script = host.requests.next(fits).ok_or_else(missing)?;
                host.sent.push(sent);
                host.pass(script.takes);
                match script.error {
                    Some(error) => Err(error.into()),
                    None => Ok(Response { offset: Cell::new(0), script }),
                }
            })
        }
    }

    #[derive(Debug)]
    pub(crate) struct Response {
        offset: Cell<usize>,
        script: HttpScript,
    }

    impl Response {
        pub(crate) fn status(&self) -> u16 {
            self.script.status
        }

        pub(crate) fn header(&self, name: &str) -> Option<String> {
            let found = self.script.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        }

        pub(crate) fn read(&self, max_bytes: u32) -> Result<Vec<u8>, wire::Error> {
            let rest = &self.script.body[self.offset.get()..];
            let piece = &rest[..rest.len().min(max_bytes as usize)];
            self.offset.set(self.offset.get() + piece.len());
            Ok(piece.to_vec())
        }

        pub(crate) fn save(&self, path: &str) -> Result<u64, wire::Error> {
            let rest = self.read(u32::MAX)?;
            super::super::workspace::write(path, &rest)?;
            Ok(rest.len() as u64)
        }
    }
}

pub(crate) mod service {
    use super::*;
    use crate::fake::report;
    use crate::fake::script::ServiceScript;
    use crate::service::State;

    #[derive(Debug)]
    pub(crate) struct Release(RefCell<report::Release>);

    impl Release {
        pub(crate) fn new(service: &str, image: &str) -> Release {
            let release =
                report::Release { service: service.to_owned(), image: image.to_owned(), ..report::Release::default() };
            Release(RefCell::new(release))
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

        pub(crate) fn port(&self, port: u16) {
            self.0.borrow_mut().port = port;
        }

        pub(crate) fn keep(&self, releases: u32) {
            self.0.borrow_mut().keep = Some(releases);
        }

        pub(crate) fn stop_grace_ms(&self, grace: u32) {
            self.0.borrow_mut().stop_grace = Some(Duration::from_millis(grace.into()));
        }

        pub(crate) fn start(&self) -> Result<Instance, wire::Error> {
            let release = self.0.borrow().clone();
            on(|host| {
                host.check("service", &release.service)?;
                let missing = || {
                    let message = format!("the fake host has no script for service `{}`", release.service);
                    Error::new(ErrorCode::NotFound, message)
                };
                let script = host.services.next(|script| script.service == release.service).ok_or_else(missing)?;
                if let Some(error) = script.error {
                    return Err(error.into());
                }
                host.releases.push(release);
                Ok(Instance { index: host.releases.len() - 1, script: RefCell::new(script) })
            })
        }
    }

    #[derive(Debug)]
    pub(crate) struct Instance {
        index: usize,
        script: RefCell<ServiceScript>,
    }

    impl Instance {
        pub(crate) fn release(&self) -> String {
            format!("release-{}", self.index + 1)
        }

        pub(crate) fn address(&self) -> String {
            self.script.borrow().address.clone()
        }

        pub(crate) fn state(&self) -> Result<State, wire::Error> {
            let states = &mut self.script.borrow_mut().states;
            let next = if states.len() > 1 { states.pop_front() } else { states.front().copied() };
            next.ok_or_else(|| Error::internal("the service's script has no state").into())
        }

        pub(crate) fn log_tail(&self, lines: u32) -> Result<String, wire::Error> {
            let log = &self.script.borrow().log;
            let all: Vec<&str> = log.lines().collect();
            Ok(all[all.len().saturating_sub(lines as usize)..].join("\n"))
        }

        pub(crate) fn promote(&self) -> Result<(), wire::Error> {
            on(|host| {
                let release = &mut host.releases[self.index];
                release.promoted = true;
                let current = serde_json::json!({
                    "release": self.release(),
                    "image": release.image,
                    "address": self.address(),
                    "since": u64::try_from((host.now + host.elapsed).as_millis()).unwrap_or(u64::MAX),
                    "fence": host.fence,
                    "state": "running",
                });
                host.current.insert(release.service.clone(), current);
                Ok(())
            })
        }

        pub(crate) fn discard(&self) -> Result<(), wire::Error> {
            on(|host| host.releases[self.index].discarded = true);
            Ok(())
        }
    }

    pub(crate) fn current(service: &str) -> Result<Option<String>, wire::Error> {
        on(|host| {
            host.check("service", service)?;
            Ok(host.current.get(service).map(ToString::to_string))
        })
    }
}
