//! The run itself: context, time, log, outputs, secrets, gates.

pub(crate) mod context {
    use crate::fake::state::on;

    pub(crate) fn pipeline() -> String {
        "pipeline".to_owned()
    }

    pub(crate) fn stage() -> String {
        "stage".to_owned()
    }

    pub(crate) fn run_id() -> String {
        "run-1".to_owned()
    }

    pub(crate) fn attempt() -> u32 {
        on(|host| host.attempt)
    }

    pub(crate) fn rehearsal() -> bool {
        on(|host| host.rehearsal)
    }

    pub(crate) fn cancelled() -> bool {
        on(|host| host.cancelled)
    }

    pub(crate) fn remaining_ms() -> Option<u32> {
        on(|host| host.remaining.map(crate::duration::millis))
    }

    pub(crate) fn trace_parent() -> Option<String> {
        None
    }

    pub(crate) fn environment() -> Option<String> {
        on(|host| host.environment.clone())
    }

    pub(crate) fn config() -> String {
        on(|host| host.config.to_string())
    }

    pub(crate) fn input(stage: &str) -> Option<String> {
        on(|host| host.inputs.get(stage).map(ToString::to_string))
    }

    pub(crate) fn variable(name: &str) -> Option<String> {
        on(|host| host.variables.get(name).cloned())
    }

    pub(crate) fn resumption() -> Option<String> {
        on(|host| host.resumption.as_ref().map(ToString::to_string))
    }
}

pub(crate) mod clock {
    use std::time::Duration;

    use crate::fake::state::on;
    use crate::{Error, ErrorCode, bindings::stage::stagewright::stage::types as wire};

    pub(crate) fn now_ms() -> u64 {
        on(|host| millis(host.now + host.elapsed))
    }

    pub(crate) fn monotonic_ms() -> u64 {
        on(|host| millis(host.elapsed))
    }

    pub(crate) fn sleep_ms(duration: u32) -> Result<(), wire::Error> {
        on(|host| {
            if host.cancelled {
                return Err(Error::new(ErrorCode::Cancelled, "the stage is being cancelled").into());
            }
            host.pass(Duration::from_millis(duration.into()));
            Ok(())
        })
    }

    fn millis(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }
}

pub(crate) mod logging {
    use crate::fake::report::LogLine;
    use crate::fake::state::on;
    use crate::log::Level;

    pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
        on(|host| host.logs.push(LogLine { level, message: message.to_owned(), fields: fields.to_vec() }));
    }

    pub(crate) fn progress(_message: &str, _current: u32, _total: Option<u32>) {}
}

pub(crate) mod outputs {
    use crate::fake::state::on;
    use crate::{Diagnostic, Error, bindings::stage::stagewright::stage::types as wire};

    pub(crate) fn set(name: &str, value: &str) -> Result<(), wire::Error> {
        let value = serde_json::from_str(value).map_err(|error| wire::Error::from(Error::from(error)))?;
        on(|host| {
            host.check("outputs", name)?;
            host.outputs.insert(name.to_owned(), value);
            Ok(())
        })
    }

    pub(crate) fn summary(markdown: &str) {
        on(|host| host.summaries.push(markdown.to_owned()));
    }

    pub(crate) fn report(diagnostic: &Diagnostic) {
        on(|host| host.problems.push(diagnostic.clone()));
    }
}

pub(crate) mod secrets {
    use crate::fake::state::on;
    use crate::{Error, ErrorCode, bindings::stage::stagewright::stage::types as wire};

    #[derive(Debug)]
    pub(crate) struct Secret {
        pub(crate) name: String,
    }

    impl Secret {
        pub(crate) fn reveal(&self) -> Result<String, wire::Error> {
            on(|host| match host.secrets.get(&self.name) {
                Some((value, true)) => Ok(value.clone()),
                _ => {
                    let message = format!("the plain text of secret `{}` is not granted", self.name);
                    Err(Error::new(ErrorCode::PermissionDenied, message).into())
                }
            })
        }
    }

    pub(crate) fn get(name: &str) -> Result<Secret, wire::Error> {
        on(|host| {
            host.check("secrets", name)?;
            if host.secrets.contains_key(name) {
                return Ok(Secret { name: name.to_owned() });
            }
            Err(Error::new(ErrorCode::PermissionDenied, format!("secret `{name}` is not granted")).into())
        })
    }
}

pub(crate) mod environment {
    use crate::fake::state::on;
    use crate::{Error, ErrorCode, bindings::stage::stagewright::stage::types as wire};

    pub(crate) fn fence() -> Option<u64> {
        on(|host| host.fence)
    }

    pub(crate) fn current() -> Option<String> {
        on(|host| host.ledger.0.as_ref().map(ToString::to_string))
    }

    pub(crate) fn last_known_good() -> Option<String> {
        on(|host| host.ledger.1.as_ref().map(ToString::to_string))
    }

    pub(crate) fn released(artifact: &str, url: Option<&str>) -> Result<(), wire::Error> {
        on(|host| {
            host.check("environment", artifact)?;
            if host.fence.is_none() {
                let message = "the stage has no environment";
                return Err(Error::new(ErrorCode::FailedPrecondition, message).into());
            }
            host.recorded = Some((artifact.to_owned(), url.map(ToOwned::to_owned)));
            Ok(())
        })
    }
}

pub(crate) mod gate {
    use std::cell::RefCell;

    use crate::bindings::stage::stagewright::stage::types as wire;
    use crate::fake::report::OpenedGate;
    use crate::fake::state::on;
    use crate::gate::FieldKind;

    #[derive(Debug)]
    pub(crate) struct Approval(RefCell<OpenedGate>);

    impl Approval {
        pub(crate) fn new(message: &str) -> Approval {
            Approval(RefCell::new(OpenedGate { message: message.to_owned(), ..OpenedGate::default() }))
        }

        pub(crate) fn approver(&self, who: &str) {
            self.0.borrow_mut().approvers.push(who.to_owned());
        }

        pub(crate) fn approvals(&self, count: u32) {
            self.0.borrow_mut().approvals = Some(count);
        }

        pub(crate) fn field(&self, name: &str, kind: FieldKind, description: &str, required: bool) {
            self.0.borrow_mut().fields.push((name.to_owned(), kind, description.to_owned(), required));
        }

        pub(crate) fn expires_ms(&self, duration: u64) {
            self.0.borrow_mut().expires_ms = Some(duration);
        }

        pub(crate) fn open(&self) -> Result<String, wire::Error> {
            let gate = self.0.borrow().clone();
            on(|host| {
                host.check("gate", &gate.message)?;
                host.gates.push(gate);
                Ok(format!("gate-{}", host.gates.len()))
            })
        }
    }
}
