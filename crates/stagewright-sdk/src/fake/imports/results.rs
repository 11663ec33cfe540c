//! What a stage reports: outputs, findings, test cases, metrics.

pub(crate) mod outputs {
    use serde_json::Value as Json;

    use crate::Error;
    use crate::fake::imports::types;
    use crate::fake::rules::{self, exhausted};
    use crate::fake::state::{Interface, State, on};

    /// The most bytes of all outputs of an attempt, as JSON, and of all its summaries.
    const TOTAL: usize = 1 << 20;
    /// The most outputs of an attempt.
    const NUMBER: usize = 1000;

    pub(crate) fn set(name: &str, value: &str) -> Result<(), types::Error> {
        on(|host| Ok(put(host, name, value)?))
    }

    fn put(host: &mut State, name: &str, value: &str) -> Result<(), Error> {
        rules::name("output", name)?;
        host.fault(Interface::Outputs, name)?;
        let json: Json = serde_json::from_str(value)
            .map_err(|error| Error::invalid(format!("the value of output `{name}` isn't JSON: {error}")))?;
        if host.outputs.len() >= NUMBER && !host.outputs.contains_key(name) {
            return Err(exhausted(format!("could not set output `{name}`: a stage may have at most {NUMBER}"))
                .help("combine several values in one output, as a JSON object"));
        }
        let size = name.len() + value.len();
        let others: usize = host.output_sizes.iter().filter(|(other, _)| *other != name).map(|(_, size)| size).sum();
        if others + size > TOTAL {
            let limit = rules::byte_size(TOTAL as u64);
            let message = format!("could not set output `{name}`: a stage's outputs may have at most {limit} together");
            return Err(exhausted(message).help("publish large data as an artifact, and set an output to its name"));
        }
        host.output_sizes.insert(name.to_owned(), size);
        host.outputs.insert(name.to_owned(), json);
        Ok(())
    }

    /// A summary beyond the limit is truncated, and later ones are dropped.
    pub(crate) fn summary(markdown: &str) {
        on(|host| {
            let Some(room) = TOTAL.checked_sub(host.summary_size) else { return };
            host.summary_size += markdown.len();
            let mut text = markdown.to_owned();
            if text.len() > room {
                text.truncate(text.floor_char_boundary(room));
                text.push_str("\n\n(truncated)");
            }
            host.summaries.push(text);
        });
    }
}

pub(crate) mod findings {
    use std::cell::RefCell;

    use crate::fake::rules;
    use crate::fake::state::on;
    use crate::{Position, Severity};

    /// The most findings of an attempt; later ones are dropped.
    const MOST: usize = 10_000;

    #[derive(Debug)]
    pub(crate) struct Finding(RefCell<crate::Finding>);

    impl Finding {
        pub(crate) fn new(severity: Severity, rule: &str, message: &str) -> Finding {
            Finding(RefCell::new(crate::Finding::new(severity, rule, message)))
        }

        /// A file that isn't a path of the workspace is left out, since there is no result to refuse it with.
        pub(crate) fn file(&self, path: &str) {
            self.0.borrow_mut().file = rules::path(path).ok();
        }

        pub(crate) fn range(&self, start: Position, end: Option<Position>) {
            self.0.borrow_mut().range = Some((start, end));
        }

        pub(crate) fn help(&self, help: &str) {
            self.0.borrow_mut().help = Some(help.to_owned());
        }

        pub(crate) fn suggestion(&self, replacement: &str) {
            self.0.borrow_mut().suggestion = Some(replacement.to_owned());
        }

        pub(crate) fn fingerprint(&self, fingerprint: &str) {
            self.0.borrow_mut().fingerprint = Some(fingerprint.to_owned());
        }

        pub(crate) fn report(&self) {
            let finding = self.0.borrow().clone();
            on(|host| {
                if host.findings.len() < MOST {
                    host.findings.push(finding);
                }
            });
        }
    }
}

pub(crate) mod test_reports {
    use std::cell::RefCell;
    use std::time::Duration;

    use crate::Position;
    use crate::bindings::imports::test_reports::TestOutcome;
    use crate::fake::rules;
    use crate::fake::state::on;

    /// The most cases of an attempt; later ones are dropped.
    const MOST: usize = 100_000;

    pub(crate) fn failed_before() -> Option<Vec<FailedTest>> {
        on(|host| host.failed_before.clone().map(|tests| tests.into_iter().map(FailedTest).collect()))
    }

    #[derive(Debug)]
    pub(crate) struct FailedTest(crate::test_case::FailedTest);

    impl FailedTest {
        pub(crate) fn suite(&self) -> String {
            self.0.suite.clone()
        }

        pub(crate) fn name(&self) -> String {
            self.0.name.clone()
        }

        pub(crate) fn file(&self) -> Option<String> {
            self.0.file.clone()
        }
    }

    #[derive(Debug)]
    pub(crate) struct TestCase(RefCell<crate::test_case::TestCase>);

    impl TestCase {
        pub(crate) fn new(suite: &str, name: &str, outcome: TestOutcome) -> TestCase {
            TestCase(RefCell::new(crate::test_case::TestCase::new(suite, name, outcome)))
        }

        pub(crate) fn duration_ms(&self, duration: u64) {
            self.0.borrow_mut().duration = Some(Duration::from_millis(duration));
        }

        pub(crate) fn message(&self, message: &str) {
            self.0.borrow_mut().message = Some(message.to_owned());
        }

        pub(crate) fn output(&self, output: &str) {
            self.0.borrow_mut().output = Some(output.to_owned());
        }

        pub(crate) fn file(&self, path: &str, position: Option<Position>) {
            self.0.borrow_mut().file = rules::path(path).ok().map(|path| (path, position));
        }

        pub(crate) fn failures(&self, count: u32) {
            self.0.borrow_mut().failures = count;
        }

        pub(crate) fn report(&self) {
            let case = self.0.borrow().clone();
            on(|host| {
                if host.test_cases.len() < MOST {
                    host.test_cases.push(case);
                }
            });
        }
    }
}

pub(crate) mod metrics {
    use std::cell::RefCell;

    use crate::Error;
    use crate::fake::imports::types;
    use crate::fake::report;
    use crate::fake::rules::{self, exhausted};
    use crate::fake::state::{Interface, State, on};

    /// The most metrics of an attempt.
    const NUMBER: usize = 1000;
    /// The most bytes of a unit.
    const UNIT: usize = 32;

    #[derive(Debug)]
    pub(crate) struct Metric {
        name: String,
        value: f64,
        unit: RefCell<String>,
    }

    impl Metric {
        pub(crate) fn new(name: &str, value: f64) -> Metric {
            Metric { name: name.to_owned(), value, unit: RefCell::default() }
        }

        pub(crate) fn unit(&self, unit: &str) {
            unit.clone_into(&mut self.unit.borrow_mut());
        }

        pub(crate) fn report(&self) -> Result<(), types::Error> {
            on(|host| Ok(put(host, &self.name, self.value, &self.unit.borrow())?))
        }
    }

    fn put(host: &mut State, name: &str, value: f64, unit: &str) -> Result<(), Error> {
        rules::name("metric", name)?;
        host.fault(Interface::Metrics, name)?;
        if unit.len() > UNIT || unit.contains(char::is_control) {
            return Err(Error::invalid(format!("the unit of the metric `{name}` is invalid"))
                .help(format!("use at most {UNIT} bytes, as in `bytes`, `ms` or `%`")));
        }
        if !value.is_finite() {
            return Err(Error::invalid(format!("the value of the metric `{name}` is {value}, which isn't a number")));
        }
        if host.metrics.len() >= NUMBER && !host.metrics.contains_key(name) {
            return Err(exhausted(format!("could not set the metric `{name}`: a stage may have at most {NUMBER}"))
                .help("write more figures to a file, and publish that as an artifact"));
        }
        host.metrics.insert(name.to_owned(), report::Metric { value, unit: unit.to_owned() });
        Ok(())
    }
}
