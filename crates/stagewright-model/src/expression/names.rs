//! Names with a fixed meaning in every expression.

use super::NeedsStatus;

/// Names that CEL resolves to types.
pub(super) const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional_type", "string", "type", "uint"];

/// Computes a status function's result from the state of the stage's needs.
pub(super) type StatusFunction = fn(NeedsStatus) -> bool;
/// The status functions by name.
pub(super) const STATUS_FUNCTIONS: [(&str, StatusFunction); 4] = [
    ("always", |_| true),
    ("cancelled", |needs| needs.cancelled),
    ("failure", |needs| needs.failed && !needs.cancelled),
    ("success", |needs| !needs.failed && !needs.cancelled),
];

/// Names that CEL resolves to a namespace of functions, as in `optional.of(x)`.
pub(super) const NAMESPACES: [&str; 2] = ["optional", "strings"];
