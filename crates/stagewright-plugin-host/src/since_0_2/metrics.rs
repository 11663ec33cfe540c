//! `metrics`.

use super::Answer;
use super::stagewright::metrics::metrics::Host;
use crate::attempt::Attempt;

impl Host for Attempt {
    async fn set(&mut self, name: String, value: f64, unit: String) -> Answer<()> {
        let set = self.metrics.set(name, value, unit, self.log.masker());
        self.answer(set)
    }
}
