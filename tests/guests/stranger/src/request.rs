//! Requests with configured headers and bodies.

use std::collections::BTreeMap;

use stagewright_sdk::{Result, http, secrets};

pub(crate) fn call(
    method: &str,
    url: &str,
    headers: &BTreeMap<String, String>,
    secret_headers: &BTreeMap<String, String>,
) -> Result<String> {
    let mut request = http::Request::new(method, url);
    for (name, value) in headers {
        request.header(name, value);
    }
    for (name, secret) in secret_headers {
        request.secret_header(name, "Bearer ", &secrets::get(secret)?);
    }
    answer(request)
}

pub(crate) fn call_endpoint(credential: &str, path: &str, method: &str, body: &str) -> Result<String> {
    let mut request = http::Request::new(method, &format!("{}{path}", http::endpoint(credential)?));
    match body.strip_prefix('@') {
        Some(file) => request.body_file(file),
        None if body.is_empty() => &mut request,
        None => request.body(body.as_bytes()),
    };
    answer(request)
}

fn answer(mut request: http::Request) -> Result<String> {
    let mut response = request.send()?;
    let echo = response.header("x-echo").unwrap_or_default();
    Ok(format!("{} {echo} {}", response.status(), response.text()?))
}
