//! A JSON object a line, for programs: each is an [`EventLine`].
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

/// Writes a JSON object a line.
pub struct Json {
    /// By plan index. The rest of the run's state is the reader's to fold.
    ids: Vec<String>,
    output: ObserverOutput,
}

impl Json {
    /// Onto `printer`. Each line is written and flushed at once.
    pub fn new(printer: Printer) -> Json {
        Json { ids: Vec::new(), output: ObserverOutput::new(printer) }
    }

    /// The first error of the writer since the last call, after which nothing more was written.
    pub fn take_result(&mut self) -> io::Result<()> {
        self.output.take_result()
    }
}

/// The past too: a program folds it.
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

/// `ids`: unique names of the run's stages, by plan index.
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
