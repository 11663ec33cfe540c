//! The plugin host as the engine sees it: guests run, fail, misbehave and are stopped.

mod guest;
mod harness;
mod limits;
mod native;
mod plugins;
mod runs;
