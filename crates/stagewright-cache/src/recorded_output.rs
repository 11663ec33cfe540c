//! What a stage said while it ran, to be said again.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stagewright_engine::{AttemptMessageKind, AttemptOutput, OutputListener, Problem, Stream};
use tempfile::NamedTempFile;

use crate::digest::Digest;

/// A stage that says more is not cached: to say it again would take as long as to do it.
pub(crate) const LARGEST: u64 = 64 << 20;

/// Lines that are said at a time.
const BATCH: usize = 512;

/// One thing that was said; a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RecordedOutput {
    Lines(Stream, Vec<String>),
    Summary(String),
    Problem(Problem),
}

/// Writes down what an attempt says.
pub(crate) struct Recorder(Mutex<Recording>);

enum Recording {
    Nothing { folder: std::path::PathBuf },
    Under(BufWriter<NamedTempFile>, u64),
    TooMuch,
    Failed(io::Error),
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// Nothing is written before something is said.
    pub(crate) fn new(folder: &Path) -> Recorder {
        Recorder(Mutex::new(Recording::Nothing { folder: folder.to_owned() }))
    }

    /// What was said, as a file; none when that was nothing.
    ///
    /// # Errors
    /// When it was too much, or could not be written.
    pub(crate) fn finish(&self) -> io::Result<Option<(NamedTempFile, Digest)>> {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *recording, Recording::TooMuch) {
            Recording::Nothing { .. } => Ok(None),
            Recording::Under(writer, _) => {
                let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
                let digest = Digest::of_file(file.path())?;
                Ok(Some((file, digest)))
            }
            Recording::TooMuch => Err(io::Error::other(format!("it said more than {} MiB", LARGEST >> 20))),
            Recording::Failed(error) => Err(error),
        }
    }
}

impl Recording {
    fn write(&mut self, said: &RecordedOutput) -> io::Result<()> {
        if let Recording::Nothing { folder } = self {
            std::fs::create_dir_all(&folder)?;
            *self = Recording::Under(BufWriter::new(NamedTempFile::new_in(folder)?), 0);
        }
        let Recording::Under(writer, size) = self else { return Ok(()) };
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        *size += line.len() as u64;
        if *size > LARGEST {
            *self = Recording::TooMuch;
            return Ok(());
        }
        writer.write_all(&line)
    }
}

impl OutputListener for Recorder {
    fn on_output(&self, message: &AttemptMessageKind) {
        let said = match message {
            AttemptMessageKind::Lines(stream, lines) => {
                RecordedOutput::Lines(*stream, lines.iter().map(str::to_owned).collect())
            }
            AttemptMessageKind::Summary(markdown) => RecordedOutput::Summary(markdown.clone()),
            AttemptMessageKind::Problem(problem) => RecordedOutput::Problem(problem.clone()),
            AttemptMessageKind::Progress { .. }
            | AttemptMessageKind::CacheLookedUp { .. }
            | AttemptMessageKind::EffectRequested { .. } => return,
        };
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = recording.write(&said) {
            *recording = Recording::Failed(error);
        }
    }
}

/// Says all of it again.
pub(crate) async fn repeat(file: &Path, output: &AttemptOutput) -> io::Result<()> {
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
        }
    }
}
