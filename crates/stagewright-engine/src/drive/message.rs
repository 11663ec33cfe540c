//! Messages of running attempts: their output, their findings and requests for effects.

use stagewright_model::StageIndex;

use super::{DriveError, Driver};
use crate::event::{EventKind, Rollout};
use crate::lines::LogChunk;
use crate::port::{AttemptMessage, AttemptMessageKind, Delivery, EffectRefused, EffectReply, StoreError};

impl Driver {
    pub(super) fn on_message(&mut self, delivery: Delivery) -> Result<(), DriveError> {
        let Delivery { message: AttemptMessage { stage, attempt, launch, kind }, reply } = delivery;
        // Messages of an abandoned attempt are dropped: a later launch may be running in its place. An attempt whose
        // task has finished can still have messages in the channel. Its lines and findings are kept, but an effect that
        // it requested is refused: it can't happen any more, and its intent would leave the attempt unresolved.
        let running = self.interrupts.get(&stage).filter(|running| running.launch == launch);
        let is_effect =
            matches!(kind, AttemptMessageKind::EffectRequested { .. } | AttemptMessageKind::RolloutRecorded(_));
        if running.is_none_or(|running| is_effect && running.task.is_finished()) {
            return Ok(());
        }
        let at = self.clock.now();
        match kind {
            AttemptMessageKind::Lines(stream, lines) => {
                let seq = self.last_seq();
                self.logs.append(at, seq, stage, attempt, stream, &lines)?;
                self.commit(false)?;
                let chunk = LogChunk { seq, at, stage, attempt, stream, lines: &lines };
                for observer in &mut self.observers {
                    observer.on_lines(&chunk);
                }
            }
            AttemptMessageKind::Progress { message, current, total } => {
                self.commit(false)?;
                self.observe_unrecorded(at, EventKind::Progress { stage, message, current, total });
            }
            AttemptMessageKind::Summary(markdown) => self.record_message(EventKind::Summary { stage, markdown })?,
            AttemptMessageKind::CacheLookedUp { key, hit_from } => {
                self.record_message(EventKind::CacheLookedUp { stage, attempt, key, hit_from })?;
            }
            AttemptMessageKind::Problem(problem) => self.record_message(EventKind::Problem { stage, problem })?,
            AttemptMessageKind::Tests(cases) => {
                self.record_message(EventKind::TestsReported { stage, attempt, cases })?;
            }
            AttemptMessageKind::Metrics(metrics) => {
                self.record_message(EventKind::MetricsReported { stage, attempt, metrics })?;
            }
            AttemptMessageKind::EffectRequested { what } => {
                let allowed = self.allow_effect(stage, attempt, what)?;
                answer(reply, allowed);
            }
            AttemptMessageKind::RolloutRecorded(rollout) => {
                let recorded = self.record_rollout(stage, attempt, rollout)?;
                answer(reply, recorded);
            }
        }
        Ok(())
    }

    /// Records how far an attempt's rollout is, if the attempt still holds its environment. Durable once it returns: the
    /// next step is decided on it.
    fn record_rollout(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        rollout: Box<Rollout>,
    ) -> Result<Result<(), EffectRefused>, DriveError> {
        let allowed = self.holds_environment(stage)?;
        let environment = self.scheduler.held_fence(stage).map(|(name, _)| name.to_owned());
        if let (Ok(()), Some(environment)) = (&allowed, environment) {
            self.record_message(EventKind::RolloutProgressed { stage, attempt, environment, rollout })?;
        }
        Ok(allowed)
    }

    /// Allows an attempt's effect if the attempt still holds its environment, once the intent is in the journal.
    fn allow_effect(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        what: String,
    ) -> Result<Result<(), EffectRefused>, DriveError> {
        let mut allowed = self.holds_environment(stage)?;
        if allowed.is_ok()
            && let Some(intent) = self.scheduler.intend_effect(self.clock.now(), stage, attempt, what)?
        {
            self.record(vec![intent])?;
            // Making the intent durable can take seconds on a slow disk, and no heartbeat is sent meanwhile. If the
            // lease expires in that time, another run can acquire the environment. The check is repeated after the
            // commit, so that as little time as possible passes between it and the effect; the target refuses a stale
            // fence that slips through.
            allowed = self.holds_environment(stage)?;
        }
        Ok(allowed)
    }

    fn holds_environment(&mut self, stage: StageIndex) -> Result<Result<(), EffectRefused>, StoreError> {
        let held_fence = self.scheduler.held_fence(stage).map(|(name, fence)| (name.to_owned(), fence));
        let Some((environment, fence)) = held_fence else { return Ok(Ok(())) };
        let holds = self.coordinator.holds(&self.run(), &environment, fence)?;
        Ok(if holds { Ok(()) } else { Err(EffectRefused::Superseded(environment)) })
    }

    fn record_message(&mut self, kind: EventKind) -> Result<(), DriveError> {
        let event = self.scheduler.event_for_message(self.clock.now(), kind)?;
        self.record(vec![event])
    }
}

/// Sends the answer that the attempt waits for. Sending fails only if the attempt has ended in the meantime.
fn answer(reply: Option<EffectReply>, answer: Result<(), EffectRefused>) {
    if let Some(reply) = reply {
        let _ = reply.send(answer);
    }
}
