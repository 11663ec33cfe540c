//! What is said about a file when it is served.

use crate::config::Config;

const REVALIDATE: &str = "public, max-age=0, must-revalidate";

/// Content types by extension. Text is UTF-8, as Netlify, nginx and the other servers of sites assume.
const TYPES: [(&str, &str); 36] = [
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rss", "application/rss+xml"),
    ("svg", "image/svg+xml"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
];

/// The value of `Content-Type` for a path.
pub(crate) fn content_type<'a>(config: &'a Config, path: &str) -> &'a str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    let known = || TYPES.iter().find(|(own, _)| *own == extension).map(|(_, content_type)| *content_type);
    config.types.get(&extension).map(String::as_str).or_else(known).unwrap_or("application/octet-stream")
}

/// The value of `Cache-Control` for a path.
pub(crate) fn cache_control<'a>(config: &'a Config, path: &str) -> &'a str {
    let rule = config.cache.iter().find(|rule| fast_glob::glob_match(&rule.files, path));
    rule.map_or(REVALIDATE, |rule| &rule.control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_follow_from_the_path() {
        let config: Config = serde_json::from_value(json!({
            "bucket": "www", "credential": "s3", "site": "dist", "types": { "data": "text/x-data" },
            "cache": [{ "files": "assets/**", "control": "a" }, { "files": "*.css", "control": "b" }],
        }))
        .unwrap();
        assert_eq!(content_type(&config, "a/INDEX.HTML"), "text/html; charset=utf-8");
        assert_eq!(content_type(&config, "x.data"), "text/x-data");
        assert_eq!(content_type(&config, "a.b/CNAME"), "application/octet-stream");
        assert_eq!(cache_control(&config, "assets/js/app.css"), "a");
        assert_eq!(cache_control(&config, "site.css"), "b");
        assert_eq!(cache_control(&config, "css/site.css"), REVALIDATE);
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(TYPES.is_sorted_by_key(|(extension, _)| *extension));
    }
}
