//! Names that mean something in every expression.

use super::NeedsStatus;

/// Names that CEL resolves to types.
pub(super) const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional_type", "string", "type", "uint"];

/// Functions that answer from the needs of the stage.
pub(super) type Status = fn(NeedsStatus) -> bool;
pub(super) const STATUS_FUNCTIONS: [(&str, Status); 4] = [
    ("always", |_| true),
    ("cancelled", |needs| needs.cancelled),
    ("failure", |needs| needs.failed && !needs.cancelled),
    ("success", |needs| !needs.failed && !needs.cancelled),
];

/// Names that CEL resolves to a namespace of functions, as in `optional.of(x)`.
pub(super) const NAMESPACES: [&str; 2] = ["optional", "strings"];
