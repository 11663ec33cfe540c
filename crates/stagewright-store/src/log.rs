//! The logs of stages: one plain text file an attempt.
//!
//! A line is `<ms since the Unix epoch> <event> <number> <stream> <text>`, or ` <text>` where all but the text is as in
//! the line before. The event is the last of the run's journal
//! before the line; the number counts the pieces that the run's logs are written in, all stages together, from 0 in each
//! process: the two put the lines of several stages in order. The stream is `o` (a process's standard output), `e` (its
//! standard error), `p` (the plugin) or `g` (the engine). The last line of a complete log is `sealed`; there may
//! be more such lines before it, where an attempt went on after a gate or was asked about after a crash. A last line
//! without its line end was being written when the machine went down, and is not shown.

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

/// Bytes after which the disk is told to begin: at the end little is left to wait for.
const WRITE_BEHIND: u64 = 8 << 20;

/// What a batch's buffer may keep between calls, bytes.
const KEPT_BUFFER: usize = 1 << 20;

/// Writes the logs of one run. A line is visible to readers once `append` has returned.
#[derive(Debug)]
pub struct RunLogs {
    directory: PathBuf,
    open: HashMap<(StageIndex, u32), Open>,
    batch: Vec<u8>,
    /// Of the next piece.
    number: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Its bytes, and how many of them the disk was told of.
    size: u64,
    told: u64,
}

impl Open {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.size += data.len() as u64;
        if let Some(fresh) = NonZeroU64::new(self.size - self.told).filter(|fresh| fresh.get() >= WRITE_BEHIND) {
            // Not to need what isn't on disk yet means to write it. A system that doesn't has more to do at the end.
            let _ = fadvise(&self.file, self.told, Some(fresh), Advice::DontNeed);
            self.told = self.size;
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
    /// Puts it in order among the lines of the run's stages after the same event.
    pub number: u64,
    /// Where it came from.
    pub stream: Stream,
    /// Without its line end.
    pub text: String,
}

/// Reads one attempt's log: an iterator that gives none at the end of what has been written so far. To follow a live
/// log, ask again until [`is_sealed`](LogReader::is_sealed).
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    line: Vec<u8>,
    /// The line before, without its text.
    head: Option<LogLine>,
    number: u64,
    sealed: bool,
}

impl Store {
    /// For writing the logs of `run`, by the process that drives it. Logs that the process before it was cut off from
    /// are sealed: nobody is left to write to them.
    ///
    /// # Errors
    /// When the folder can't be made, and whatever the disk refuses.
    pub fn logs(&self, run: &RunId) -> Result<RunLogs, StoreError> {
        let directory = self.run_directory(run).join("logs");
        create_folder(&directory)?;
        seal_cut(&directory)?;
        Ok(RunLogs { directory, open: HashMap::new(), batch: Vec::new(), number: 0 })
    }

    /// For reading one attempt's log. An attempt that has said nothing has no file, and its reader gives nothing, and
    /// no seal: that it is over, its journal says.
    pub fn read_log(&self, run: &RunId, stage: StageIndex, attempt: u32) -> LogReader {
        let path = log_path(&self.run_directory(run).join("logs"), stage, attempt);
        LogReader { path, file: None, line: Vec::new(), head: None, number: 0, sealed: false }
    }

    /// The attempts of `stage` that have a log, in order.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn log_attempts(&self, run: &RunId, stage: StageIndex) -> Result<Vec<u32>, StoreError> {
        let of_stage = |(index, attempt)| (index == stage).then_some(attempt);
        Ok(self.all_logs(run)?.into_iter().filter_map(of_stage).collect())
    }

    /// Every attempt of the run that has a log, in order.
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

fn seal_cut(directory: &Path) -> Result<(), StoreError> {
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

/// Both the log and its name in the folder are on disk once this returns.
fn put_seal(mut log: File, directory: &Path) -> io::Result<()> {
    log.write_all(SEAL)?;
    log.sync_data()?;
    stagewright_files::sync_folder(directory)
}

fn ends_sealed(path: &Path) -> io::Result<bool> {
    let mut file = stagewright_files::open(path)?;
    let length = file.metadata()?.len();
    let mut end = Vec::new();
    // With the line end before it: a line of its own.
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
                entry.insert(Open { file, size, told: size })
            }
        };
        file.write(&self.batch).map_err(|error| error::file("write", &path, error))
    }

    fn seal(&mut self, stage: StageIndex, attempt: u32) -> Result<(), StoreError> {
        // Without a file there is nothing that could be lost.
        let Some(Open { file, .. }) = self.open.remove(&(stage, attempt)) else { return Ok(()) };
        let path = log_path(&self.directory, stage, attempt);
        put_seal(file, &self.directory).map_err(|error| error::file("seal", &path, error))
    }
}

impl LogReader {
    /// Whether the last line that was read is a seal. The log may go on all the same, when its attempt does.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    fn read(&mut self) -> Result<Option<LogLine>, StoreError> {
        loop {
            if self.file.is_none() {
                self.file = open_if_there(&self.path).map_err(|error| error::file("open", &self.path, error))?;
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            // What is there of an unfinished line stays in `line` until the rest comes.
            let read = file.read_until(b'\n', &mut self.line);
            read.map_err(|error| error::file("read", &self.path, error))?;
            if self.line.last() != Some(&b'\n') {
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
                let parsed = parsed.ok_or_else(|| self.not_a_line())?;
                self.head = Some(LogLine { text: String::new(), ..parsed });
                return Ok(Some(parsed));
            }
        }
    }

    fn not_a_line(&self) -> StoreError {
        error::refused(
            format!("{}, line {}: not a line of a log", self.path.display(), self.number),
            "something else wrote to the file: read it with a pager",
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

fn open_if_there(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match stagewright_files::open(path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(64 << 10, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A log that a crash cut off in the middle of a line goes on after its last whole line.
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
