//! The login for a registry, in requests to Docker's API.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use super::*;

fn login(registry: &str) -> Arc<dyn RequestSigner> {
    let keys = [("registry", registry), ("username", "ada"), ("password", "p")];
    signer_of("docker-registry", &keys, &[("p", "hunter22")]).unwrap()
}

fn is_added(registry: &str, method: &str, target: &str) -> bool {
    let signed = login(registry).sign(&request(method, &format!("http://localhost{target}"))).unwrap();
    !signed.headers.is_empty()
}

#[test]
fn the_login_is_added_to_pulls_from_its_registry_and_to_nothing_else() {
    for target in [
        "/images/create?fromImage=ghcr.io/acme/app&tag=1",
        "/v1.41/images/create?tag=1&fromImage=ghcr.io%2Facme%2Fapp",
        "/v1.51/images/create?fromImage=ghcr.io/acme/app%40sha256:00",
    ] {
        assert!(is_added("ghcr.io", "POST", target), "{target}");
        assert!(!is_added("ghcr.io", "GET", target), "{target}");
        assert!(!is_added("docker.io", "POST", target), "{target}");
    }
    for target in [
        "/images/create?fromImage=evil.example/ghcr.io/app",
        "/images/create?fromImage=ghcr.io.evil.example/app",
        "/images/create?fromImage=ghcr.io:8443/app",
        "/images/create?fromImage=ghcr.io",
        "/images/create?fromImage=ghcr.io/a&fromImage=evil.example/b",
        "/images/create?fromImage=evil.example/b&fromImage=ghcr.io/a",
        "/images/create?fromImage=ghcr.io/a&from%49mage=evil.example/b",
        "/images/create?fromImage=ghcr.io/a;fromImage=evil.example/b",
        "/images/create?fromimage=ghcr.io/a",
        "/images/create?fromSrc=ghcr.io/a",
        "/images/create",
        "/images/create/?fromImage=ghcr.io/a",
        "/x/images/create?fromImage=ghcr.io/a",
        "/v1/images/create?fromImage=ghcr.io/a",
        "/v1.41/x/images/create?fromImage=ghcr.io/a",
        "/images/ghcr.io/a/push",
        "/auth",
        "/build?fromImage=ghcr.io/a",
    ] {
        assert!(!is_added("ghcr.io", "POST", target), "{target}");
    }
}

#[test]
fn a_form_that_the_engine_would_prefer_to_the_query_gets_no_login() {
    let pull = request("POST", "http://localhost/images/create?fromImage=ghcr.io/a");
    let with_body = RequestToSign { body: BodyDigest::Sha256([0; 32]), ..pull.clone() };
    assert!(login("ghcr.io").covers_content());
    assert_eq!(login("ghcr.io").sign(&pull).unwrap().headers.len(), 1);
    assert_eq!(login("ghcr.io").sign(&with_body).unwrap().headers, []);
}

#[test]
fn names_without_a_registry_are_those_of_docker_hub() {
    for image in ["alpine", "acme/app", "docker.io/acme/app", "index.docker.io/acme/app"] {
        assert!(is_added("docker.io", "POST", &format!("/images/create?fromImage={image}")), "{image}");
    }
    for image in ["ghcr.io/a", "localhost/a", "evil:5000/a", "EVIL/a", "evil.example&tag=5000/x"] {
        assert!(!is_added("docker.io", "POST", &format!("/images/create?fromImage={image}")), "{image}");
    }
}

#[test]
fn the_login_has_the_form_of_dockers_api() {
    let signed = login("ghcr.io").sign(&request("POST", "http://localhost/images/create?fromImage=ghcr.io/a")).unwrap();
    let [(name, value)] = &headers(&signed)[..] else { panic!("one header") };
    assert_eq!(*name, "x-registry-auth");
    let login_in_header: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(value).unwrap()).unwrap();
    let expected = serde_json::json!({ "username": "ada", "password": "hunter22", "serveraddress": "ghcr.io" });
    assert_eq!(login_in_header, expected);
    let confidential = login("ghcr.io").confidential();
    assert!(["hunter22", value].iter().all(|text| confidential.iter().any(|one| one.expose() == *text)));
}
