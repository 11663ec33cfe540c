//! Places of values within a table, as they are shown in messages: `checks[0].command`.

use std::fmt;

/// A key of a table, or an index of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The steps from a table to a value in it. The empty path is the table itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValuePath(pub(crate) Vec<Step>);

impl ValuePath {
    /// Reads the form in which a path is shown. A key that holds a dot or a bracket can't be expressed in that form, so
    /// such a path leads nowhere.
    pub(crate) fn parse(shown: &str) -> ValuePath {
        let mut steps = Vec::new();
        for part in shown.split('.') {
            let (key, indices) = part.split_once('[').unwrap_or((part, ""));
            if !key.is_empty() {
                steps.push(Step::Key(key.to_owned()));
            }
            let indices = indices.split(['[', ']']).filter_map(|index| index.parse().ok());
            steps.extend(indices.map(Step::Index));
        }
        ValuePath(steps)
    }

    pub(crate) fn key(&self, key: &str) -> ValuePath {
        self.with(Step::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> ValuePath {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> ValuePath {
        ValuePath(self.0.iter().cloned().chain([step]).collect())
    }

    pub(crate) fn parent(&self) -> ValuePath {
        ValuePath(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// Whether one of the two is the other, or lies within it.
    pub(crate) fn overlaps(&self, other: &ValuePath) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| one == other)
    }
}

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(position, step)| match step {
            Step::Key(key) if position == 0 => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        })
    }
}
