//! Tests of the system through its command line.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests start the binary and check its files")]

mod affected;
mod approval;
mod cache;
mod cancel;
mod captures;
mod catalog;
mod changed_files;
mod command_line;
mod command_plugin;
mod contract;
mod crash;
mod earlier_state;
mod environment;
mod failed_tests;
mod fake_host;
mod faults;
mod git;
mod grant;
mod hostile;
mod images;
mod init;
mod installed;
mod learn;
mod lock;
mod misbehaving;
mod packages;
mod plain_user;
mod policy;
mod printed;
mod production;
mod recovery;
mod refusals;
mod rehearsal;
mod release;
mod secrets;
mod shared_cache;
mod terminals;
mod toolchains;
mod undeclared;
mod untrusted_input;
mod upgrade;
mod waits;
mod wire;
mod watch;
