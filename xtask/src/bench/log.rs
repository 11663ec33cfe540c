//! A stage that writes a large log.

use std::fs::File;
use std::io::BufWriter;

use super::contest::{Contender, contest};
use super::graph::write;
use super::peers::{Bench, Measured, SECRET};
use crate::cargo::{Result, is_installed};

/// Size of the log in bytes.
const SIZE: usize = 1_000_000_000;

const PIPELINE: &str = r#"schema = 1
[pipeline]
name = "log"
sandbox = "preferred"
[secrets.token]
from = "env:BENCH_TOKEN"
[stages.log]
uses = "command"
with = { argv = ["cat", "log.txt"], secret-env = { TOKEN = "token" } }
log-limit = "2GiB"
limits = { log-lines = 100000000 }
permissions = { process = ["cat"], read = ["log.txt"], secrets = ["token:env"] }
"#;

/// `sed` masks only the plain value. The engine also masks its encodings, including those that are broken across lines.
const MAKEFILE: &str = "plain:\n\t@cat log.txt > out.log\nsed:\n\t@cat log.txt | sed 's|SECRET|***|g' > out.log\n\
                        synced: sed\n\t@sync out.log\n";

impl Bench {
    pub(super) fn log(&self) -> Result<Measured> {
        let folder = self.folder.join("log");
        write(&folder, "stagewright.toml", PIPELINE)?;
        write(&folder, "Makefile", &MAKEFILE.replace("SECRET", SECRET))?;
        let path = folder.join("log.txt");
        let written = File::create(&path).and_then(|file| lines(&mut BufWriter::new(file)));
        written.map_err(|error| format!("can't write {}: {error}", path.display()))?;
        let clean = "rm -rf .stagewright out.log; sync .";
        let mut contenders = vec![self.ours("stagewright, masked, on disk", &["run"]).after(clean)];
        if is_installed("make") {
            let make = |name, target| Contender::new(name, &["make", "-s", target]).after(clean);
            contenders.push(make("make, to a file", "plain"));
            contenders.push(make("make, sed, to a file", "sed"));
            contenders.push(make("make, sed, on disk", "synced"));
        }
        let times = contest(&folder, &self.environment, 3, &contenders)?;
        let speed = |seconds: f64| SIZE as f64 / seconds / 1e6;
        let mut notes: Vec<String> =
            times.iter().map(|time| format!("{}: {:.0} MB/s", time.name, speed(time.median))).collect();
        notes.push(format!("stagewright: at most {} KiB resident", self.peak(&folder, "stagewright.toml")?));
        Ok(Measured { title: "1 GB of log", times, notes })
    }
}

/// Writes lines like those of a build tool: about 80 bytes each, with a secret in one of a thousand.
fn lines(to: &mut impl std::io::Write) -> std::io::Result<()> {
    const WORDS: [&str; 12] = [
        "compiled",
        "the",
        "module",
        "in",
        "target/release/deps",
        "warning:",
        "unused",
        "cached",
        "linking",
        "with",
        "12 ms",
        "ok",
    ];
    let (mut size, mut number) = (0, 0);
    while size < SIZE {
        let mut line = format!(
            "10:{:02}:{:02}.{:03} INFO step{} ",
            number / 60_000 % 60,
            number / 1000 % 60,
            number % 1000,
            number % 97
        );
        for word in 0.. {
            if line.len() > 65 + number % 20 {
                break;
            }
            line.push_str(WORDS[(number * 7 + word * word + word) % WORDS.len()]);
            line.push(' ');
        }
        line.push_str(if number % 1000 == 0 { SECRET } else { "done" });
        line.push('\n');
        to.write_all(line.as_bytes())?;
        (size, number) = (size + line.len(), number + 1);
    }
    to.flush()
}
