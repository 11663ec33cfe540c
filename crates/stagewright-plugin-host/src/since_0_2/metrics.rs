//! `metrics`.

use wasmtime::component::Resource;

use super::Answer;
use super::stagewright::metrics::metrics::{Host, HostMetric};
use crate::attempt::Attempt;
use crate::capability::metrics::MetricBuilder;

impl HostMetric for Attempt {
    async fn new(&mut self, name: String, value: f64) -> wasmtime::Result<Resource<MetricBuilder>> {
        let size = name.len();
        self.handles.push_sized(MetricBuilder { name, value, unit: String::new() }, size)
    }

    async fn unit(&mut self, metric: Resource<MetricBuilder>, unit: String) -> wasmtime::Result<()> {
        let size = unit.len();
        self.handles.grow(&metric, size)?.unit = unit;
        Ok(())
    }

    async fn report(&mut self, metric: Resource<MetricBuilder>) -> Answer<()> {
        let metric = self.handles.get(&metric)?.clone();
        let set = self.metrics.set(metric, self.log.masker());
        self.answer(set)
    }

    async fn drop(&mut self, metric: Resource<MetricBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(metric)?;
        Ok(())
    }
}

impl Host for Attempt {}
