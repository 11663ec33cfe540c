//! `php.ini`, and the files that enable extensions.
//!
//! The settings of extensions are left out, since they include licences, tokens and passwords of databases.

use super::value::{ValueKind, admit};

/// Keys of the language itself.
const KEYS: [&str; 33] = [
    "assert.exception",
    "date.timezone",
    "default_charset",
    "default_socket_timeout",
    "display_errors",
    "display_startup_errors",
    "error_reporting",
    "html_errors",
    "ignore_repeated_errors",
    "implicit_flush",
    "log_errors",
    "max_execution_time",
    "max_input_time",
    "max_input_vars",
    "memory_limit",
    "opcache.enable",
    "opcache.enable_cli",
    "opcache.jit",
    "opcache.jit_buffer_size",
    "opcache.memory_consumption",
    "output_buffering",
    "pcre.jit",
    "phar.readonly",
    "post_max_size",
    "precision",
    "realpath_cache_size",
    "request_order",
    "serialize_precision",
    "short_open_tag",
    "upload_max_filesize",
    "variables_order",
    "xdebug.mode",
    "zend.assertions",
];

/// The copy of a file's text.
pub(super) fn copy(text: &str) -> String {
    let lines = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let key = key.trim();
        let is_loaded = matches!(key, "extension" | "zend_extension" | "extension_dir");
        if !is_loaded && !KEYS.contains(&key) {
            return None;
        }
        let value = value.trim();
        let value = match value.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((quoted, _)) => quoted,
            None => value.split(';').next().unwrap_or(value).trim(),
        };
        let value = admit(ValueKind::Text, value).filter(|value| !value.contains(['"', ';', '$']))?;
        // In quotes, an expression of constants would be a string.
        let is_expression = key == "error_reporting";
        Some(if is_expression { format!("{key} = {value}\n") } else { format!("{key} = \"{value}\"\n") })
    });
    lines.collect()
}
