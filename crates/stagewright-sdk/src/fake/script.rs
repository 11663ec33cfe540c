//! Scripts of programs, servers, services and hosts.

use std::collections::VecDeque;
use std::time::Duration;

use super::rules::inside;
use crate::Error;
use crate::process::{ExitStatus, Source};
use crate::service_state::State;

/// Scripts of one kind. Of those that match a call, each is used once, in order; the last one is used repeatedly.
#[derive(Clone, Debug)]
pub(super) struct Scripts<S> {
    entries: Vec<(S, bool)>,
}

impl<S> Default for Scripts<S> {
    fn default() -> Scripts<S> {
        Scripts { entries: Vec::new() }
    }
}

impl<S: Clone> Scripts<S> {
    pub(super) fn add(&mut self, script: S) {
        self.entries.push((script, false));
    }

    pub(super) fn next(&mut self, fits: impl Fn(&S) -> bool) -> Option<S> {
        let fitting: Vec<usize> = (0..self.entries.len()).filter(|&index| fits(&self.entries[index].0)).collect();
        let index = fitting.iter().copied().find(|&index| !self.entries[index].1).or(fitting.last().copied())?;
        self.entries[index].1 = true;
        Some(self.entries[index].0.clone())
    }
}

/// What a program prints, writes and exits with.
#[derive(Clone, Debug)]
pub struct ProcessScript {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) chunks: VecDeque<(Source, Vec<u8>)>,
    pub(super) status: ExitStatus,
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) takes: Duration,
}

impl ProcessScript {
    /// Matches a program whose arguments begin with `args`. By default it prints nothing and exits with 0.
    pub fn new<A: Into<String>>(program: &str, args: impl IntoIterator<Item = A>) -> ProcessScript {
        ProcessScript {
            program: program.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            chunks: VecDeque::new(),
            status: ExitStatus { code: Some(0), signal: None },
            files: Vec::new(),
            takes: Duration::ZERO,
        }
    }

    /// Prints to standard output.
    #[must_use]
    pub fn stdout(mut self, text: impl Into<Vec<u8>>) -> ProcessScript {
        self.chunks.push_back((Source::Stdout, text.into()));
        self
    }

    /// Prints to standard error.
    #[must_use]
    pub fn stderr(mut self, text: impl Into<Vec<u8>>) -> ProcessScript {
        self.chunks.push_back((Source::Stderr, text.into()));
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(mut self, code: i32) -> ProcessScript {
        self.status = ExitStatus { code: Some(code), signal: None };
        self
    }

    /// Makes a signal end the program.
    #[must_use]
    pub fn signal(mut self, signal: i32) -> ProcessScript {
        self.status = ExitStatus { code: None, signal: Some(signal) };
        self
    }

    /// Writes a file of the workspace.
    #[must_use]
    pub fn writes(mut self, path: &str, content: impl Into<Vec<u8>>) -> ProcessScript {
        self.files.push((inside(path), content.into()));
        self
    }

    /// Sets how long the program runs.
    #[must_use]
    pub fn takes(mut self, duration: Duration) -> ProcessScript {
        self.takes = duration;
        self
    }
}

/// What a server responds with.
#[derive(Clone, Debug)]
pub struct HttpScript {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) takes: Duration,
    pub(super) error: Option<Error>,
}

impl HttpScript {
    /// Matches a method and a whole URL. By default it responds with 200 and an empty body.
    pub fn new(method: &str, url: &str) -> HttpScript {
        HttpScript {
            method: method.to_owned(),
            url: url.to_owned(),
            status: 200,
            headers: Vec::new(),
            body: Vec::new(),
            takes: Duration::ZERO,
            error: None,
        }
    }

    /// Matches a `GET`.
    pub fn get(url: &str) -> HttpScript {
        HttpScript::new("GET", url)
    }

    /// Matches a `POST`.
    pub fn post(url: &str) -> HttpScript {
        HttpScript::new("POST", url)
    }

    /// Sets the status.
    #[must_use]
    pub fn status(mut self, status: u16) -> HttpScript {
        self.status = status;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> HttpScript {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> HttpScript {
        self.body = body.into();
        self
    }

    /// Sets how long the response takes.
    #[must_use]
    pub fn takes(mut self, duration: Duration) -> HttpScript {
        self.takes = duration;
        self
    }

    /// Makes the request fail.
    #[must_use]
    pub fn error(mut self, error: Error) -> HttpScript {
        self.error = Some(error);
        self
    }
}

/// How a release of a service behaves.
#[derive(Clone, Debug)]
pub struct ServiceScript {
    pub(super) service: String,
    pub(super) address: String,
    pub(super) states: VecDeque<State>,
    pub(super) log: String,
    pub(super) error: Option<Error>,
    pub(super) unfinished: Option<String>,
}

impl ServiceScript {
    /// Matches a service by name. By default its release is running at once, at `http://127.0.0.1:41873`.
    pub fn new(service: &str) -> ServiceScript {
        ServiceScript {
            service: service.to_owned(),
            address: "http://127.0.0.1:41873".to_owned(),
            states: VecDeque::from([State::Running]),
            log: String::new(),
            error: None,
            unfinished: None,
        }
    }

    /// Makes it a release with a proxy that an earlier attempt of the run has started from this image.
    #[must_use]
    pub fn unfinished(mut self, image: &str) -> ServiceScript {
        self.unfinished = Some(image.to_owned());
        self
    }

    /// Sets the address.
    #[must_use]
    pub fn address(mut self, address: &str) -> ServiceScript {
        self.address = address.to_owned();
        self
    }

    /// Sets the states that consecutive calls return. The last one repeats.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> ServiceScript {
        self.states = states.into_iter().collect();
        self
    }

    /// Sets the log.
    #[must_use]
    pub fn log(mut self, log: &str) -> ServiceScript {
        self.log = log.to_owned();
        self
    }

    /// Makes starting it fail.
    #[must_use]
    pub fn error(mut self, error: Error) -> ServiceScript {
        self.error = Some(error);
        self
    }
}

/// How a command on a host ends.
#[derive(Clone, Debug)]
pub struct SshScript {
    pub(super) host: String,
    pub(super) word: String,
    pub(super) exit_code: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) takes: Duration,
    pub(super) error: Option<Error>,
}

impl SshScript {
    /// Matches a command on `host` whose program, or one of whose arguments, is `word`. By default it writes nothing and
    /// exits with 0.
    pub fn new(host: &str, word: &str) -> SshScript {
        SshScript {
            host: host.to_owned(),
            word: word.to_owned(),
            exit_code: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            takes: Duration::ZERO,
            error: None,
        }
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(mut self, code: i32) -> SshScript {
        self.exit_code = code;
        self
    }

    /// Sets the standard output.
    #[must_use]
    pub fn stdout(mut self, text: impl Into<Vec<u8>>) -> SshScript {
        self.stdout = text.into();
        self
    }

    /// Sets the standard error.
    #[must_use]
    pub fn stderr(mut self, text: impl Into<Vec<u8>>) -> SshScript {
        self.stderr = text.into();
        self
    }

    /// Sets how long the command takes.
    #[must_use]
    pub fn takes(mut self, duration: Duration) -> SshScript {
        self.takes = duration;
        self
    }

    /// Makes the command fail to run.
    #[must_use]
    pub fn error(mut self, error: Error) -> SshScript {
        self.error = Some(error);
        self
    }
}
