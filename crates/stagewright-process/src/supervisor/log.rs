//! `service.log`: appended to, rotated by size, read from its end.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A service's log takes at most twice this.
const ROTATE_BYTES: u64 = 16 * 1024 * 1024;
/// As far back as a tail looks into each file.
const TAIL_BYTES: u64 = 1024 * 1024;

/// Both streams of a service, in the order in which they were read.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    rotate_at: u64,
}

impl Log {
    pub(super) fn open(dir: &Path) -> io::Result<Log> {
        let path = dir.join("service.log");
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let length = file.metadata()?.len();
        Ok(Log { path, file, length, rotate_at: ROTATE_BYTES })
    }

    pub(super) fn append(&mut self, data: &[u8]) -> io::Result<()> {
        if self.length >= self.rotate_at {
            fs::rename(&self.path, rotated(&self.path))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.length = 0;
        }
        self.file.write_all(data)?;
        self.length += data.len() as u64;
        Ok(())
    }
}

/// The last lines of the log of the service in `dir`; nothing when there is no log.
pub fn log_tail(dir: &Path, lines: usize) -> io::Result<String> {
    let path = dir.join("service.log");
    let mut tail = VecDeque::with_capacity(lines.min(1024));
    for path in [rotated(&path), path] {
        match stagewright_files::open(&path) {
            Ok(file) => keep_last(file, lines, &mut tail)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tail.into_iter().collect())
}

fn keep_last(mut file: File, lines: usize, tail: &mut VecDeque<String>) -> io::Result<()> {
    let skip = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(skip))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    if skip > 0 {
        reader.read_until(b'\n', &mut line)?;
        line.clear();
    }
    while reader.read_until(b'\n', &mut line)? > 0 {
        tail.push_back(String::from_utf8_lossy(&line).into_owned());
        if tail.len() > lines {
            tail.pop_front();
        }
        line.clear();
    }
    Ok(())
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_reaches_over_a_rotation_and_old_lines_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log { rotate_at: 20, ..Log::open(dir.path()).unwrap() };
        for number in 0..9 {
            log.append(format!("line {number}\n").as_bytes()).unwrap();
        }
        // Three lines of seven bytes fill a file: 0–2 are gone, 3–5 rotated, 6–8 current.
        assert_eq!(log_tail(dir.path(), 4).unwrap(), "line 5\nline 6\nline 7\nline 8\n");
        assert_eq!(log_tail(dir.path(), 99).unwrap().lines().count(), 6);
        assert_eq!(log_tail(dir.path(), 0).unwrap(), "");
    }

    #[test]
    fn no_log_is_an_empty_tail() {
        assert_eq!(log_tail(Path::new("/nonexistent"), 3).unwrap(), "");
    }
}
