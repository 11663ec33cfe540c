//! JSON Lines, for programs: one [`EventLine`] for each event.
//!
//! ```json
//! {"v":1,"seq":4,"at":1700000000123,"type":"attempt-started","stage":0,"attempt":1,"stage-id":"test"}
//! ```

use std::io;

use stagewright_api::{EventLine, VERSION};
use stagewright_engine::{Event, EventKind, Observer};
use stagewright_model::StageIndex;

use crate::printer::{ObserverOutput, Printer};
use crate::reader::RunReader;
use crate::view::stage_of;
use crate::wire::ToWire as _;

/// Writes one JSON object for each event, each on a line of its own.
pub struct Json {
    /// Unique names of the stages, by plan index. Programs derive all other state from the events themselves.
    ids: Vec<String>,
    output: ObserverOutput,
}

impl Json {
    /// Writes to `printer`, and flushes it after each line.
    pub fn new(printer: Printer) -> Json {
        Json { ids: Vec::new(), output: ObserverOutput::new(printer) }
    }

    /// The first write error since the last call. Nothing is written after an error.
    pub fn take_result(&mut self) -> io::Result<()> {
        self.output.take_result()
    }
}

/// The default `catch_up` writes past events as well: a program needs all of them to know the state of the run.
impl RunReader for Json {}

impl Observer for Json {
    fn on_event(&mut self, event: &Event) {
        if let EventKind::RunStarted { stages, .. } = &event.kind {
            self.ids = stages.iter().map(|stage| stage.id.clone()).collect();
        }
        let line = line(&self.ids, event);
        self.output.json(&line);
    }
}

/// The line for an event. `ids` are the unique names of the run's stages, by plan index.
fn line(ids: &[String], event: &Event) -> EventLine {
    let Event { seq, at, kind } = event;
    let id = |stage: StageIndex| ids.get(stage.get()).cloned();
    let waiting_ids = match kind {
        EventKind::RunSuspended { waiting } => Some(waiting.iter().filter_map(|&stage| id(stage)).collect()),
        _ => None,
    };
    let because_id = match kind {
        EventKind::UndoStarted { because, .. } => id(*because),
        _ => None,
    };
    EventLine {
        v: VERSION,
        seq: *seq,
        at: at.to_wire(),
        event: kind.to_wire(),
        stage_id: stage_of(kind).and_then(id),
        waiting_ids,
        because_id,
    }
}
