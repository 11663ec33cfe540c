//! The resources that several interfaces share.

use std::cell::RefCell;
use std::time::Duration;

use crate::duration::millis;
use crate::fake::report::Wait;
use crate::fake::rules;
use crate::{ErrorCode, Position, Retry};

/// The error of a call. All of it is in the plain [`crate::Error`].
#[derive(Debug)]
pub(crate) struct Error(Box<RefCell<crate::Error>>);

impl Error {
    pub(crate) fn new(code: &ErrorCode, message: &str) -> Error {
        Error(Box::new(RefCell::new(crate::Error::new(code.clone(), message))))
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.0.borrow().code.clone()
    }

    pub(crate) fn message(&self) -> String {
        self.0.borrow().message.clone()
    }

    pub(crate) fn causes(&self) -> Vec<String> {
        self.0.borrow().causes.clone()
    }

    pub(crate) fn add_cause(&self, cause: &str) {
        self.0.borrow_mut().causes.push(cause.to_owned());
    }

    pub(crate) fn help(&self) -> Option<String> {
        self.0.borrow().help.clone()
    }

    pub(crate) fn set_help(&self, help: &str) {
        self.0.borrow_mut().help = Some(help.to_owned());
    }

    pub(crate) fn retryable(&self) -> Option<bool> {
        match self.0.borrow().retry {
            Retry::Unknown => None,
            Retry::Never => Some(false),
            Retry::Anytime | Retry::After(_) => Some(true),
        }
    }

    pub(crate) fn set_retryable(&self, retryable: bool) {
        self.0.borrow_mut().retry = if retryable { Retry::Anytime } else { Retry::Never };
    }

    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        match self.0.borrow().retry {
            Retry::After(delay) => Some(millis(delay)),
            Retry::Unknown | Retry::Never | Retry::Anytime => None,
        }
    }

    pub(crate) fn set_retry_after_ms(&self, delay: u64) {
        self.0.borrow_mut().retry = Retry::After(Duration::from_millis(delay));
    }

    pub(crate) fn file(&self) -> Option<(String, Option<Position>)> {
        self.0.borrow().file.as_deref().cloned()
    }

    pub(crate) fn set_file(&self, path: &str, position: Option<Position>) {
        self.0.borrow_mut().file = rules::path(path).ok().map(|path| Box::new((path, position)));
    }
}

/// A durable wait, for `run` to return.
#[derive(Debug)]
pub(crate) struct Suspension(RefCell<Wait>);

impl Suspension {
    pub(crate) fn new(token: &str, reason: &str) -> Suspension {
        let (token, reason) = (token.to_owned(), reason.to_owned());
        Suspension(RefCell::new(Wait { token, reason, poll_after: None, expires: None }))
    }

    pub(crate) fn poll_after_ms(&self, delay: u64) {
        self.0.borrow_mut().poll_after = Some(Duration::from_millis(delay));
    }

    pub(crate) fn expires_ms(&self, delay: u64) {
        self.0.borrow_mut().expires = Some(Duration::from_millis(delay));
    }

    /// What the host learns when `run` returns it.
    pub(crate) fn wait(&self) -> Wait {
        self.0.borrow().clone()
    }
}
