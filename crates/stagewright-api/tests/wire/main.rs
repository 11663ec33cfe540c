//! The snapshots are the contract with programs: a line of them that changes, and doesn't just come in addition, breaks
//! programs that read it, and needs a new [`VERSION`].

mod answers;
mod events;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stagewright_api::VERSION;

/// The value as JSON, which must read as the same value.
fn text<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> String {
    let text = serde_json::to_string(value).expect("it can be serialised");
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(&read, value, "{text}");
    text
}

/// The same over several lines.
fn pretty<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> String {
    text(value);
    serde_json::to_string_pretty(value).expect("it can be serialised")
}

/// The names of an enum's values.
fn names<T: Serialize + DeserializeOwned + PartialEq + Debug>(values: &[T]) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_version_is_that_of_the_snapshots() {
    assert_eq!(VERSION, 1);
}
