//! `logging`.

use stagewright_engine::Stream;

use super::stagewright::stage::logging::{Host, Level as WitLevel};
use crate::attempt::Attempt;
use crate::capability::logging::{LogLevel, render, shortened};

impl From<WitLevel> for LogLevel {
    fn from(level: WitLevel) -> LogLevel {
        match level {
            WitLevel::Trace => LogLevel::Trace,
            WitLevel::Debug => LogLevel::Debug,
            WitLevel::Info => LogLevel::Info,
            WitLevel::Warn => LogLevel::Warn,
            WitLevel::Error => LogLevel::Error,
        }
    }
}

impl Host for Attempt {
    async fn log(&mut self, level: WitLevel, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        if matches!(level, WitLevel::Debug | WitLevel::Trace) && !self.verbose {
            return Ok(());
        }
        let masker = self.log.masker();
        let fields = fields.into_iter().map(|(name, value)| (name, shortened(&value, masker))).collect::<Vec<_>>();
        self.log.text(Stream::Plugin, &render(level.into(), &message, &fields)).await;
        Ok(())
    }

    async fn progress(&mut self, message: String, current: u32, total: Option<u32>) -> wasmtime::Result<()> {
        self.log.progress(&message, current.into(), total.map(u64::from));
        Ok(())
    }
}
