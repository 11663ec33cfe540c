//! The stage `analysis`, with a real Prometheus.

use super::machine::Machine;
use crate::environment::{TestEnvironment, failure};

/// CONDITION and QUERY are replaced. Prometheus measures itself.
const PIPELINE: &str = r#"
schema = 1
pipeline.name = "analysis"

[stages.measure]
uses = "analysis"
[[stages.measure.with.metrics]]
name = "m"
prometheus = { address = "http://127.0.0.1:9090", query = 'QUERY' }
success-condition = "CONDITION"
interval = "200ms"
count = 2
consecutive-error-limit = 0
[stages.measure.permissions]
net = ["http://127.0.0.1:9090"]
"#;

fn prometheus() -> (Machine, TestEnvironment) {
    let machine = Machine::start();
    let config = machine.write(
        "prometheus.yml",
        "global: { scrape_interval: 1s }\nscrape_configs: [{ job_name: self, static_configs: [{ targets: ['127.0.0.1:9090'] }] }]\n",
    );
    let (config, data) = (format!("--config.file={}", config.display()), machine.path("data"));
    let data = format!("--storage.tsdb.path={}", data.display());
    let up = "http://127.0.0.1:9090/api/v1/query?query=up";
    machine.serve("prometheus", &[&config, &data, "--web.listen-address=127.0.0.1:9090"], |machine| {
        machine.get(up).is_some_and(|answer| answer.contains("\"value\""))
    });
    let repository = machine.repository(PIPELINE);
    (machine, repository)
}

#[test]
fn prometheus_decides_and_what_it_does_not_know_is_no_success() {
    let (_machine, repository) = prometheus();
    let measure = |query: &str, condition: &str, code: i32| {
        let text = PIPELINE.replace("QUERY", query).replace("CONDITION", condition);
        repository.write("stagewright.toml", &text);
        let (ended, events) = repository.events(&["run"]);
        assert_eq!(ended, code, "{query}");
        if code == 0 { String::new() } else { failure(&events, "measure").to_string() }
    };
    measure("up", "result.all(value, value == 1.0)", 0);
    measure("count(up)", "result[0] >= 1.0", 0);
    assert!(measure("up", "result[0] < 1.0", 1).contains("m: [1.0] (failed)"));
    assert!(measure("absent_metric", "result[0] < 1.0", 1).contains("no data"));
    assert!(measure("0 * up / 0", "result[0] < 1.0", 1).contains("the analysis is inconclusive"));
    assert!(measure("up{", "result[0] < 1.0", 1).contains("parse error"));
}
