//! What an attempt gets when its plugin is called again after a gate.

use serde_json::{Value as Json, json};

use crate::event::{Decision, Gate, Signal};

/// With what an attempt continues after a gate that it opened itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Resumption {
    /// The answers to an approval, oldest first.
    Answers(Vec<Decision>),
    /// The end of a wait.
    Woken {
        /// The token of the wait.
        token: String,
        /// What ended it.
        cause: WakeCause,
        /// The payload of the signal; null after a poll.
        payload: Json,
        /// The answers to the last approval that the attempt asked for before the wait.
        decisions: Vec<Decision>,
    },
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeCause {
    /// Its time was reached.
    Poll,
    /// A signal.
    Signal,
}

impl Resumption {
    /// `before`: with what the attempt continued after the gate before this wait.
    pub(super) fn after_poll(wait: &Gate, before: Option<Resumption>) -> Resumption {
        let (token, decisions) = (wait.token.clone(), Resumption::decisions(before));
        Resumption::Woken { token, cause: WakeCause::Poll, payload: Json::Null, decisions }
    }

    pub(super) fn after_signal(signal: &Signal, before: Option<Resumption>) -> Resumption {
        let Signal { token, payload, .. } = signal.clone();
        Resumption::Woken { token, cause: WakeCause::Signal, payload, decisions: Resumption::decisions(before) }
    }

    fn decisions(before: Option<Resumption>) -> Vec<Decision> {
        match before {
            Some(Resumption::Answers(decisions) | Resumption::Woken { decisions, .. }) => decisions,
            None => Vec::new(),
        }
    }

    /// The value that the plugin gets; see [`AttemptRequest::resumption`](crate::AttemptRequest::resumption).
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Resumption::Answers(decisions) => {
                let mut resumption = json!(decisions.last());
                if let Json::Object(fields) = &mut resumption {
                    fields.insert("decisions".to_owned(), json!(decisions));
                }
                resumption
            }
            Resumption::Woken { token, cause, payload, decisions } => {
                let cause = match cause {
                    WakeCause::Poll => "poll",
                    WakeCause::Signal => "signal",
                };
                json!({ "token": token, "cause": cause, "payload": payload, "decisions": decisions })
            }
        }
    }
}
