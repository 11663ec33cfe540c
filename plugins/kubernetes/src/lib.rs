//! What plugins that deploy to a Kubernetes cluster share: the part of its API that they use, objects with the places where
//! they were written, what is refused in them, and how far workloads are.
//!
//! The host signs the requests. It knows nothing of releases, and changes nothing of its own accord.

mod chart;
mod checks;
mod cluster;
mod digest;
mod drift;
mod object;
mod pods;
mod progress;
mod record;
mod schema;
mod workload;
mod yaml;

pub use chart::{path_problems, value_arguments};
pub use checks::{Allowance, is_name, moving_images, none_of, problems};
pub use cluster::{Apply, Cluster};
pub use digest::sha256;
pub use drift::{Owner, drift};
pub use object::{Identity, MARK, Object, Origin, containers, mark_name, pod_pointer, rank};
pub use progress::{log_tail, progress, wait_until_ready};
pub use record::{Fenced, SERVICE_LABEL, ServiceRecord, config_map};
pub use schema::Schema;
pub use yaml::{Document, Lines, documents};
