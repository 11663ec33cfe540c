//! `run --learn`: observes what stages use, and proposes the permissions for it.

use stagewright_report::{Printer, text};
use stagewright_session::{GrantRequest, RunMode, Session, StartOutcome};

use super::{grant, run};
use crate::answers;
use crate::console;
use crate::drive::drive;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;
use crate::run_args::RunArgs;

/// What a person agrees to.
const TERMS: [&str; 6] = [
    "The stages run on a copy of this workspace. Until they end, their programs may",
    "  - read, write and start every file of the copy, and start every program of this machine in PATH",
    "  - fetch from the hosts of cargo, npm and pip, without credentials",
    "They get stand-ins for secrets, and no sockets or ports of this machine. Other hosts, and files outside of the",
    "workspace and the programs' installations, are refused and listed. Stages that act on an environment are left out.",
    "What the stages used is shown at the end, as permissions to write into the pipeline file.",
];
/// What a run can't show.
const LIMITS: [&str; 3] = [
    "These permissions are what the programs used in this run, not what they should need: read them before you write them.",
    "The run doesn't show other branches of the programs, what they would have done if nothing had been refused to them, and",
    "which variables they read.",
];

pub(crate) async fn learn(
    global: &Global,
    session: &Session,
    args: &RunArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let file = session.pipeline(args.pipeline.pipeline.as_deref())?;
    let pipeline = session.load(file.clone())?;
    let request = run::request(args, RunMode::Learning)?;
    let agreed = if args.learning.yes { Some(true) } else { agree(&args.learning.allow_host).await? };
    if agreed != Some(true) {
        console::say(text!("Nothing was run."));
        return Ok(if agreed.is_none() { Exit::Cancelled } else { Exit::NotReady });
    }
    let StartOutcome::Run(started) = session.start(pipeline, &request).await? else { return Ok(Exit::Success) };
    let id = started.id().0.clone();
    let ended = drive(global, session, &args.drive, *started).await?;
    if ended == Exit::Cancelled {
        console::say(text!("What the stages used until then can be written: stagewright grant --run {id}"));
        return Ok(ended);
    }
    let wanted = GrantRequest { run: Some(id), ..GrantRequest::default() };
    let proposal = session.propose_grants(session.load(file)?, &wanted).await?;
    if args.drive.is_json() {
        let written = args.learning.yes && !proposal.grants.is_empty();
        if written {
            proposal.write()?;
        }
        out.json(&grant::answer(&proposal, written))?;
        return Ok(ended);
    }
    out.line(text!(""))?;
    out.lines(LIMITS.map(|line| text!("{line}")))?;
    if ended != Exit::Success {
        out.line(text!("The run didn't succeed: what its stages would have used after that isn't known."))?;
    }
    let offered = grant::offer(&proposal, args.learning.yes, false, out).await?;
    Ok(if ended == Exit::Success { offered } else { ended })
}

/// Asks the person at the terminal, and not on standard output, which may be the record of the run.
async fn agree(hosts: &[String]) -> Result<Option<bool>, CommandError> {
    if !console::can_ask() {
        let message = "stages learn only after a confirmation, which needs a terminal; nothing was run";
        return Err(CommandError::not_ready(message).hint("read `stagewright run --help`, and agree with --yes"));
    }
    TERMS.into_iter().for_each(|line| console::say(text!("{line}")));
    if !hosts.is_empty() {
        console::say(text!("You let them reach {} as well.", hosts.join(", ")));
    }
    Ok(answers::confirm(text!("Let the stages learn? [y/N] ")).await)
}
