//! Pipeline files and plugins parse durations with separate code, and must agree.

#![allow(missing_docs, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;
use stagewright_sdk::DurationText;

/// The longest duration for plugins. In pipeline files each key has a range of its own.
const MAX_DURATION: Duration = Duration::from_secs(3660 * 86_400);

proptest! {
    #[test]
    fn pipeline_files_and_plugins_parse_durations_alike(text in "( ?[0-9]{0,6}(ms|s|m|h|d|w| |x)?){0,4} ?") {
        let in_a_file = stagewright_model::duration(&text).filter(|duration| *duration <= MAX_DURATION);
        let in_a_plugin = DurationText::parse(&text).map(|text| text.0);
        prop_assert_eq!(in_a_file, in_a_plugin, "{:?}", text);
    }
}
