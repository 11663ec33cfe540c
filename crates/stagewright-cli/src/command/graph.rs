//! `graph`: draws the stages of a pipeline.

use stagewright_report::{Block, Graph, Printer};
use stagewright_session::Session;

use crate::args::{GraphArgs, GraphFormat};
use crate::error::CommandError;
use crate::exit::Exit;

pub(crate) fn graph(session: &Session, args: &GraphArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let pipeline = session.load(session.pipeline(args.pipeline.as_deref())?)?;
    let graph = Graph::of_plan(&pipeline.plan);
    let text = match args.format {
        GraphFormat::Dot => graph.to_dot(),
        GraphFormat::Mermaid => graph.to_mermaid(),
        GraphFormat::Svg => graph.to_svg(),
    };
    out.verbatim(&Block::of(&text))?;
    Ok(Exit::Success)
}
