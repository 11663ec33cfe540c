//! Paths of values in a table, displayed in messages as in `checks[0].command`.

use std::fmt;

/// A key of a table, or an index of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathStep {
    Key(String),
    Index(usize),
}

/// The steps from a table to a value in it. The empty path is the table itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValuePath(pub(crate) Vec<PathStep>);

impl ValuePath {
    /// Parses the form that [`Display`](fmt::Display) writes. That form can't express keys that contain a dot or a
    /// bracket; a path with such a key is parsed into one that doesn't exist.
    pub(crate) fn parse(shown: &str) -> ValuePath {
        let mut steps = Vec::new();
        for part in shown.split('.') {
            let (key, indices) = part.split_once('[').unwrap_or((part, ""));
            if !key.is_empty() {
                steps.push(PathStep::Key(key.to_owned()));
            }
            let indices = indices.split(['[', ']']).filter_map(|index| index.parse().ok());
            steps.extend(indices.map(PathStep::Index));
        }
        ValuePath(steps)
    }

    pub(crate) fn key(&self, key: &str) -> ValuePath {
        self.with(PathStep::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> ValuePath {
        self.with(PathStep::Index(index))
    }

    fn with(&self, step: PathStep) -> ValuePath {
        ValuePath(self.0.iter().cloned().chain([step]).collect())
    }

    pub(crate) fn parent(&self) -> ValuePath {
        ValuePath(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// Whether one of the two paths is equal to the other or lies within it.
    pub(crate) fn overlaps(&self, other: &ValuePath) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own == other)
    }
}

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(position, step)| match step {
            PathStep::Key(key) if position == 0 => f.write_str(key),
            PathStep::Key(key) => write!(f, ".{key}"),
            PathStep::Index(index) => write!(f, "[{index}]"),
        })
    }
}
