//! Conditions in CEL.

use std::collections::BTreeMap;

use cel::{Context, Program, Value};
use serde_json::Value as Json;

/// A condition on the value of a measurement.
pub(crate) struct Condition {
    program: Program,
    /// The variables of its macros, as `value` in `result.all(value, value < 1.0)`.
    bound: Vec<String>,
}

/// CEL's macros with a variable.
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "filter", "map"];

impl Condition {
    /// # Errors
    /// Why it isn't an expression.
    pub(crate) fn parse(text: &str) -> Result<Condition, String> {
        let program = Program::compile(text).map_err(|error| error.to_string())?;
        let bound = |name: &&str| {
            let calls = text.split(&format!(".{name}(")).skip(1).collect::<Vec<_>>();
            calls.into_iter().filter_map(|rest| Some(rest.split_once(',')?.0.trim().to_owned())).collect::<Vec<_>>()
        };
        Ok(Condition { program, bound: MACROS.iter().flat_map(bound).collect() })
    }

    /// Whether the variables meet it.
    ///
    /// # Errors
    /// If it can't be evaluated with them, or isn't true or false.
    pub(crate) fn holds(&self, variables: &BTreeMap<&str, Json>) -> Result<bool, String> {
        let mut context = Context::default();
        for (name, value) in variables {
            let value = cel::to_value(value).map_err(|error| error.to_string())?;
            context.add_variable_from_value(*name, value);
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("a condition must be true or false".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The variables that it reads.
    pub(crate) fn variables(&self) -> Vec<String> {
        let references = self.program.references();
        let read = references.variables().into_iter().filter(|name| !self.bound.iter().any(|bound| bound == name));
        read.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_read_results() {
        let holds =
            |text: &str, result: Json| Condition::parse(text).unwrap().holds(&BTreeMap::from([("result", result)]));
        assert_eq!(holds("result[0] < 0.01", json!([0.005])), Ok(true));
        assert_eq!(holds("result.all(value, value < 1.0)", json!([0.5, 2.0])), Ok(false));
        assert_eq!(
            holds("result.status == 'up' && result.queue <= 3", json!({ "status": "up", "queue": 3 })),
            Ok(true)
        );
        assert!(holds("result[0]", json!([0.5])).unwrap_err().contains("true or false"));
        assert!(holds("result[3] > 1.0", json!([0.5])).is_err());
        assert!(Condition::parse("result <").is_err());
        let variables = |text: &str| Condition::parse(text).unwrap().variables();
        assert_eq!(variables("result.all(value, value < 1.0)"), ["result"]);
        assert_eq!(variables("result[0] < limit").len(), 2);
    }
}
