//! Supervised local services.
