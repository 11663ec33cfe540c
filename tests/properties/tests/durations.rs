//! Lengths of time mean the same to pipeline files and to plugins, which read them with code of their own.

#![allow(missing_docs, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;
use stagewright_sdk::DurationText;

/// More than this is a mistake to plugins; pipeline files have a range for each key.
const LONGEST: Duration = Duration::from_secs(3660 * 86_400);

proptest! {
    #[test]
    fn pipeline_files_and_plugins_read_the_same(text in "( ?[0-9]{0,6}(ms|s|m|h|d|w| |x)?){0,4} ?") {
        let in_a_file = stagewright_model::duration(&text).filter(|duration| *duration <= LONGEST);
        let in_a_plugin = DurationText::parse(&text).map(|text| text.0);
        prop_assert_eq!(in_a_file, in_a_plugin, "{:?}", text);
    }
}
