//! Bindings generated from the WIT contract. A guest imports only the functions that it calls.

#![allow(missing_docs, unreachable_pub, clippy::semicolon_if_nothing_returned, reason = "generated code")]

/// Every import, and the exports of every stage.
pub mod stage {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package stagewright:exported;
            world exported {
                include stagewright:stage/stage@0.2.3;
                export stagewright:stage/requirements@0.2.3;
            }
        ",
        world: "stagewright:exported/exported",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "stagewright_sdk::bindings::stage",
        additional_derives: [PartialEq, Eq],
    });
}

/// The `reconcile` export, which an effectful stage has in addition to those of [`stage`].
pub mod reconcile {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package stagewright:reconciling;
            world reconciling { export stagewright:stage/reconcile@0.2.3; }
        ",
        world: "stagewright:reconciling/reconciling",
        with: { "stagewright:types/types@0.2.0": crate::bindings::imports::types },
        pub_export_macro: true,
        default_bindings_module: "stagewright_sdk::bindings::reconcile",
    });
}

/// The `drift` export, which an effectful stage has as well.
pub mod drift {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package stagewright:comparing;
            world comparing { export stagewright:stage/drift@0.2.3; }
        ",
        world: "stagewright:comparing/comparing",
        with: { "stagewright:types/types@0.2.0": crate::bindings::imports::types },
        pub_export_macro: true,
        default_bindings_module: "stagewright_sdk::bindings::drift",
    });
}

/// The imported interfaces, which have a package each.
pub mod imports {
    use super::stage::stagewright as packages;

    pub use packages::artifacts::artifacts;
    pub use packages::clock::clock;
    pub use packages::context::context;
    pub use packages::environment::environment;
    pub use packages::findings::findings;
    pub use packages::gate::gate;
    pub use packages::http::http;
    pub use packages::logging::logging;
    pub use packages::metrics::metrics;
    pub use packages::outputs::outputs;
    pub use packages::poll::poll;
    pub use packages::process::process;
    pub use packages::random::random;
    pub use packages::registry::registry;
    pub use packages::secrets::{reveal, secrets};
    pub use packages::service::service;
    pub use packages::source::source;
    pub use packages::ssh::ssh;
    pub use packages::test_reports::test_reports;
    pub use packages::types::types;
    pub use packages::workspace::workspace;
}
