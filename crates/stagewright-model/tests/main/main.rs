//! Tests of pipeline files and expressions through the public interface.

#![allow(missing_docs, reason = "tests")]

mod code;
mod credentials;
mod diagnostics;
mod expressions;
mod fuzz;
mod inputs;
mod locks;
mod plans;
mod policies;
mod regions;
mod remarks;
mod schema;
mod ways_out;

use stagewright_model::{Diagnostic, Diagnostics, Plan, PluginNames};

/// The built-in plugins of test pipelines.
fn plugins() -> PluginNames {
    ["noop", "exec", "cargo-test", "build-image", "deploy-process"].into_iter().collect()
}

#[track_caller]
fn parse(text: &str) -> (Plan, Vec<Diagnostic>) {
    Plan::parse("stagewright.toml", text, &plugins()).unwrap_or_else(|errors| panic!("{}", render(&errors)))
}

#[track_caller]
fn plan(text: &str) -> Plan {
    parse(text).0
}

/// A whole file that contains `tables`.
fn file(tables: &str) -> String {
    format!("schema = 1\npipeline.name = \"test\"\n\n{tables}")
}

/// Renders diagnostics like the command line does, without colours.
fn render<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> String {
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor()).with_width(100);
    let mut out = String::new();
    for diagnostic in diagnostics {
        handler.render_report(&mut out, diagnostic).expect("writing to a string never fails");
        out.push('\n');
    }
    // Editors remove trailing spaces from snapshots.
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn errors(text: &str) -> Diagnostics {
    match Plan::parse("stagewright.toml", text, &plugins()) {
        Ok(_) => panic!("this has no mistakes:\n{text}"),
        Err(errors) => errors,
    }
}
