//! `graph`.

use std::io::Write;

use stagewright_report::Graph;

use crate::args::{Global, GraphArgs, GraphFormat};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::load;
use crate::repository::Repository;

pub(crate) fn graph(
    global: &Global,
    repository: &Repository,
    args: &GraphArgs,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let file = repository.pipeline(args.pipeline.as_deref())?;
    let graph = Graph::of_plan(&load::plan(global, repository, &file)?);
    let text = match args.format {
        GraphFormat::Dot => graph.to_dot(),
        GraphFormat::Mermaid => graph.to_mermaid(),
        GraphFormat::Svg => graph.to_svg(),
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Success)
}
