//! The logs of stages: one plain text file per attempt.
//!
//! A line is `<ms since the Unix epoch> <event> <number> <stream> <text>`, or ` <text>` if everything but the text is
//! the same as in the line before. The event is the `seq` of the run's last event before the line. The number counts
//! the chunks that the process writes to the run's logs, over all stages, from 0. Together they define the order of
//! lines of different stages. The stream is `o` (a process's standard output), `e` (its standard error), `p` (the
//! plugin) or `g` (the engine). The last line of a complete log is `sealed`. There can be earlier such lines, if an
//! attempt continued after a gate or was recovered after a crash. A last line without a line end was cut off by a crash
//! and isn't shown.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use stagewright_engine::{Lines, LogSink, RunId, StoreError, Stream, Timestamp};
use stagewright_model::StageIndex;

use crate::store::create_folder;
use crate::{Store, error};

const SEAL: &[u8] = b"sealed\n";

/// After this many bytes, writing them to disk is started early, so that the sync at the end of the log is short.
const WRITE_BEHIND: u64 = 8 << 20;

/// The capacity in bytes that the batch buffer may keep between calls.
const KEPT_BUFFER: usize = 1 << 20;

/// Writes the logs of one run. A line is visible to readers once `append` has returned.
#[derive(Debug)]
pub struct RunLogs {
    directory: PathBuf,
    open: HashMap<(StageIndex, u32), OpenLog>,
    batch: Vec<u8>,
    /// The number of the next chunk.
    number: u64,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    /// The file's size in bytes.
    size: u64,
    /// How many of these bytes are on disk or being written there.
    flushed: u64,
}

impl OpenLog {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.size += data.len() as u64;
        if let Some(fresh) = NonZeroU64::new(self.size - self.flushed).filter(|fresh| fresh.get() >= WRITE_BEHIND) {
            // Linux starts writing dirty pages back when it is advised that they aren't needed. Without this, a log of
            // hundreds of megabytes would stay in memory until the seal, whose sync would then block the engine's loop.
            // On a system that ignores the advice, only that sync takes longer.
            let _ = fadvise(&self.file, self.flushed, Some(fresh), Advice::DontNeed);
            self.flushed = self.size;
        }
        Ok(())
    }
}

/// A line of a stage's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// `seq` of the run's last event before it.
    pub after: u64,
    /// Orders the lines of the run's stages after the same event.
    pub number: u64,
    /// Where it came from.
    pub stream: Stream,
    /// Without its line end.
    pub text: String,
}

/// Reads one attempt's log. The iterator returns `None` at the end of what has been written so far. To follow a live
/// log, call it again until [`is_sealed`](LogReader::is_sealed).
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    line: Vec<u8>,
    /// The previous line, without its text.
    head: Option<LogLine>,
    number: u64,
    sealed: bool,
    /// The bytes that have been read.
    position: u64,
}

impl Store {
    /// Opens the logs of `run` for writing by the process that drives it. Logs that an earlier process left unsealed
    /// are sealed, because no process writes to them any more.
    ///
    /// # Errors
    /// If the folder can't be created, or a log can't be written.
    pub fn logs(&self, run: &RunId) -> Result<RunLogs, StoreError> {
        let directory = self.run_directory(run).join("logs");
        create_folder(&directory)?;
        seal_interrupted_logs(&directory)?;
        Ok(RunLogs { directory, open: HashMap::new(), batch: Vec::new(), number: 0 })
    }

    /// Opens one attempt's log for reading. An attempt without output has no log file. Its reader returns nothing and
    /// is never sealed; only the journal shows that the attempt has ended.
    pub fn read_log(&self, run: &RunId, stage: StageIndex, attempt: u32) -> LogReader {
        let path = log_path(&self.run_directory(run).join("logs"), stage, attempt);
        LogReader { path, file: None, line: Vec::new(), head: None, number: 0, sealed: false, position: 0 }
    }

    /// The attempts of `stage` that have a log, in order.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn log_attempts(&self, run: &RunId, stage: StageIndex) -> Result<Vec<u32>, StoreError> {
        let matching = |(index, attempt)| (index == stage).then_some(attempt);
        Ok(self.all_logs(run)?.into_iter().filter_map(matching).collect())
    }

    /// All attempts of the run that have a log, in order.
    pub(crate) fn all_logs(&self, run: &RunId) -> Result<Vec<(StageIndex, u32)>, StoreError> {
        let directory = self.run_directory(run).join("logs");
        let list = || -> io::Result<Vec<(StageIndex, u32)>> {
            let mut logs = Vec::new();
            for entry in std::fs::read_dir(&directory)? {
                let name = entry?.file_name();
                let parsed = name.to_str().and_then(|name| name.strip_suffix(".log")?.split_once('-'));
                let numbers = parsed.map(|(stage, attempt)| (stage.parse(), attempt.parse()));
                if let Some((Ok(stage), Ok(attempt))) = numbers {
                    logs.push((StageIndex(stage), attempt));
                }
            }
            logs.sort_unstable();
            Ok(logs)
        };
        match list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(|error| error::file("list", &directory, error)),
        }
    }
}

fn seal_interrupted_logs(directory: &Path) -> Result<(), StoreError> {
    let seal = |path: &Path| -> io::Result<()> {
        if ends_sealed(path)? {
            return Ok(());
        }
        put_seal(open_for_append(path)?, directory)
    };
    let entries = std::fs::read_dir(directory).map_err(|error| error::file("list", directory, error))?;
    for entry in entries {
        let path = entry.map_err(|error| error::file("list", directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            seal(&path).map_err(|error| error::file("seal", &path, error))?;
        }
    }
    Ok(())
}

/// Appends the seal. The log and its entry in the folder are on disk once this returns.
fn put_seal(mut log: File, directory: &Path) -> io::Result<()> {
    log.write_all(SEAL)?;
    log.sync_data()?;
    stagewright_files::sync_folder(directory)
}

fn ends_sealed(path: &Path) -> io::Result<bool> {
    let mut file = stagewright_files::open(path)?;
    let length = file.metadata()?.len();
    let mut end = Vec::new();
    // Include the preceding line end: a seal is a whole line.
    file.seek(SeekFrom::Start(length.saturating_sub(SEAL.len() as u64 + 1)))?;
    file.read_to_end(&mut end)?;
    Ok(end == SEAL || (end.starts_with(b"\n") && end.ends_with(SEAL)))
}

impl LogSink for RunLogs {
    fn append(
        &mut self,
        at: Timestamp,
        after: u64,
        stage: StageIndex,
        attempt: u32,
        stream: Stream,
        lines: &Lines,
    ) -> Result<(), StoreError> {
        let prefix = format!("{} {after} {} {} ", at.0, self.number, letter(stream));
        self.number += 1;
        self.batch.clear();
        self.batch.shrink_to(KEPT_BUFFER);
        self.batch.reserve(prefix.len() + lines.size() + lines.count());
        let mut head = prefix.as_str();
        for line in lines.iter() {
            self.batch.extend_from_slice(head.as_bytes());
            self.batch.extend_from_slice(line.as_bytes());
            self.batch.push(b'\n');
            head = " ";
        }
        let path = log_path(&self.directory, stage, attempt);
        let file = match self.open.entry((stage, attempt)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let opened = open_for_append(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                let (size, file) = opened.map_err(|error| error::file("open", &path, error))?;
                entry.insert(OpenLog { file, size, flushed: size })
            }
        };
        file.write(&self.batch).map_err(|error| error::file("write", &path, error))
    }

    fn seal(&mut self, stage: StageIndex, attempt: u32) -> Result<(), StoreError> {
        // An attempt without output has no file to seal.
        let Some(OpenLog { file, .. }) = self.open.remove(&(stage, attempt)) else { return Ok(()) };
        let path = log_path(&self.directory, stage, attempt);
        put_seal(file, &self.directory).map_err(|error| error::file("seal", &path, error))
    }
}

impl LogReader {
    /// Whether the last line that was read is a seal. More lines can follow if the attempt continues.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    fn read(&mut self) -> Result<Option<LogLine>, StoreError> {
        loop {
            if self.file.is_none() {
                let opened = open_if_exists(&self.path, self.position);
                self.file = opened.map_err(|error| error::file("open", &self.path, error))?;
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            // A part of an unfinished line stays in `line` until the rest has been written.
            let read = file.read_until(b'\n', &mut self.line);
            self.position += read.map_err(|error| error::file("read", &self.path, error))? as u64;
            if self.line.last() != Some(&b'\n') {
                // Following a run takes a reader for each attempt, and few of their logs get more lines.
                self.file.take_if(|_| self.sealed);
                return Ok(None);
            }
            self.number += 1;
            self.sealed = self.line == SEAL;
            let line = String::from_utf8_lossy(&self.line[..self.line.len() - 1]);
            let parsed = match line.strip_prefix(' ') {
                Some(text) => self.head.as_ref().map(|head| LogLine { text: text.to_owned(), ..head.clone() }),
                None => parse_line(&line),
            };
            drop(line);
            self.line.clear();
            if !self.sealed {
                let parsed = parsed.ok_or_else(|| self.invalid_line())?;
                self.head = Some(LogLine { text: String::new(), ..parsed });
                return Ok(Some(parsed));
            }
        }
    }

    fn invalid_line(&self) -> StoreError {
        error::refused(
            format!("{}, line {}: invalid log line", self.path.display(), self.number),
            "another program wrote to the file: read it with a pager",
        )
    }
}

impl Iterator for LogReader {
    type Item = Result<LogLine, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn log_path(directory: &Path, stage: StageIndex, attempt: u32) -> PathBuf {
    directory.join(format!("{}-{attempt}.log", stage.0))
}

/// Opens a file at a position; none if it doesn't exist or has nothing behind the position.
fn open_if_exists(path: &Path, position: u64) -> io::Result<Option<BufReader<File>>> {
    if position > 0 && path.metadata()?.len() <= position {
        return Ok(None);
    }
    match stagewright_files::open(path) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(position))?;
            Ok(Some(BufReader::with_capacity(64 << 10, file)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a log for appending. If a crash cut off its last line, that line is removed.
fn open_for_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..usize::try_from(end - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    file.set_len(end)?;
    Ok(file)
}

fn letter(stream: Stream) -> char {
    match stream {
        Stream::Stdout => 'o',
        Stream::Stderr => 'e',
        Stream::Plugin => 'p',
        Stream::Engine => 'g',
    }
}

fn parse_line(line: &str) -> Option<LogLine> {
    let (at, rest) = line.split_once(' ')?;
    let (after, rest) = rest.split_once(' ')?;
    let (number, rest) = rest.split_once(' ')?;
    let (stream, text) = rest.split_once(' ')?;
    let (after, number) = (after.parse().ok()?, number.parse().ok()?);
    let stream = match stream {
        "o" => Stream::Stdout,
        "e" => Stream::Stderr,
        "p" => Stream::Plugin,
        "g" => Stream::Engine,
        _ => return None,
    };
    Some(LogLine { at: Timestamp(at.parse().ok()?), after, number, stream, text: text.to_owned() })
}
