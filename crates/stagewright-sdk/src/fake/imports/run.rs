//! The run itself: context, time, log, secrets, environment, gates.

use crate::Error;
use crate::fake::state::State;

/// The error of a call that waits in a stage that is asked to stop.
fn unless_cancelled(host: &State) -> Result<(), Error> {
    if host.cancelled { Err(Error::cancelled("the stage is being cancelled")) } else { Ok(()) }
}

pub(crate) mod context {
    use crate::duration::millis;
    use crate::fake::state::on_context;
    use crate::need::Need as Ended;
    use crate::need::NeedOutcome;

    pub(crate) fn pipeline() -> String {
        "pipeline".to_owned()
    }

    pub(crate) fn stage() -> String {
        "stage".to_owned()
    }

    pub(crate) fn stage_id() -> String {
        "stage".to_owned()
    }

    pub(crate) fn run_id() -> String {
        "run-1".to_owned()
    }

    pub(crate) fn attempt() -> u32 {
        on_context(|host| host.attempt)
    }

    pub(crate) fn rehearsal() -> bool {
        on_context(|host| host.rehearsal)
    }

    pub(crate) fn cancelled() -> bool {
        on_context(|host| host.cancelled)
    }

    pub(crate) fn remaining_ms() -> Option<u64> {
        on_context(|host| host.remaining.map(millis))
    }

    pub(crate) fn trace_parent() -> String {
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()
    }

    pub(crate) fn environment() -> Option<String> {
        on_context(|host| host.environment.clone())
    }

    pub(crate) fn config() -> String {
        on_context(|host| host.config.to_string())
    }

    pub(crate) fn variable(name: &str) -> Option<String> {
        on_context(|host| host.variables.get(name).cloned())
    }

    pub(crate) fn needs() -> Vec<Need> {
        on_context(|host| host.needs.iter().cloned().map(Need).collect())
    }

    pub(crate) fn resumption() -> Option<String> {
        on_context(|host| host.resumption.as_ref().map(ToString::to_string))
    }

    #[derive(Debug)]
    pub(crate) struct Need(Ended);

    impl Need {
        pub(crate) fn stage(&self) -> String {
            self.0.stage.clone()
        }

        pub(crate) fn stage_id(&self) -> String {
            self.0.stage_id.clone()
        }

        pub(crate) fn outcome(&self) -> String {
            name(&self.0.outcome)
        }

        pub(crate) fn conclusion(&self) -> String {
            name(&self.0.conclusion)
        }

        pub(crate) fn outputs(&self) -> String {
            self.0.outputs.to_string()
        }
    }

    fn name(outcome: &NeedOutcome) -> String {
        let name = serde_json::to_value(outcome).ok().and_then(|name| name.as_str().map(str::to_owned));
        name.unwrap_or_else(|| unreachable!("an outcome is a text"))
    }
}

pub(crate) mod clock {
    use std::time::Duration;

    use super::{poll::Pollable, unless_cancelled};
    use crate::duration::millis;
    use crate::fake::imports::types;
    use crate::fake::state::{Interface, on};

    pub(crate) fn now_ms() -> u64 {
        on(|host| millis(host.now + host.elapsed))
    }

    pub(crate) fn monotonic_ms() -> u64 {
        on(|host| millis(host.elapsed))
    }

    pub(crate) fn sleep_ms(duration: u64) -> Result<(), types::Error> {
        on(|host| {
            unless_cancelled(host)?;
            host.fault(Interface::Clock, "sleep")?;
            host.pass(Duration::from_millis(duration));
            Ok(())
        })
    }

    pub(crate) fn timer_ms(duration: u64) -> Pollable {
        on(|host| Pollable::at(host.elapsed.saturating_add(Duration::from_millis(duration))))
    }
}

pub(crate) mod poll {
    use std::time::Duration;

    use super::unless_cancelled;
    use crate::Error;
    use crate::fake::imports::types;
    use crate::fake::state::on;

    /// Ready once this time has passed since the stage began. Everything that a stage can wait for here takes a time that
    /// its script has set, so it is known beforehand.
    #[derive(Debug)]
    pub(crate) struct Pollable(Duration);

    impl Pollable {
        pub(crate) fn at(elapsed: Duration) -> Pollable {
            Pollable(elapsed)
        }

        pub(crate) fn ready(&self) -> bool {
            on(|host| host.elapsed >= self.0)
        }
    }

    pub(crate) fn wait_any(pollables: &[&Pollable]) -> Result<u32, types::Error> {
        on(|host| {
            let first = pollables.iter().map(|pollable| pollable.0).min();
            let first = first.ok_or_else(|| Error::invalid("nothing to wait for"))?;
            unless_cancelled(host)?;
            host.pass_until(first);
            let index = pollables.iter().position(|pollable| host.elapsed >= pollable.0).unwrap_or_default();
            Ok(u32::try_from(index).unwrap_or(u32::MAX))
        })
    }
}

pub(crate) mod random {
    use crate::fake::state::on;

    /// The same bytes in each run of a test, and other ones in each call.
    ///
    /// # Panics
    /// When the stage asks for more than 64 KiB, which would trap on a real host.
    pub(crate) fn bytes(length: u32) -> Vec<u8> {
        assert!(length <= 64 << 10, "`random.bytes` returns at most 64 KiB, not {length} bytes");
        on(|host| {
            let next = |_| {
                // Knuth's MMIX generator, whose high bits are the most random ones.
                host.seed = host.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                host.seed.to_be_bytes()[0]
            };
            (0..length).map(next).collect()
        })
    }
}

pub(crate) mod logging {
    use crate::fake::report::LogLine;
    use crate::fake::state::on;
    use crate::log::Level;

    pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
        on(|host| host.logs.push(LogLine { level, message: message.to_owned(), fields: fields.to_vec() }));
    }

    pub(crate) fn progress(_message: &str, _current: u64, _total: Option<u64>) {
        on(|_| ());
    }
}

pub(crate) mod secrets {
    use crate::Permission;
    use crate::fake::imports::types;
    use crate::fake::state::{Interface, on};

    #[derive(Debug)]
    pub(crate) struct Secret {
        pub(crate) name: String,
    }

    impl Secret {
        pub(crate) fn name(&self) -> String {
            self.name.clone()
        }
    }

    pub(crate) fn get(name: &str) -> Result<Secret, types::Error> {
        on(|host| {
            host.grant(Permission::Secrets, &[name], &format!("use the secret `{name}`"))?;
            if !host.secrets.contains_key(name) {
                return Err(host.denial(Permission::Secrets, name, &format!("use the secret `{name}`")).into());
            }
            host.fault(Interface::Secrets, name)?;
            Ok(Secret { name: name.to_owned() })
        })
    }
}

pub(crate) mod reveal {
    use super::secrets::Secret;
    use crate::Permission;
    use crate::fake::imports::types;
    use crate::fake::state::on;

    pub(crate) fn reveal(secret: &Secret) -> Result<String, types::Error> {
        let (name, doing) = (secret.name.as_str(), format!("read the value of the secret `{}`", secret.name));
        on(|host| {
            host.grant(Permission::Reveal, &[name], &doing)?;
            match host.secrets.get(name) {
                Some((value, true)) => Ok(value.clone()),
                _ => Err(host.denial(Permission::Reveal, name, &doing).into()),
            }
        })
    }
}

pub(crate) mod gate {
    use std::cell::RefCell;

    use crate::fake::imports::types;
    use crate::fake::report::{GateField, OpenedGate};
    use crate::fake::rules;
    use crate::fake::state::{Interface, on};
    use crate::field_kind::FieldKind;
    use crate::{Error, Result};

    /// The most approvers, fields, and texts of a choice.
    const LISTED: usize = 100;

    #[derive(Debug)]
    pub(crate) struct Field(RefCell<GateField>);

    impl Field {
        /// Only the SDK calls this, with the names of [`FieldKind`].
        pub(crate) fn new(name: &str, kind: &str) -> Field {
            let kind = match kind {
                "number" => FieldKind::Number,
                "boolean" => FieldKind::Boolean,
                _ => FieldKind::Text,
            };
            let (name, description) = (name.to_owned(), String::new());
            Field(RefCell::new(GateField { name, kind, choices: None, description, required: false }))
        }

        pub(crate) fn description(&self, text: &str) {
            text.clone_into(&mut self.0.borrow_mut().description);
        }

        pub(crate) fn required(&self) {
            self.0.borrow_mut().required = true;
        }

        pub(crate) fn choices(&self, choices: &[String]) {
            self.0.borrow_mut().choices = Some(choices.to_vec());
        }
    }

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

        pub(crate) fn field(&self, field: Field) {
            self.0.borrow_mut().fields.push(field.0.into_inner());
        }

        pub(crate) fn expires_ms(&self, duration: u64) {
            self.0.borrow_mut().expires_ms = Some(duration);
        }

        pub(crate) fn open(&self) -> std::result::Result<types::Suspension, types::Error> {
            let gate = self.0.borrow().clone();
            check(&gate)?;
            on(|host| {
                host.fault(Interface::Gate, &gate.message)?;
                let message = gate.message.clone();
                host.gates.push(gate);
                Ok(types::Suspension::new(&format!("gate-{}", host.gates.len()), &message))
            })
        }
    }

    fn check(gate: &OpenedGate) -> Result<()> {
        let invalid = |message: &str| Err(Error::invalid(message));
        if gate.message.trim().is_empty() {
            return invalid("the message of an approval must not be empty");
        }
        if gate.approvers.len().max(gate.fields.len()) > LISTED {
            return invalid("an approval may have at most 100 approvers and 100 fields");
        }
        if let Some(approvals) = gate.approvals.filter(|approvals| !(1..=100).contains(approvals)) {
            return invalid(&format!("the number of approvals must be 1 to 100, not {approvals}"));
        }
        for GateField { name, choices, .. } in &gate.fields {
            let Some(choices) = choices else { continue };
            let is_twice = |(index, text): (usize, &String)| choices[..index].contains(text);
            let is_blank = |text: &String| text.trim().is_empty();
            if choices.is_empty()
                || choices.len() > LISTED
                || choices.iter().any(is_blank)
                || choices.iter().enumerate().any(is_twice)
            {
                return invalid(&format!("the field `{name}` must have 1 to 100 different choices"));
            }
        }
        gate.expires_ms.map_or(Ok(()), rules::gate_expiry)?;
        let is_twice =
            |(index, field): (usize, &GateField)| gate.fields[..index].iter().any(|other| other.name == field.name);
        if gate.fields.iter().enumerate().any(is_twice) {
            return invalid("two fields of the approval have the same name");
        }
        Ok(())
    }
}
