//! Deploys to the target `ssh`: puts releases into folders of hosts, switches a link to one of them, and starts a service with
//! it.
//!
//! Input: a folder, an archive or a program that an earlier stage has published. Output: the release's name. The host of the
//! plugin connects to the hosts; the plugin has neither keys nor the values of secrets.
//!
//! Each host keeps what a later deploy has to know in `.stagewright` of its root: the newest fencing token, the release that
//! serves, and the one that is being deployed. The scripts in `scripts` change it under a lock (`flock`), each in one step with
//! the check of the token, so that the host refuses a stale deploy. `observe` looks whether all hosts serve the interrupted
//! run's release. `undo` leads the links back to the environment's last known-good release, and sends no files.
//!
//! It removes only releases that deploys have made.

mod config;
mod host;
mod release;
mod state;
mod target;
#[cfg(test)]
mod tests;

use crate::target::Hosts;

/// The plugin.
pub(crate) type DeploySsh = rollout::Deploy<Hosts>;

stagewright_sdk::export_effectful_stage!(DeploySsh);
