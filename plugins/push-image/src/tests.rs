//! On the scripted host.
