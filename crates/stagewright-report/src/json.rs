//! A JSON object a line, for programs.
//!
//! Each line is an [`Event`] as the journal has it, and three keys more: `v`, the version of this format; `stage-id`,
//! the name of the stage that `stage` numbers; `waiting-ids` and `because-id`, those of `waiting` and `because`. A new key or a new `type` doesn't
//! change the version; a changed or a dropped one does.
//!
//! ```json
//! {"v":1,"seq":4,"at":1700000000123,"type":"attempt-started","stage":0,"attempt":1,"stage-id":"test"}
//! ```

use std::io;

use serde::Serialize;
use stagewright_engine::{Event, EventKind, Observer};

use crate::printer::{Output, Printer};
use crate::reader::Reader;
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
    /// Onto `printer`. Each line is written and flushed at once.
    pub fn new(printer: Printer) -> Json {
        Json { ids: Vec::new(), output: Output::new(printer) }
    }

    /// The first error of the writer since the last call, after which nothing more was written.
    pub fn take_result(&mut self) -> io::Result<()> {
        self.output.take_result()
    }
}

/// The past too: a program folds it.
impl Reader for Json {}

impl Observer for Json {
    fn on_event(&mut self, event: &Event) {
        if let EventKind::RunStarted { stages, .. } = &event.kind {
            self.ids = stages.iter().map(|stage| stage.id.clone()).collect();
        }
        let record = record(&self.ids, event);
        self.output.json(&record);
    }
}

fn record<'a>(ids: &'a [String], event: &'a Event) -> Record<'a> {
    let id = |index: usize| ids.get(index).map(String::as_str);
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
    Record { v: VERSION, event, stage_id, waiting_ids, because_id }
}
