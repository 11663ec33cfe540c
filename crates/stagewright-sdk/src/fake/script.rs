//! What programs, servers and services do when the stage calls on them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Error;
use crate::process::{ExitStatus, Source};
use crate::service::State;

/// Scripts of one kind. Each answers once, in order; the last one that fits keeps answering.
#[derive(Clone, Debug)]
pub(super) struct Scripts<S> {
    entries: Vec<(S, bool)>,
}

impl<S: Clone> Scripts<S> {
    pub(super) fn new() -> Scripts<S> {
        Scripts { entries: Vec::new() }
    }

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

/// What a program prints, writes and returns.
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
    /// Fits a program whose first arguments are these. Prints nothing and returns 0 unless told otherwise.
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

    /// Ends with a code.
    #[must_use]
    pub fn exit(mut self, code: i32) -> ProcessScript {
        self.status = ExitStatus { code: Some(code), signal: None };
        self
    }

    /// Ends by a signal.
    #[must_use]
    pub fn signal(mut self, signal: i32) -> ProcessScript {
        self.status = ExitStatus { code: None, signal: Some(signal) };
        self
    }

    /// Writes a file of the workspace.
    #[must_use]
    pub fn writes(mut self, path: &str, content: impl Into<Vec<u8>>) -> ProcessScript {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    /// How long it runs.
    #[must_use]
    pub fn takes(mut self, duration: Duration) -> ProcessScript {
        self.takes = duration;
        self
    }
}

/// What a server answers.
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
    /// Fits a method and a whole URL. Answers 200 with an empty body unless told otherwise.
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

    /// Fits a `GET`.
    pub fn get(url: &str) -> HttpScript {
        HttpScript::new("GET", url)
    }

    /// Fits a `POST`.
    pub fn post(url: &str) -> HttpScript {
        HttpScript::new("POST", url)
    }

    /// The status.
    #[must_use]
    pub fn status(mut self, status: u16) -> HttpScript {
        self.status = status;
        self
    }

    /// A header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> HttpScript {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> HttpScript {
        self.body = body.into();
        self
    }

    /// How long the answer takes.
    #[must_use]
    pub fn takes(mut self, duration: Duration) -> HttpScript {
        self.takes = duration;
        self
    }

    /// No answer comes, but this.
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
}

impl ServiceScript {
    /// Fits a service by name. Runs at once, at `http://127.0.0.1:41873`, unless told otherwise.
    pub fn new(service: &str) -> ServiceScript {
        ServiceScript {
            service: service.to_owned(),
            address: "http://127.0.0.1:41873".to_owned(),
            states: VecDeque::from([State::Running]),
            log: String::new(),
            error: None,
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(mut self, address: &str) -> ServiceScript {
        self.address = address.to_owned();
        self
    }

    /// What it is found in, one look after the other; the last one stays.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> ServiceScript {
        self.states = states.into_iter().collect();
        self
    }

    /// What it wrote.
    #[must_use]
    pub fn log(mut self, log: &str) -> ServiceScript {
        self.log = log.to_owned();
        self
    }

    /// It can't be started.
    #[must_use]
    pub fn error(mut self, error: Error) -> ServiceScript {
        self.error = Some(error);
        self
    }
}
