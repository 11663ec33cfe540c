//! What a sandbox costs: `/bin/true` from start to end, confined and plain in turn, and a sandbox from nothing to its
//! end. Takes the sandbox's program as its argument. Figures are wall time; compare them within one run only.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stagewright_files::remove_tree;
use stagewright_process::Command;
use stagewright_process::sandbox::{Confinement, Maker, Sandbox, system};

const PROGRAMS: usize = 1000;
const SANDBOXES: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let exe = std::env::args_os().nth(1).map(PathBuf::from).ok_or("name the program of the sandbox")?;
    let maker = Maker::new(fs::canonicalize(exe)?);
    let base = std::env::temp_dir().join(format!("sandbox-cost-{}", std::process::id()));
    let sandbox = start(&maker, &base.join("shared"))?;
    // Both have been to the disk once.
    run(Some(&sandbox)).await?;
    run(None).await?;
    let (mut confined, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..PROGRAMS {
        confined.push(run(Some(&sandbox)).await?);
        plain.push(run(None).await?);
    }
    sandbox.end().await;
    let mut whole = Vec::new();
    for number in 0..SANDBOXES {
        let begun = Instant::now();
        let sandbox = start(&maker, &base.join(number.to_string()))?;
        run(Some(&sandbox)).await?;
        sandbox.end().await;
        whole.push(begun.elapsed());
    }
    let _ = remove_tree(&base);
    show(&format!("/bin/true in a sandbox, {PROGRAMS} times"), &mut confined);
    show(&format!("/bin/true without one, {PROGRAMS} times"), &mut plain);
    show(&format!("a sandbox with one /bin/true in it, {SANDBOXES} times"), &mut whole);
    println!("confined against plain: {:.2} (medians)", median(&confined).as_secs_f64() / median(&plain).as_secs_f64());
    Ok(())
}

fn start(maker: &Maker, scratch: &Path) -> Result<Sandbox, Box<dyn Error>> {
    fs::create_dir_all(scratch.join("tmp"))?;
    let (places, rules) = system(scratch);
    let confinement = Confinement { scratch: scratch.to_owned(), places, rules, ..Confinement::default() };
    Ok(maker.sandbox(&confinement)?)
}

async fn run(sandbox: Option<&Sandbox>) -> Result<Duration, Box<dyn Error>> {
    let command = Command { program: "/bin/true".into(), current_dir: "/".into(), ..Command::default() };
    let begun = Instant::now();
    let mut child = match sandbox {
        Some(sandbox) => sandbox.spawn(command)?,
        None => command.spawn()?,
    };
    let status = child.wait().await?;
    let took = begun.elapsed();
    if status.success() { Ok(took) } else { Err(format!("/bin/true ended with {status}").into()) }
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: median {:?}, fastest {:?}, 95 of 100 within {:?}", at(50), at(0), at(95));
}

fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}
