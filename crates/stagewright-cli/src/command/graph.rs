//! `graph`.

use stagewright_report::{Block, Graph, Printer};

use crate::args::{Global, GraphArgs, GraphFormat};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::load;
use crate::repository::Repository;

pub(crate) fn graph(
    global: &Global,
    repository: &Repository,
    args: &GraphArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let file = repository.pipeline(args.pipeline.as_deref())?;
    let graph = Graph::of_plan(&load::plan(global, repository, &file)?);
    let text = match args.format {
        GraphFormat::Dot => graph.to_dot(),
        GraphFormat::Mermaid => graph.to_mermaid(),
        GraphFormat::Svg => graph.to_svg(),
    };
    out.verbatim(&Block::of(&text))?;
    Ok(Exit::Success)
}
