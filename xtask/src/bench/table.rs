//! Writes figures as a table and as a picture.

use std::fmt::Write as _;

use super::contest::OURS;
use super::peers::Measured;
use crate::cargo::{Result, capture, root};

/// Width of the picture, height of a bar, and width of the names, in pixels.
const WIDTH: f64 = 760.0;
const BAR: f64 = 18.0;
const NAMES: f64 = 210.0;

/// Prints the figures.
#[expect(clippy::print_stdout, reason = "the figures are the output of the command")]
pub(super) fn show(subject: &Measured) {
    println!("\n## {}\n\n{}", subject.title, table(subject));
}

/// Writes `docs/benchmarks/README.md` and the picture beside it.
pub(super) fn write(measured: &[Measured]) -> Result<()> {
    let folder = root().join("docs/benchmarks");
    let mut text = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench all`, which looks up the other tools in `PATH` and times all of them in \
         turn ({}). Times are medians, and ratios are relative to the first line of each table. Only figures of the same run \
         can be compared.\n\n\
         ![The same figures as bars](benchmarks.svg)\n",
        machine()
    );
    for subject in measured {
        let _ = write!(text, "\n## {}\n\n{}", subject.title, table(subject));
    }
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        let made = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
        made.map_err(|error| format!("can't write {}: {error}", path.display()))
    };
    put("README.md", &text)?;
    put("benchmarks.svg", &picture(measured))
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = capture(std::process::Command::new("uname").arg("-r")).unwrap_or_default();
    let version: Vec<String> = String::from_utf8_lossy(&kernel).split('.').take(2).map(str::to_owned).collect();
    format!("{processors} processors, Linux {}", version.join("."))
}

fn table(subject: &Measured) -> String {
    let first = subject.times.first().map_or(1.0, |time| time.median);
    let mut text = "| | median | from – to | ratio |\n|---|---:|---:|---:|\n".to_owned();
    for time in &subject.times {
        let (fast, slow) = time.range;
        let _ = writeln!(
            text,
            "| {} | {} | {} – {} | {:.2} |",
            time.name,
            seconds(time.median),
            seconds(fast),
            seconds(slow),
            time.median / first
        );
    }
    for note in &subject.notes {
        let _ = writeln!(text, "\n- {note}");
    }
    text
}

fn seconds(time: f64) -> String {
    if time < 1.0 { format!("{:.1} ms", time * 1e3) } else { format!("{time:.2} s") }
}

/// A bar chart; each subject has its own scale.
fn picture(measured: &[Measured]) -> String {
    let mut y = 10.0;
    let mut body = String::new();
    for subject in measured {
        y += 22.0;
        let _ = writeln!(body, "<text x=\"10\" y=\"{y}\" class=\"title\">{}</text>", subject.title);
        y += 8.0;
        let longest = subject.times.iter().map(|time| time.median).fold(f64::MIN_POSITIVE, f64::max);
        for time in &subject.times {
            let length = (WIDTH - NAMES - 100.0) * time.median / longest;
            let class = if time.name.starts_with(OURS) { "ours" } else { "peer" };
            let middle = y + BAR - 5.0;
            let _ =
                writeln!(body, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>", NAMES - 8.0, time.name);
            let _ = writeln!(
                body,
                "<rect x=\"{NAMES}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" class=\"{class}\"/>",
                BAR - 4.0
            );
            let _ = writeln!(
                body,
                "<text x=\"{:.1}\" y=\"{middle}\">{}</text>",
                NAMES + length + 6.0,
                seconds(time.median)
            );
            y += BAR;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>text {{ font: 12px sans-serif; fill: #333 }} .title {{ font-weight: bold }} .ours {{ fill: #2a6f97 }} \
         .peer {{ fill: #b8c4cc }} @media (prefers-color-scheme: dark) {{ text {{ fill: #ddd }} }}</style>\n{body}</svg>\n",
        height = y + 12.0
    )
}
