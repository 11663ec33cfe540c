//! Maps requests to responses, independently of sockets.

use std::sync::{Arc, OnceLock};

use serde_json::json;

use crate::catalog::Catalog;
use crate::request::Request;
use crate::response::Response;

/// Limit in characters for a name.
const NAME_LIMIT: usize = 200;

/// The greeting service.
#[derive(Clone)]
pub(crate) struct Service {
    catalog: Arc<OnceLock<Catalog>>,
}

impl Service {
    /// Ready once the catalog is loaded.
    pub(crate) fn new(catalog: Arc<OnceLock<Catalog>>) -> Service {
        Service { catalog }
    }

    /// Responds to a request.
    pub(crate) fn respond(&self, request: &Request) -> Response {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Response::error(405, format!("{} is not answered here", request.method));
        }
        match request.path.as_str() {
            "/" => self.greet("en", "world"),
            "/greet" => {
                self.greet(request.parameter("lang").unwrap_or("en"), request.parameter("name").unwrap_or("world"))
            }
            "/health" => Response::new(200, json!({ "status": "up" })),
            "/ready" if self.catalog.get().is_some() => Response::new(200, json!({ "status": "ready" })),
            "/ready" => Response::new(503, json!({ "status": "starting" })),
            path => Response::error(404, format!("nothing is at {path}")),
        }
    }

    fn greet(&self, language: &str, name: &str) -> Response {
        let Some(catalog) = self.catalog.get() else { return Response::error(503, "still starting") };
        if name.is_empty() || name.chars().count() > NAME_LIMIT || name.chars().any(char::is_control) {
            return Response::error(400, format!("name must be 1 to {NAME_LIMIT} printable characters"));
        }
        let Some(greeting) = catalog.greeting(language) else {
            let languages: Vec<_> = catalog.languages().collect();
            return Response::error(400, format!("lang must be one of {}", languages.join(", ")));
        };
        let version = env!("CARGO_PKG_VERSION");
        Response::new(200, json!({ "greeting": format!("{greeting}, {name}!"), "version": version }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service::new(Arc::new(OnceLock::from(Catalog::load(None))))
    }

    fn get(path: &str, query: &[(&str, &str)]) -> Request {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { method: "GET".to_owned(), path: path.to_owned(), query }
    }

    #[test]
    fn greets_by_name_and_language() {
        let response = service().respond(&get("/greet", &[("name", "Ana"), ("lang", "pt")]));
        assert_eq!((response.status, &response.body["greeting"]), (200, &json!("Bom dia, Ana!")));
        let response = service().respond(&get("/", &[]));
        assert_eq!(response.body, json!({ "greeting": "Hello, world!", "version": env!("CARGO_PKG_VERSION") }));
    }

    #[test]
    fn refuses_what_it_cannot_greet() {
        let status = |query: &[(&str, &str)]| service().respond(&get("/greet", query)).status;
        assert_eq!(status(&[("name", "")]), 400);
        assert_eq!(status(&[("name", "a\nb")]), 400);
        assert_eq!(status(&[("name", &"x".repeat(NAME_LIMIT))]), 200);
        assert_eq!(status(&[("name", &"x".repeat(NAME_LIMIT + 1))]), 400);
        assert_eq!(status(&[("lang", "xx")]), 400);
    }

    #[test]
    fn is_healthy_before_it_is_ready() {
        let catalog = Arc::new(OnceLock::new());
        let service = Service::new(catalog.clone());
        let status = |path: &str| service.respond(&get(path, &[])).status;
        assert_eq!((status("/health"), status("/ready"), status("/")), (200, 503, 503));
        catalog.set(Catalog::load(None)).unwrap();
        assert_eq!((status("/health"), status("/ready"), status("/")), (200, 200, 200));
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        assert_eq!(service().respond(&get("/favicon.ico", &[])).status, 404);
        let post = Request { method: "POST".to_owned(), ..get("/", &[]) };
        assert_eq!(service().respond(&post).status, 405);
    }
}
