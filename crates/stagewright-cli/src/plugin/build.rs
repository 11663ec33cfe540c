//! `plugin build`: shows what `stagewright-plugin-build` builds.

use stagewright_plugin_build::{BuildOptions, build, guest};
use stagewright_report::{Block, Printer, text};

use crate::console;

use super::component::Interfaces;
use super::{BuildArgs, PluginCommandError};

pub(super) fn run(args: &BuildArgs, out: &mut Printer) -> Result<(), PluginCommandError> {
    let paths = if args.paths.is_empty() { guest::default_paths()? } else { args.paths.clone() };
    let options = BuildOptions { out: args.out.as_deref(), profile: &args.release_profile, check: &check };
    let mut err = console::err();
    for built in build(&paths, &options, &mut |lines| err.block(&Block::of(lines)))? {
        let state = if built.rebuilt { "built" } else { "up to date" };
        let kib = built.bytes.div_ceil(1024);
        out.line(text!("{:<14} {kib:>5} KiB  {state:<10}  {}", built.name, built.component.display()))?;
    }
    Ok(())
}

/// Whether this engine could run the component.
fn check(component: &[u8]) -> Result<(), String> {
    let problems = Interfaces::of(component)?.problems();
    if problems.is_empty() { Ok(()) } else { Err(format!("it {}", problems.join(", and it "))) }
}
