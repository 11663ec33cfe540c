//! `context`: the stage's identity, configuration and inputs; read-only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stagewright_engine::{AttemptRequest, Call, RunId};
use stagewright_model::{Permissions, PluginRef, StageIndex, Trust};
use tokio::time::Instant;

use crate::attempt::AttemptContext;
use crate::stop::Cancel;

/// The request of an attempt, and how much time it has left.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    request: Arc<AttemptRequest>,
    cancel: Cancel,
    deadline: Option<Instant>,
}

impl Context {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Context {
        Context { request: attempt.request.clone(), cancel: attempt.cancel.clone(), deadline: attempt.deadline }
    }

    /// For `validate`, which checks a `with` table before there is a run.
    pub(crate) fn for_inspection(config: serde_json::Value) -> Context {
        let request = AttemptRequest {
            run: RunId(String::new()),
            pipeline: String::new(),
            stage: StageIndex(0),
            stage_id: String::new(),
            table: String::new(),
            attempt: 1,
            call: Call::Run,
            uses: PluginRef::Builtin(String::new()),
            trust: Trust::Component,
            plugin: None,
            config,
            env: BTreeMap::new(),
            permissions: Permissions::default(),
            environment: None,
            needs: BTreeMap::new(),
            timeout: None,
            memory: None,
            log_limit: None,
            limits: Default::default(),
            declared: None,
            cache: None,
            resumption: None,
            rehearsal: None,
            basis: Default::default(),
            folder: None,
        };
        Context { request: Arc::new(request), cancel: Cancel::default(), deadline: None }
    }

    /// The request of the attempt.
    pub(crate) fn request(&self) -> &AttemptRequest {
        &self.request
    }

    /// Whether cancellation was requested.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_set()
    }

    /// Time until the attempt's timeout; none when it has no timeout.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
