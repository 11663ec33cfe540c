//! Builds an OCI image layout from files, the same bytes each time.
