//! `context`: the stage's identity, configuration and inputs; read-only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use stagewright_engine::{AttemptRequest, Call, Need, RunId};
use stagewright_model::{Permissions, PluginRef, StageIndex, Trust};
use tokio::time::Instant;

use crate::attempt::AttemptContext;
use crate::digest::hex;
use crate::stop::Cancel;

/// The outputs of all needs by the name of their stage, those of a matrix merged.
pub(crate) fn outputs_by_stage(needs: &[Need]) -> BTreeMap<String, Json> {
    let mut outputs: BTreeMap<String, serde_json::Map<String, Json>> = BTreeMap::new();
    for need in needs {
        let own = need.outputs.iter().map(|(name, value)| (name.clone(), value.clone()));
        outputs.entry(need.stage.clone()).or_default().extend(own);
    }
    outputs.into_iter().map(|(stage, outputs)| (stage, Json::Object(outputs))).collect()
}

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
    pub(crate) fn for_inspection(config: Json) -> Context {
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
            needs: Vec::new(),
            before: Default::default(),
            source: None,
            timeout: None,
            memory: None,
            log_limit: None,
            limits: Default::default(),
            declared: None,
            cache: None,
            failed_tests: None,
            resumption: None,
            rollout: None,
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

    /// The name of the stage's table: what follows `stages.` or `finally.`.
    pub(crate) fn stage_name(&self) -> &str {
        self.request.table.split_once('.').map_or("", |(_, name)| name)
    }

    /// Whether cancellation was requested.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_set()
    }

    /// The outputs of a need as an object; none if the stage doesn't need it.
    pub(crate) fn outputs_of(&self, stage: &str) -> Option<Json> {
        outputs_by_stage(&self.request.needs).remove(stage)
    }

    /// The attempt as a W3C `traceparent`. The ids are digests, so that an attempt has the same ones wherever it runs,
    /// and all attempts of a run belong to one trace.
    pub(crate) fn trace_context(&self) -> String {
        let AttemptRequest { run, stage_id, attempt, .. } = &*self.request;
        let trace = hex(&Sha256::digest(format!("trace\0{run}"))[..16]);
        let parent = hex(&Sha256::digest(format!("attempt\0{run}\0{stage_id}\0{attempt}"))[..8]);
        format!("00-{trace}-{parent}-01")
    }

    /// Time until the attempt's timeout; none when it has no timeout.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
