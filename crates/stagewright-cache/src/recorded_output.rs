//! Records the log, findings and summaries of a stage, and replays them when its result is reused.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stagewright_engine::{AttemptMessageKind, AttemptOutput, Metric, OutputListener, Problem, Stream, TestCase};
use tempfile::NamedTempFile;

use crate::digest::Digest;

/// The largest recording, in bytes. A stage with more output isn't cached: replaying it could take as long as running it.
pub(crate) const LARGEST: u64 = 64 << 20;

/// The number of lines that are replayed at a time.
const BATCH: usize = 512;

/// One message of a recording, stored as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RecordedOutput {
    Lines(Stream, Vec<String>),
    Summary(String),
    Problem(Problem),
    Tests(Vec<TestCase>),
    Metrics(Vec<Metric>),
}

/// Records the output of an attempt.
pub(crate) struct Recorder(Mutex<Recording>);

enum Recording {
    Empty {
        folder: std::path::PathBuf,
    },
    /// The file, and the bytes written to it so far.
    Writing(BufWriter<NamedTempFile>, u64),
    TooLarge,
    Failed(io::Error),
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// A recorder that creates its file in `folder` at the first message.
    pub(crate) fn new(folder: &Path) -> Recorder {
        Recorder(Mutex::new(Recording::Empty { folder: folder.to_owned() }))
    }

    /// The recording as a file; none if there was no output.
    ///
    /// # Errors
    /// When there was too much output, or when it could not be written.
    pub(crate) fn finish(&self) -> io::Result<Option<(NamedTempFile, Digest)>> {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *recording, Recording::TooLarge) {
            Recording::Empty { .. } => Ok(None),
            Recording::Writing(writer, _) => {
                let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
                let digest = Digest::of_file(file.path())?;
                Ok(Some((file, digest)))
            }
            Recording::TooLarge => Err(io::Error::other(format!("its output exceeds {} MiB", LARGEST >> 20))),
            Recording::Failed(error) => Err(error),
        }
    }
}

impl Recording {
    fn write(&mut self, message: &RecordedOutput) -> io::Result<()> {
        if let Recording::Empty { folder } = self {
            std::fs::create_dir_all(&folder)?;
            *self = Recording::Writing(BufWriter::new(NamedTempFile::new_in(folder)?), 0);
        }
        let Recording::Writing(writer, size) = self else { return Ok(()) };
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        *size += line.len() as u64;
        if *size > LARGEST {
            *self = Recording::TooLarge;
            return Ok(());
        }
        writer.write_all(&line)
    }
}

impl OutputListener for Recorder {
    fn on_output(&self, message: &AttemptMessageKind) {
        let recorded = match message {
            AttemptMessageKind::Lines(stream, lines) => {
                RecordedOutput::Lines(*stream, lines.iter().map(str::to_owned).collect())
            }
            AttemptMessageKind::Summary(markdown) => RecordedOutput::Summary(markdown.clone()),
            AttemptMessageKind::Problem(problem) => RecordedOutput::Problem(problem.clone()),
            AttemptMessageKind::Tests(cases) => RecordedOutput::Tests(cases.clone()),
            AttemptMessageKind::Metrics(metrics) => RecordedOutput::Metrics(metrics.clone()),
            AttemptMessageKind::Progress { .. }
            | AttemptMessageKind::CacheLookedUp { .. }
            | AttemptMessageKind::EffectRequested { .. }
            | AttemptMessageKind::RolloutRecorded(_) => return,
        };
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = recording.write(&recorded) {
            *recording = Recording::Failed(error);
        }
    }
}

/// Sends all recorded messages to `output`.
pub(crate) async fn replay(file: &Path, output: &AttemptOutput) -> io::Result<()> {
    let mut lines = BufReader::new(stagewright_files::open(file)?).lines();
    let mut batch: Option<(Stream, Vec<String>)> = None;
    loop {
        let next = lines.next().transpose()?.map(|line| serde_json::from_str::<RecordedOutput>(&line)).transpose()?;
        if let Some(RecordedOutput::Lines(stream, more)) = &next
            && let Some((of, lines)) = &mut batch
            && of == stream
            && lines.len() < BATCH
        {
            lines.extend(more.iter().cloned());
            continue;
        }
        if let Some((stream, lines)) = batch.take() {
            output.lines(stream, lines.into_iter().collect()).await;
        }
        match next {
            None => return Ok(()),
            Some(RecordedOutput::Lines(stream, lines)) => batch = Some((stream, lines)),
            Some(RecordedOutput::Summary(markdown)) => output.summary(markdown).await,
            Some(RecordedOutput::Problem(problem)) => output.problem(problem).await,
            Some(RecordedOutput::Tests(cases)) => output.tests(cases).await,
            Some(RecordedOutput::Metrics(metrics)) => output.metrics(metrics).await,
        }
    }
}
