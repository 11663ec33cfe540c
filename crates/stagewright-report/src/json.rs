//! A JSON object a line, for programs.
//!
//! Each line is an [`Event`] as the journal has it, and three keys more: `v`, the version of this format; `stage-id`,
//! the name of the stage that `stage` numbers; `waiting-ids` and `because-id`, those of `waiting` and `because`. A new key or a new `type` doesn't
//! change the version; a changed or a dropped one does.
//!
//! ```json
//! {"v":1,"seq":4,"at":1700000000123,"type":"attempt-started","stage":0,"attempt":1,"stage-id":"test"}
//! ```

use std::io::{self, Write};

use serde::Serialize;
use stagewright_engine::{Event, EventKind, Observer};

use crate::output::Output;
use crate::view::stage_of;

/// The version that `v` tells.
pub const VERSION: u32 = 1;

/// Writes a JSON object a line.
pub struct Json {
    /// By plan index. The rest of the run's state is the reader's to fold.
    ids: Vec<String>,
    output: Output,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Record<'a> {
    v: u32,
    #[serde(flatten)]
    event: &'a Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_ids: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    because_id: Option<&'a str>,
}

impl Json {
    /// Onto `writer`. Each line is written and flushed at once.
    pub fn new(writer: Box<dyn Write + Send>) -> Json {
        Json { ids: Vec::new(), output: Output::new(writer) }
    }

    /// The first error of the writer since the last call, after which nothing more was written.
    pub fn take_result(&mut self) -> io::Result<()> {
        self.output.take_result()
    }

    fn line(&self, event: &Event) -> serde_json::Result<String> {
        let id = |index: usize| self.ids.get(index).map(String::as_str);
        let waiting_ids = match &event.kind {
            EventKind::RunSuspended { waiting } => {
                Some(waiting.iter().filter_map(|stage| id(stage.get())).collect::<Vec<_>>())
            }
            _ => None,
        };
        let because_id = match &event.kind {
            EventKind::UndoStarted { because, .. } => id(because.get()),
            _ => None,
        };
        let stage_id = stage_of(&event.kind).and_then(|stage| id(stage.get()));
        let mut line = serde_json::to_string(&Record { v: VERSION, event, stage_id, waiting_ids, because_id })?;
        if line.contains(is_left_bare) {
            line = line.chars().fold(String::with_capacity(line.len() + 16), escape_bare);
        }
        line.push('\n');
        Ok(line)
    }
}

impl Observer for Json {
    fn on_event(&mut self, event: &Event) {
        if let EventKind::RunStarted { stages, .. } = &event.kind {
            self.ids = stages.iter().map(|stage| stage.id.clone()).collect();
        }
        // All keys are strings and all values JSON already: there is nothing in an event that can't be written.
        if let Ok(line) = self.line(event) {
            self.output.write(&line);
        }
    }
}

/// Control characters that JSON allows as they are, and a terminal may obey.
fn is_left_bare(character: char) -> bool {
    ('\u{7f}'..='\u{9f}').contains(&character)
}

fn escape_bare(mut line: String, character: char) -> String {
    if is_left_bare(character) {
        line.push_str(&format!("\\u{:04x}", u32::from(character)));
    } else {
        line.push(character);
    }
    line
}
