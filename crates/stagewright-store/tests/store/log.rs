//! The logs of stages.

use std::fs::{self, OpenOptions};
use std::io::Write;

use stagewright_engine::{EventKind, Lines, LogSink, RunStore, Stream, Timestamp};
use stagewright_model::StageIndex;
use stagewright_store::{LogLine, LogReader};

use super::{report, run_id, store};

const STAGE: StageIndex = StageIndex(3);

fn lines(texts: &[&str]) -> Lines {
    texts.iter().collect()
}

fn texts(reader: &mut LogReader) -> Vec<String> {
    reader.map(|line| line.unwrap().text).collect()
}

#[test]
fn what_is_logged_is_read_back() {
    let (_directory, store) = store();
    let mut logs = store.logs(&run_id()).unwrap();
    logs.append(Timestamp(5), 0, STAGE, 1, Stream::Stdout, &lines(&["one", "", "  two\twith spaces "])).unwrap();
    logs.append(Timestamp(7), 0, STAGE, 1, Stream::Engine, &lines(&["a\nline end within"])).unwrap();
    logs.append(Timestamp(8), 0, STAGE, 2, Stream::Stderr, &lines(&["sealed"])).unwrap();
    logs.seal(STAGE, 1).unwrap();
    let mut reader = store.read_log(&run_id(), STAGE, 1);
    let first = reader.next().unwrap().unwrap();
    let text = "one".to_owned();
    assert_eq!(first, LogLine { at: Timestamp(5), after: 0, number: 0, stream: Stream::Stdout, text });
    let second = LogLine { text: String::new(), ..first };
    assert_eq!(reader.next().unwrap().unwrap(), second, "it has the head of the first");
    assert_eq!(texts(&mut reader), ["  two\twith spaces ", "a", "line end within"]);
    assert!(reader.is_sealed());
    let mut second = store.read_log(&run_id(), STAGE, 2);
    assert_eq!(texts(&mut second), ["sealed"]);
    assert!(!second.is_sealed());
    assert_eq!(store.log_attempts(&run_id(), STAGE).unwrap(), [1, 2]);
    assert_eq!(store.log_attempts(&run_id(), StageIndex(0)).unwrap(), [0_u32; 0]);
}

#[test]
fn a_live_log_can_be_followed_from_before_its_first_line() {
    let (_directory, store) = store();
    let mut logs = store.logs(&run_id()).unwrap();
    let mut reader = store.read_log(&run_id(), STAGE, 1);
    assert_eq!(texts(&mut reader), [""; 0]);
    logs.append(Timestamp(5), 0, STAGE, 1, Stream::Stdout, &lines(&["one"])).unwrap();
    assert_eq!(texts(&mut reader), ["one"]);
    // Half a line, as a reader can see it during a write.
    let path = store.run_directory(&run_id()).join("logs/3-1.log");
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"6 0 1 e tw").unwrap();
    assert_eq!(texts(&mut reader), [""; 0]);
    file.write_all(b"o\n").unwrap();
    assert_eq!(texts(&mut reader), ["two"]);
    assert!(!reader.is_sealed());
    logs.seal(STAGE, 1).unwrap();
    assert_eq!(texts(&mut reader), [""; 0]);
    assert!(reader.is_sealed());
}

#[test]
fn log_that_continues_after_a_gate_is_sealed_again() {
    let (_directory, store) = store();
    let mut logs = store.logs(&run_id()).unwrap();
    for text in ["before", "after"] {
        logs.append(Timestamp(5), 0, STAGE, 1, Stream::Plugin, &lines(&[text])).unwrap();
        logs.seal(STAGE, 1).unwrap();
    }
    let mut reader = store.read_log(&run_id(), STAGE, 1);
    assert_eq!(texts(&mut reader), ["before", "after"]);
    assert!(reader.is_sealed());
}

#[test]
fn a_log_that_a_crash_cut_off_is_sealed_and_goes_on_after_its_last_whole_line() {
    let (_directory, store) = store();
    let path = store.run_directory(&run_id()).join("logs/3-1.log");
    for (whole, torn) in
        [("5 0 0 o one\n", "6 0 1 o tw".to_owned()), ("", "6".to_owned()), ("5 0 0 o one\n", "6 0 1 o ".repeat(5_000))]
    {
        fs::write(&path, format!("{whole}{torn}")).unwrap();
        assert_eq!(texts(&mut store.read_log(&run_id(), STAGE, 1)).len(), whole.lines().count());
        // The next process.
        let mut logs = store.logs(&run_id()).unwrap();
        let mut reader = store.read_log(&run_id(), STAGE, 1);
        assert_eq!((texts(&mut reader).len(), reader.is_sealed()), (whole.lines().count(), true));
        logs.append(Timestamp(7), 0, STAGE, 1, Stream::Stdout, &lines(&["next"])).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{whole}sealed\n7 0 0 o next\n"));
    }
}

#[test]
fn a_sealed_log_is_not_sealed_again_by_the_next_process() {
    let (_directory, store) = store();
    let path = store.run_directory(&run_id()).join("logs/3-1.log");
    // A log line can contain the word, and a seal can be cut off like any line.
    for (log, expected) in [
        ("sealed\n", "sealed\n"),
        ("5 0 0 o one\nsealed\n", "5 0 0 o one\nsealed\n"),
        ("5 0 0 o sealed\n", "5 0 0 o sealed\nsealed\n"),
        ("5 0 0 o one\nsealed", "5 0 0 o one\nsealed\n"),
    ] {
        fs::write(&path, log).unwrap();
        store.logs(&run_id()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{log:?}");
    }
}

#[test]
fn reader_is_sealed_only_if_the_last_line_is_a_seal() {
    let (_directory, store) = store();
    let mut logs = store.logs(&run_id()).unwrap();
    let mut reader = store.read_log(&run_id(), STAGE, 1);
    // The log of an attempt, then of its observation, then of its compensation.
    for (text, at) in [("run", 5), ("observe", 6), ("undo", 7)] {
        logs.append(Timestamp(at), 0, STAGE, 1, Stream::Plugin, &lines(&[text])).unwrap();
        assert_eq!(texts(&mut reader), [text]);
        assert!(!reader.is_sealed(), "{text}");
        logs.seal(STAGE, 1).unwrap();
        assert_eq!(texts(&mut reader), [""; 0]);
        assert!(reader.is_sealed(), "{text}");
    }
}

#[test]
fn invalid_line_is_reported_with_its_number() {
    let (_directory, store) = store();
    let path = store.run_directory(&run_id()).join("logs/3-1.log");
    fs::write(&path, " no head\n").unwrap();
    assert!(store.read_log(&run_id(), STAGE, 1).next().unwrap().is_err());
    fs::write(&path, "5 0 0 o one\nwhat\n6 0 1 e two\n").unwrap();
    let found: Vec<_> = store.read_log(&run_id(), STAGE, 1).collect();
    let error = found[1].as_ref().unwrap_err();
    assert!(report(error).contains("3-1.log, line 2"), "{}", report(error));
    assert_eq!(found[2].as_ref().unwrap().text, "two");
}

#[test]
fn attempt_without_output_has_no_file() {
    let (_directory, store) = store();
    store.logs(&run_id()).unwrap().seal(STAGE, 1).unwrap();
    assert!(!store.run_directory(&run_id()).join("logs/3-1.log").exists());
}

#[test]
fn replay_shows_lines_in_their_original_order() {
    let (_directory, mut store) = store();
    let mut logs = store.logs(&run_id()).unwrap();
    let (one, other) = (StageIndex(0), StageIndex(1));
    let mut append = |at, after, stage, text: &str| {
        logs.append(Timestamp(at), after, stage, 1, Stream::Stdout, &lines(&[text])).unwrap();
    };
    append(7, 1, one, "a");
    append(7, 1, other, "b");
    append(7, 1, one, "c");
    // The clock was set back.
    append(3, 2, other, "d");
    store.append(&run_id(), &crate::events(4), true).unwrap();
    let mut seen = Vec::new();
    let observe = |event: &stagewright_engine::Event| match &event.kind {
        EventKind::Log { line, .. } => seen.push(line.clone()),
        _ => seen.push(event.seq.to_string()),
    };
    store.replay(&run_id(), observe).unwrap();
    assert_eq!(seen, ["0", "1", "a", "b", "c", "2", "d", "3"]);
}
