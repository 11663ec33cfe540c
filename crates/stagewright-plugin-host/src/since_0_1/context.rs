//! `context`.

use super::stagewright::stage::context::Host;
use crate::capability::context::Context;

impl Host for Context {
    async fn pipeline(&mut self) -> wasmtime::Result<String> {
        Ok(self.request().pipeline.clone())
    }

    async fn stage(&mut self) -> wasmtime::Result<String> {
        Ok(self.request().stage_id.clone())
    }

    async fn run_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.request().run.0.clone())
    }

    async fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.request().attempt)
    }

    async fn rehearsal(&mut self) -> wasmtime::Result<bool> {
        Ok(self.request().rehearsal.is_some())
    }

    async fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.is_cancelled())
    }

    async fn remaining_ms(&mut self) -> wasmtime::Result<Option<u32>> {
        Ok(self.remaining().map(|remaining| u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX)))
    }

    async fn trace_parent(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(Some(self.trace_context()))
    }

    async fn environment(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.request().environment.as_ref().map(|environment| environment.name.clone()))
    }

    async fn config(&mut self) -> wasmtime::Result<String> {
        Ok(self.request().config.to_string())
    }

    async fn input(&mut self, stage: String) -> wasmtime::Result<Option<String>> {
        Ok(self.outputs_of(&stage).map(|outputs| outputs.to_string()))
    }

    async fn variable(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.request().env.get(&name).cloned())
    }

    async fn resumption(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.request().resumption.as_ref().map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stagewright_model::Permissions;
    use tokio::time::Instant;

    use super::*;
    use crate::attempt::AttemptContext;
    use crate::testing::TestAttempt;

    #[tokio::test(start_paused = true)]
    async fn a_guest_reads_its_request() {
        let folder = tempfile::tempdir().unwrap();
        let attempt = TestAttempt::new(folder.path(), Permissions::default(), |_, request| {
            request.config = serde_json::json!({ "a": 1 });
            request.needs.push(crate::testing::need("build", &[("digest", "x")]));
            request.env.insert("NAME".into(), "value".into());
        });
        let deadline = Some(Instant::now() + Duration::from_secs(5));
        let attempt = AttemptContext { deadline, ..attempt.context() };
        let (mut context, cancel) = (Context::for_attempt(&attempt), attempt.cancel.clone());
        assert_eq!(context.config().await.unwrap(), r#"{"a":1}"#);
        assert_eq!(context.input("build".into()).await.unwrap().as_deref(), Some(r#"{"digest":"x"}"#));
        assert_eq!(context.input("other".into()).await.unwrap(), None);
        assert_eq!(context.variable("NAME".into()).await.unwrap().as_deref(), Some("value"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(context.remaining_ms().await.unwrap(), Some(3000));
        assert!(!context.cancelled().await.unwrap());
        cancel.set();
        assert!(context.cancelled().await.unwrap());
    }
}
